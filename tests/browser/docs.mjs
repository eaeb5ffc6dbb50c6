// Uses the page at /docs as a person would, and prints what came of it as one line of JSON.

import { chromium } from "playwright-core";

const [executablePath, docs, screenshot, token, userId, title] = process.argv.slice(2);

const alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1";
const args = ["--disable-gpu", "--disable-quic", "--disable-sync", alone];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage({ viewport: { width: 1200, height: 1000 } });
page.setDefaultTimeout(20_000); // milliseconds

const requests = [];
const problems = [];
page.on("request", (request) => requests.push(request.url()));
page.on("pageerror", (error) => problems.push(String(error)));
page.on("console", (message) => message.type() === "error" && problems.push(message.text()));

/** Fill in an operation, click Execute, and read the answer off the page. */
async function execute(operationId, body) {
  const operation = page.locator(`.opblock[id$="-${operationId}"]`);
  await operation.locator(".opblock-summary-control").click();
  await operation.locator('tr[data-param-name="user_id"] input').fill(userId);
  if (body) await operation.locator(".body-param__text").fill(JSON.stringify(body));
  await operation.getByRole("button", { name: "Execute" }).click();
  const answer = operation.locator(".live-responses-table .response");
  const shown = answer.locator(".highlight-code pre").first();
  await shown.evaluate((element) => element.scrollIntoView({ block: "center" }));
  return { status: (await answer.locator(".response-col_status").innerText()).trim(), body: await shown.innerText() };
}

try {
  await page.goto(docs);
  await page.getByRole("button", { name: "Authorize" }).click();
  const dialog = page.locator(".modal-ux");
  await dialog.locator("input").fill(token);
  await dialog.getByRole("button", { name: "Apply credentials" }).click();
  await dialog.locator(".close-modal").click();
  const created = await execute("create_task", { title });
  const listed = await execute("list_tasks");
  console.log(JSON.stringify({ created, listed, requests, problems }));
} finally {
  await page.screenshot({ path: screenshot });
  await browser.close();
}
