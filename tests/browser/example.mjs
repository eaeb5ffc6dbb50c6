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

/** Connect, and return the error that the page shows. */
async function refused(address, text) {
  await page.getByLabel("Address of the API").fill(address);
  await page.getByLabel("Token").fill(text);
  await page.getByRole("button", { name: "Connect" }).click();
  await alert.filter({ hasText: /./ }).waitFor();
  return alert.innerText();
}

/** Change the first task, wait for the error that contains this text, and return it. */
async function fails(text, action) {
  await action(items.first());
  await alert.filter({ hasText: text }).waitFor();
  return alert.innerText();
}

const elsewhere = (method, id, body) => fetch(`${tasks}/${id}`, { method, headers, body: body && JSON.stringify(body) });
const rename = (title) => async (item) => {
  await item.getByLabel("Title").fill(title);
  await page.keyboard.press("Tab");
};
const toggle = (item) => item.getByLabel("Done").click();
const firstTitle = async () => (await titles())[0];

try {
  await page.goto(url);
  const noAddress = await refused(api.replace("http://", ""), token);
  const noToken = await refused(api, "alice");
  const noUser = await refused(api, `e30.${btoa("{}")}.`);
  await page.getByLabel("Address of the API").fill(api);
  await page.getByLabel("Token").fill(` TOKEN=${token} `);
  await page.getByRole("button", { name: "Connect" }).dblclick();
  await items.nth(9).waitFor();
  const first = await titles();

  await page.getByLabel("New task").fill("Added later");
  await page.getByRole("button", { name: "Add" }).click();
  await page.getByRole("status").filter({ hasText: /./ }).waitFor();
  const later = [await page.getByRole("status").innerText(), await items.count()];
  await page.getByRole("button", { name: "More" }).dblclick();
  await items.nth(19).waitFor();
  const second = await titles();
  await page.getByRole("button", { name: "More" }).click();
  await items.nth(25).waitFor();
  const all = await titles();

  await page.getByLabel("New task").fill("Buy milk");
  await page.getByRole("button", { name: "Add" }).dblclick();
  await items.nth(26).waitFor();
  const added = await titles();

  const toggled = await sends("PATCH", () => toggle(items.nth(26)));
  const edited = await sends("PUT", () => rename("Buy rye")(items.nth(26)));

  const ids = (await (await fetch(tasks, { headers })).json()).map(({ id }) => id);
  await elsewhere("PUT", ids[0], { title: "Theirs" });
  const conflict = [await fails("Somebody", rename("Mine")), await firstTitle()];
  const blank = [await fails("title: ", rename(" ")), await firstTitle()];

  await page.getByLabel("New task").fill(" ");
  await page.getByRole("button", { name: "Add" }).click();
  await alert.filter({ hasText: "title" }).waitFor();
  const invalid = await alert.innerText();

  await elsewhere("PUT", ids[0], { title: "Theirs again" });
  const failure = { status: 500, headers: { "Access-Control-Allow-Origin": "*" }, json: { detail: "Internal server error" } };
  await page.route(/complete/, (route) => (route.request().method() === "PATCH" ? route.fulfill(failure) : route.continue()));
  const failed = [await fails("Internal", toggle), await firstTitle(), await items.first().getByLabel("Done").isChecked()];
  await page.unroute(/complete/);

  await page.route(/tasks/, (route) => route.abort());
  const offline = [await fails("No response", rename("Offline")), await firstTitle()];
  await page.unroute(/tasks/);

  const deleted = await sends("DELETE", () => items.first().getByRole("button", { name: "Delete" }).click());
  await items.nth(26).waitFor({ state: "detached" });
  await elsewhere("DELETE", ids[1]);
  const gone = [await fails("not found", toggle), await items.count()];
  await elsewhere("DELETE", ids[2]);
  const deletedTwice = [await sends("DELETE", () => items.first().getByRole("button", { name: "Delete" }).click())];
  await items.nth(24).waitFor({ state: "detached" });
  deletedTwice.push(await alert.innerText(), await items.count());
  const left = await (await fetch(tasks, { headers })).json();
  const refusals = { noAddress, noToken, noUser };
  const changes = { toggled, edited, conflict, blank, invalid, failed, offline, deleted, gone, deletedTwice };
  console.log(JSON.stringify({ ...refusals, first, later, second, all, added, ...changes, left, problems }));
} finally {
  await page.screenshot({ path: screenshot });
  await browser.close();
}
