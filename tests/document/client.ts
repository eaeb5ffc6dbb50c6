// Calls of a frontend, with the types that openapi-typescript generates from openapi.json. The test is that this compiles.

import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Schemas = components["schemas"];

const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });

export async function create(user_id: string, title: string): Promise<Schemas["Task"]> {
  const { data, error } = await client.POST("/api/{user_id}/tasks", {
    params: { path: { user_id }, header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { title },
  });
  if (error) throw new Error(readable(error));
  return data;
}

export async function search(user_id: string): Promise<string[]> {
  const query = { status: "pending", search: "milk", sort: "updated", order: "desc", limit: 20, offset: 40 } as const;
  const { data, error, response } = await client.GET("/api/{user_id}/tasks", { params: { path: { user_id }, query } });
  if (error) throw new Error(readable(error));
  const next: string | null = response.headers.get("Link");
  return [...data.map((task) => `${task.id} ${task.title.trim()} ${task.description?.length ?? 0}`), next ?? "the end"];
}

export async function change(task: Schemas["Task"], tag: string): Promise<Schemas["Task"] | "changed since" | "gone"> {
  const params = { path: { user_id: task.user_id, task_id: task.id }, header: { "If-Match": tag } };
  const path = "/api/{user_id}/tasks/{task_id}";
  const { data, error, response } = await client.PUT(path, { params, body: { ...task, description: null } });
  if (response.status === 412) return "changed since";
  if (response.status === 404) return "gone";
  if (error) throw new Error(readable(error));
  const toggled = await client.PATCH(`${path}/complete`, { params: { path: params.path } });
  await client.PATCH(`${path}/complete`, { params: { path: params.path }, body: { completed: true } });
  await client.DELETE(path, { params });
  return toggled.data ?? data;
}

/** Format an error. Errors have one of two shapes, which differ in the type of `detail`. */
function readable(error: Schemas["Error"] | Schemas["ValidationError"]): string {
  const { detail } = error;
  return typeof detail === "string" ? detail : detail.map(({ loc, msg }) => `${loc.join(".")}: ${msg}`).join("\n");
}

/** Calls that the document forbids must not compile. */
export async function mistakes(user_id: string): Promise<void> {
  const params = { path: { user_id } };
  // @ts-expect-error: a title is required
  await client.POST("/api/{user_id}/tasks", { params, body: { description: "milk" } });
  // @ts-expect-error: a title must not be null
  await client.POST("/api/{user_id}/tasks", { params, body: { title: null } });
  // @ts-expect-error: there is no such status
  await client.GET("/api/{user_id}/tasks", { params: { ...params, query: { status: "done" } } });
  // @ts-expect-error: the path needs a user
  await client.GET("/api/{user_id}/tasks", {});
  const { data } = await client.GET("/api/{user_id}/tasks", { params });
  // @ts-expect-error: there is no data if the request failed
  data.length;
  // @ts-expect-error: the list is an array, not an object
  data?.tasks;
}
