"""Settings from the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import jwt

from todo_api import database_url

ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.IGNORECASE)
MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the service can be told; `.env.example` explains each variable."""

    secret: str = field(repr=False)  # of HS256 tokens, at least 32 bytes in UTF-8
    previous_secret: str = field(repr=False)  # accepted too while that is replaced; "" if there is none
    database_url: str = field(repr=False)  # as libpq takes it
    origins: tuple[str, ...]  # what CORS allows, without trailing slashes; the first is the Better Auth server
    jwks_url: str  # where that server publishes its keys
    issuer: str  # `iss` of tokens signed with those keys
    audience: str  # and their `aud`
    debug: bool
    access_log: bool  # a record of each request
    metrics: bool  # numbers for Prometheus at /metrics
    bind: str  # address and port of the server
    workers: int  # its processes
    pool_size: int  # connections of one worker process
    prepare: str  # statements: "auto" (not behind a transaction pooler), "on" or "off"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read and check all variables.

        Raises:
            SystemExit: one line with every problem, each with the name of its variable, none with a value.
        """
        problems = []

        def read(name: str, parse: Callable[[str], Any], default: str | None = None) -> Any:
            value = env.get(name, "").strip() or default
            try:
                return problems.append(f"{name} is not set") if value is None else value and parse(value)
            except ValueError as error:
                problems.append(f"{name} {error}")

        origins = read("BETTER_AUTH_URL", _origins) or ("http://unknown",)
        port = read("PORT", _number, "")
        config = cls(
            secret=read("BETTER_AUTH_SECRET", _secret),
            previous_secret=read("BETTER_AUTH_SECRET_PREVIOUS", _secret, ""),
            database_url=read("NEON_DATABASE_URL", database_url.normalise),
            origins=origins,
            jwks_url=read("BETTER_AUTH_JWKS_URL", _url, f"{origins[0]}/api/auth/jwks"),
            issuer=read("BETTER_AUTH_ISSUER", str, origins[0]),
            audience=read("BETTER_AUTH_AUDIENCE", str, origins[0]),
            debug=read("DEBUG", _flag, "false"),
            access_log=read("ACCESS_LOG", _flag, "false"),
            metrics=read("METRICS", _flag, "false"),
            bind=f"0.0.0.0:{port}" if port else "127.0.0.1:8000",  # a platform's proxy is elsewhere
            workers=read("WEB_CONCURRENCY", _number, "2"),
            pool_size=read("DB_POOL_SIZE", _number, "8"),
            prepare=read("DB_PREPARE", _one_of("auto", "on", "off"), "auto"),
        )
        if problems:
            raise SystemExit(f"todo_api cannot start: {'; '.join(problems)}")
        return config


def _secret(value: str) -> str:
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"is shorter than {MIN_SECRET_BYTES} bytes")
    try:
        jwt.encode({}, value, "HS256")
    except jwt.InvalidKeyError:
        raise ValueError("is a PEM, SSH or JSON web key, not a shared secret") from None
    return value


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().rstrip("/").lower() for origin in value.split(","))
    if not all(map(ORIGIN.fullmatch, origins)):
        raise ValueError("must be one or more origins like https://app.example.com, comma-separated, without a path")
    return tuple(origin.removesuffix(":443" if origin.startswith("https:") else ":80") for origin in origins)


def _url(value: str) -> str:
    if not value.isascii() or not re.match(r"https?://[^/\s]+/", value):
        raise ValueError("must be an http:// or https:// URL with a path")
    return value


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return value.lower()

    return parse


def _flag(value: str) -> bool:
    return _one_of("true", "false", "1", "0")(value) in ("true", "1")


def _number(value: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,4}", value) or int(value) > 65535:
        raise ValueError("must be a whole number from 1 to 65535")
    return int(value)
