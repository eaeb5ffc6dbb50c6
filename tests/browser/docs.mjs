// Uses the page at /docs as a person would, and prints what the page showed as one line of JSON.

import { chromium } from "playwright-core";

const [executablePath, root, folder, token, userId, title] = process.argv.slice(2);

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

/** Fill in an operation, click Execute, and return the response that the page shows. */
async function execute(operationId, parameters = {}, body) {
  const operation = page.locator(`.opblock[id$="-${operationId}"]`);
  await operation.locator(".opblock-summary-control").click();
  const parameter = operation.locator("tr[data-param-name]").first();
  const first = [await parameter.getAttribute("data-param-name"), await parameter.locator("input").inputValue()];
  const { height } = await operation.boundingBox();
  for (const [name, value] of Object.entries({ user_id: userId, ...parameters })) {
    await operation.locator(`tr[data-param-name="${name}"] input`).fill(String(value));
  }
  if (body) await operation.locator(".body-param__text").fill(JSON.stringify(body));
  await operation.getByRole("button", { name: "Execute" }).click();
  const response = operation.locator(".live-responses-table .response");
  const status = (await response.locator(".response-col_status").innerText()).trim().split(/\s/)[0];
  const shown = status === "204" ? null : await response.locator(".highlight-code pre").first().innerText();
  await operation.screenshot({ path: `${folder}/docs-${operationId}.png` });
  await operation.locator(".opblock-summary-control").click();
  return { status, body: shown && JSON.parse(shown), first, height };
}

try {
  await page.goto(root);
  await page.getByRole("button", { name: "Authorize" }).click();
  const dialog = page.locator(".modal-ux");
  const hint = await dialog.innerText();
  await page.screenshot({ path: `${folder}/docs-authorize.png` });
  await dialog.locator("input").fill(token);
  await dialog.getByRole("button", { name: "Apply credentials" }).click();
  await dialog.locator(".close-modal").click();
  await page.screenshot({ path: `${folder}/docs.png` });
  const topBars = await page.locator(".topbar").count();
  const created = await execute("create_task", {}, { title });
  const listed = await execute("list_tasks");
  const toggled = await execute("toggle_task", { task_id: created.body.id }, {});
  const deleted = await execute("delete_task", { task_id: created.body.id });
  console.log(JSON.stringify({ address: page.url().split("#")[0], topBars, hint, created, listed, toggled, deleted, requests, problems }));
} finally {
  await page.screenshot({ path: `${folder}/docs-end.png` });
  await browser.close();
}
