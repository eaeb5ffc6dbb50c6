// Uses examples/todo.html as a person would, and prints what the page showed as one line of JSON.

import { chromium } from "playwright-core";

const [executablePath, url, screenshot, api, user, token] = process.argv.slice(2);

const args = ["--disable-gpu", "--disable-quic", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage({ viewport: { width: 800, height: 900 } });
page.setDefaultTimeout(20_000); // milliseconds
const problems = [];
page.on("pageerror", (error) => problems.push(String(error)));

const items = page.locator("li");
const titles = () => items.getByLabel("Title").evaluateAll((inputs) => inputs.map((input) => input.value));
const alert = page.getByRole("alert");
const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
const tasks = `${api}/api/${user}/tasks`;

/** Do something that sends a request, and wait for its response. */
async function sends(method, action) {
  const response = page.waitForResponse((response) => response.request().method() === method);
  await action();
  return (await response).status();
}

try {
  await page.goto(url);
  await page.getByLabel("Address of the API").fill(api);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Connect" }).click();
  await items.nth(9).waitFor();
  const first = await titles();
  await page.getByRole("button", { name: "More" }).click();
  await items.nth(11).waitFor();
  const all = await titles();

  await page.getByLabel("New task").fill("Buy milk");
  await page.getByRole("button", { name: "Add" }).click();
  await items.nth(12).waitFor();
  const added = (await titles()).at(-1);

  const toggled = await sends("PATCH", () => items.nth(12).getByLabel("Done").click());
  const edited = await sends("PUT", async () => {
    await items.nth(12).getByLabel("Title").fill("Buy rye");
    await page.keyboard.press("Tab");
  });

  const [{ id }] = await (await fetch(tasks, { headers })).json();
  await fetch(`${tasks}/${id}`, { method: "PUT", headers, body: JSON.stringify({ title: "Theirs" }) });
  await items.first().getByLabel("Title").fill("Mine");
  await page.keyboard.press("Tab");
  await alert.filter({ hasText: "Somebody" }).waitFor();
  const conflict = [await alert.innerText(), (await titles())[0]];

  await page.getByLabel("New task").fill(" ");
  await page.getByRole("button", { name: "Add" }).click();
  await alert.filter({ hasText: "title" }).waitFor();
  const invalid = await alert.innerText();

  const deleted = await sends("DELETE", () => items.first().getByRole("button", { name: "Delete" }).click());
  await items.nth(12).waitFor({ state: "detached" });
  const left = await (await fetch(tasks, { headers })).json();
  console.log(JSON.stringify({ first, all, added, toggled, edited, conflict, invalid, deleted, left, problems }));
} finally {
  await page.screenshot({ path: screenshot });
  await browser.close();
}
