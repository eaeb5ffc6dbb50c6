"""The same API as FastAPI users would write it, but tuned: one statement per operation, in autocommit, prepared by asyncpg."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import BigInteger, DateTime
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

engine = create_async_engine(
    os.environ["NEON_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1).replace("sslmode=", "ssl="),
    pool_size=10,
    max_overflow=0,
    isolation_level="AUTOCOMMIT",
)
bearer = HTTPBearer(auto_error=False)


def now() -> datetime:
    return datetime.now(UTC)


class TaskNew(SQLModel):
    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    completed: bool = False


class TaskChange(SQLModel):
    title: str | None = Field(default=None, min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    completed: bool | None = None


class TaskOut(TaskNew):
    id: int
    user_id: str
    created_at: datetime
    updated_at: datetime


class Task(TaskNew, table=True):
    __tablename__ = "tasks"
    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    user_id: str
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


async def open_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


async def owner(user_id: str, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
    if credentials is None:
        raise HTTPException(401, "Missing authorization token", {"WWW-Authenticate": "Bearer"})
    try:
        claims = jwt.decode(credentials.credentials, os.environ["BETTER_AUTH_SECRET"], ["HS256"])
    except jwt.PyJWTError:
        raise HTTPException(401, "Invalid or malformed token", {"WWW-Authenticate": "Bearer"}) from None
    if claims["sub"] != user_id:
        raise HTTPException(403, "Access forbidden: user_id mismatch")
    return user_id


Session = Annotated[AsyncSession, Depends(open_session)]
Owner = Annotated[str, Depends(owner)]
app = FastAPI()
app.add_middleware(
    CORSMiddleware,
    allow_origins=[os.environ["BETTER_AUTH_URL"]],
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)


def found(task: Task | None) -> Task:
    if task is None:
        raise HTTPException(404, "Task not found")
    return task


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "healthy", "timestamp": now().isoformat()}


@app.post("/api/{user_id}/tasks", status_code=201, response_model=TaskOut)
async def create_task(new: TaskNew, session: Session, owner: Owner) -> Task:
    task = Task(**new.model_dump(), user_id=owner)
    session.add(task)
    await session.commit()
    return task


@app.get("/api/{user_id}/tasks", response_model=list[TaskOut])
async def list_tasks(session: Session, owner: Owner) -> list[Task]:
    return (await session.exec(select(Task).where(Task.user_id == owner).order_by(Task.id))).all()


@app.get("/api/{user_id}/tasks/{task_id}", response_model=TaskOut)
async def get_task(task_id: int, session: Session, owner: Owner) -> Task:
    return found((await session.exec(select(Task).where(Task.id == task_id, Task.user_id == owner))).one_or_none())


@app.put("/api/{user_id}/tasks/{task_id}", response_model=TaskOut)
async def update_task(task_id: int, change: TaskChange, session: Session, owner: Owner) -> Task:
    values = change.model_dump(exclude_unset=True)
    mine = update(Task).where(Task.id == task_id, Task.user_id == owner)
    return found((await session.exec(mine.values(**values, updated_at=now()).returning(Task))).scalar_one_or_none())


@app.patch("/api/{user_id}/tasks/{task_id}/complete", response_model=TaskOut)
async def toggle_task(task_id: int, session: Session, owner: Owner) -> Task:
    mine = update(Task).where(Task.id == task_id, Task.user_id == owner)
    return found(
        (await session.exec(mine.values(completed=~Task.completed, updated_at=now()).returning(Task))).scalar_one_or_none()
    )


@app.delete("/api/{user_id}/tasks/{task_id}", status_code=204)
async def delete_task(task_id: int, session: Session, owner: Owner) -> None:
    if not (await session.exec(delete(Task).where(Task.id == task_id, Task.user_id == owner))).rowcount:
        raise HTTPException(404, "Task not found")
