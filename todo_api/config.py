"""Settings from the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self

import jwt

from todo_api import database_url

ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.IGNORECASE)
MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2


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


def _everywhere(port: str) -> str:
    return f"0.0.0.0:{_number(port)}"  # a platform's proxy is elsewhere


def _number(value: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,4}", value) or int(value) > 65535:
        raise ValueError("must be a whole number from 1 to 65535")
    return int(value)


def setting(variable: str, parse: Callable[[str], Any], default: Any = MISSING, *, secret: bool = False) -> Any:
    """A field that is read from the environment; one without a default must be there."""
    return field(default=default, repr=not secret, metadata={"variable": variable, "parse": parse})


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the service can be told; `.env.example` explains each variable."""

    # Of HS256 tokens, at least 32 bytes in UTF-8; and what is accepted too while it is replaced.
    secret: str = setting("BETTER_AUTH_SECRET", _secret, secret=True)
    previous_secret: str = setting("BETTER_AUTH_SECRET_PREVIOUS", _secret, "", secret=True)
    database_url: str = setting("NEON_DATABASE_URL", database_url.normalise, secret=True)  # as libpq takes it
    # What CORS allows, without trailing slashes. The first is the Better Auth server, where the next three come from by default:
    # the place of its published keys, and `iss` and `aud` of tokens signed with those.
    origins: tuple[str, ...] = setting("BETTER_AUTH_URL", _origins)
    jwks_url: str = setting("BETTER_AUTH_JWKS_URL", _url, "")
    issuer: str = setting("BETTER_AUTH_ISSUER", str, "")
    audience: str = setting("BETTER_AUTH_AUDIENCE", str, "")
    allow_localhost: bool = setting(
        "CORS_ALLOW_LOCALHOST", _flag, False
    )  # for development: every port of localhost and 127.0.0.1
    debug: bool = setting("DEBUG", _flag, False)
    log_level: str = setting("LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "")  # by default info; with DEBUG, debug
    access_log: bool = setting("ACCESS_LOG", _flag, False)  # a record of each request
    metrics: bool = setting("METRICS", _flag, False)  # numbers for Prometheus at /metrics
    bind: str = setting("PORT", _everywhere, "127.0.0.1:8000")  # address and port of the server
    workers: int = setting("WEB_CONCURRENCY", _number, 2)  # its processes
    pool_size: int = setting("DB_POOL_SIZE", _number, 8)  # connections of one worker process
    # Statements: "auto" (not behind a transaction pooler), "on" or "off"
    prepare: str = setting("DB_PREPARE", _one_of("auto", "on", "off"), "auto")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read and check all variables.

        Raises:
            SystemExit: one line with every problem, each with the name of its variable, none with a value.
        """
        values: dict[str, Any] = {}
        problems = []
        for each in fields(cls):
            variable = each.metadata["variable"]
            try:
                if given := env.get(variable, "").strip():
                    values[each.name] = each.metadata["parse"](given)
                elif each.default is MISSING:
                    problems.append(f"{variable} is not set")
            except ValueError as error:
                problems.append(f"{variable} {error}")
        if problems:
            raise SystemExit(f"todo_api cannot start: {'; '.join(problems)}")
        origin = values["origins"][0]
        return cls(**{"jwks_url": f"{origin}/api/auth/jwks", "issuer": origin, "audience": origin, **values})
