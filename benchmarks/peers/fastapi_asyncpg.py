"""The same API with FastAPI and plain asyncpg, without ORM and response models. This is about as fast as FastAPI gets.

It has no ETags, idempotency keys, request ids, logs or time limits. Pydantic validates bodies, orjson writes responses, and
verified tokens are cached until they expire.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import asyncpg
import jwt
import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, Field, ValidationError

COLUMNS = "id, user_id, title, description, completed, created_at, updated_at"
CREATE = f"INSERT INTO tasks (user_id, title, description, completed) VALUES ($1, $2, $3, $4) RETURNING {COLUMNS}"
LIST = f"SELECT {COLUMNS} FROM tasks WHERE user_id = $1 ORDER BY id"
GET = f"SELECT {COLUMNS} FROM tasks WHERE user_id = $1 AND id = $2"
UPDATE = f"""
UPDATE tasks SET
    title = coalesce($3, title),
    description = CASE WHEN $4 THEN $5 ELSE description END,
    completed = coalesce($6, completed),
    updated_at = now()
WHERE user_id = $1 AND id = $2
RETURNING {COLUMNS}
"""
TOGGLE = f"UPDATE tasks SET completed = NOT completed, updated_at = now() WHERE user_id = $1 AND id = $2 RETURNING {COLUMNS}"
DELETE = "DELETE FROM tasks WHERE user_id = $1 AND id = $2 RETURNING id"
SECRET = os.environ["BETTER_AUTH_SECRET"]
TOKENS_KEPT = 10_000
verified: dict[str, tuple[str, float]] = {}  # by Authorization header: the user and the expiry time

Model = TypeVar("Model", bound=BaseModel)
Title = Annotated[str, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=1000)]


class NewTask(BaseModel):
    title: Title
    description: Description | None = None
    completed: bool = False


class TaskChange(BaseModel):
    title: Title | None = None
    description: Description | None = None
    completed: bool | None = None


async def keep_session(_: asyncpg.Connection) -> None:
    """Do nothing. By default asyncpg resets the session after each use, which costs a round trip. Nothing here changes it."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = {"timezone": "UTC", "plan_cache_mode": "force_generic_plan"}
    async with asyncpg.create_pool(
        os.environ["NEON_DATABASE_URL"], min_size=10, max_size=10, reset=keep_session, server_settings=settings
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(
    CORSMiddleware,
    allow_origins=[os.environ["BETTER_AUTH_URL"]],
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)


def user_of(header: str) -> str:
    """Return the user of an Authorization header. Raise HTTPException 401 if its token is not valid."""
    user_id, expires = verified.get(header, ("", 0.0))
    if time.time() < expires:
        return user_id
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401, "Missing authorization token", {"WWW-Authenticate": "Bearer"})
    try:
        claims = jwt.decode(token, SECRET, ["HS256"], options={"require": ["exp", "sub"]})
    except jwt.PyJWTError:
        raise HTTPException(401, "Invalid or malformed token", {"WWW-Authenticate": "Bearer"}) from None
    if len(verified) >= TOKENS_KEPT:
        verified.clear()
    verified[header] = claims["sub"], claims["exp"]
    return str(claims["sub"])


def check_owner(request: Request, user_id: str) -> None:
    if user_of(request.headers.get("Authorization", "")) != user_id:
        raise HTTPException(403, "Access forbidden: user_id mismatch")


def json_response(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def read(request: Request, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(422, error.errors(include_url=False, include_context=False, include_input=False)) from None


async def one_task(query: str, *values: Any, status: int = 200) -> Response:
    """Return a response with the task that the statement returns. Raise HTTPException 404 if it returns none."""
    row = await app.state.pool.fetchrow(query, *values)
    if row is None:
        raise HTTPException(404, "Task not found")
    return json_response(dict(row), status)


@app.get("/health")
async def health() -> Response:
    return json_response({"status": "healthy", "timestamp": datetime.now(UTC)})


@app.post("/api/{user_id}/tasks")
async def create_task(request: Request, user_id: str) -> Response:
    check_owner(request, user_id)
    new = await read(request, NewTask)
    return await one_task(CREATE, user_id, new.title, new.description, new.completed, status=201)


@app.get("/api/{user_id}/tasks")
async def list_tasks(request: Request, user_id: str) -> Response:
    check_owner(request, user_id)
    return json_response([dict(row) for row in await app.state.pool.fetch(LIST, user_id)])


@app.get("/api/{user_id}/tasks/{task_id}")
async def get_task(request: Request, user_id: str, task_id: int) -> Response:
    check_owner(request, user_id)
    return await one_task(GET, user_id, task_id)


@app.put("/api/{user_id}/tasks/{task_id}")
async def update_task(request: Request, user_id: str, task_id: int) -> Response:
    check_owner(request, user_id)
    change = await read(request, TaskChange)
    clears_or_sets = "description" in change.model_fields_set
    return await one_task(UPDATE, user_id, task_id, change.title, clears_or_sets, change.description, change.completed)


@app.patch("/api/{user_id}/tasks/{task_id}/complete")
async def toggle_task(request: Request, user_id: str, task_id: int) -> Response:
    check_owner(request, user_id)
    return await one_task(TOGGLE, user_id, task_id)


@app.delete("/api/{user_id}/tasks/{task_id}")
async def delete_task(request: Request, user_id: str, task_id: int) -> Response:
    check_owner(request, user_id)
    await one_task(DELETE, user_id, task_id)
    return Response(status_code=204)
