// Runs the README's fetch helper against the service, and prints what it returned as one line of JSON.

import http from "node:http"

const [module, api, user, token] = process.argv.slice(2)
const { list, send, session, tasksPath } = await import(module)

/** A proxy that forwards the first request but returns a 503 instead of the response. It drops the second connection. */
let requests = 0
const proxy = http.createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray())
  requests += 1
  if (requests === 2) return request.socket.destroy()
  const { authorization, "idempotency-key": key, "content-type": type } = request.headers
  const headers = { authorization, "idempotency-key": key, "content-type": type }
  const answer = await fetch(api + request.url, { method: request.method, headers, body })
  if (requests === 1) response.writeHead(503, { "Retry-After": "0" }).end()
  else response.writeHead(answer.status, { "Content-Type": "application/json" }).end(await answer.text())
})
await new Promise((done) => proxy.listen(0, "127.0.0.1", done))

const { port } = proxy.address()
Object.assign(session, { api: `http://127.0.0.1:${port}`, user, token })
const retried = await (await send("POST", tasksPath(), { title: "Retried" })).json()
proxy.close()

session.api = api
const failure = async (action) => action.then(() => null, ({ message, status }) => ({ message, status }))
const created = [retried]
for (let number = 1; number < 5; number++) created.push(await (await send("POST", tasksPath(), { title: `${number}` })).json())
const pages = []
for (let page = await list(`${tasksPath()}?limit=2`); page; page = page.next && (await list(page.next))) pages.push(page.tasks)
const stale = { "If-Match": `"${retried.updated_at}"` }
const fresh = await (await send("PUT", tasksPath(retried.id), { title: "Changed" }, stale)).json()
const conflict = await failure(send("PUT", tasksPath(retried.id), { title: "Lost" }, stale))
const invalid = await failure(send("POST", tasksPath(), { title: "", completed: 1 }))
const missing = await failure(send("GET", tasksPath(2 ** 52)))
session.token = ""
const unauthorized = await failure(send("GET", tasksPath()))
session.api = `http://127.0.0.1:${port}` // the port of the closed proxy
const lost = await failure(send("GET", tasksPath()))
console.log(JSON.stringify({ requests, created, pages, fresh, conflict, invalid, missing, unauthorized, lost, port }))
