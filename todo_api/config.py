"""Settings from the environment and from `.env`."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import jwt
from dotenv import dotenv_values

from todo_api import database_url

Parse = Callable[[str], Any]  # raises ValueError with what is wrong
HOST = re.compile(r"[\w:-]+(\.[\w:-]+)*\.?", re.ASCII)  # with a `:` for IPv6, and without empty labels
ENV_FILE = Path(__file__).resolve().parent.parent / ".env"


def _secret(value: str) -> str:
    if len(value.encode()) < 32:  # RFC 7518, section 3.2
        raise ValueError("is shorter than 32 bytes")
    try:
        jwt.encode({}, value, "HS256")
    except jwt.InvalidKeyError:
        raise ValueError("is a PEM, SSH or JSON web key, not a shared secret") from None
    return value


def _parse_http_url(url: str) -> SplitResult | None:
    """Parse an http:// or https:// URL. None if it is malformed or contains a user name, a password or a space."""
    if not re.fullmatch("[!-~]+", url):  # urlsplit would drop tabs and line breaks
        return None
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return None
    return parts if valid and HOST.fullmatch(parts.hostname or "") else None


def _origins(value: str) -> tuple[str, ...]:
    origins = [origin.strip().rstrip("/").lower() for origin in value.split(",")]
    for origin in origins:
        url = _parse_http_url(origin)
        if url is None or origin != f"{url.scheme}://{url.netloc}":
            raise ValueError("must be one or more origins like https://app.example.com, comma-separated, without a path")
    return tuple(origin.removesuffix(":443" if origin.startswith("https:") else ":80") for origin in origins)


def _url(value: str) -> str:
    url = _parse_http_url(value)
    if url is None or not url.path:
        raise ValueError("must be an http:// or https:// URL with a host and a path, without a user name, password or space")
    return value


def _one_of(value: str, *allowed: str) -> str:
    if value.lower() not in allowed:
        raise ValueError(f"must be {' or '.join(allowed)}")
    return value.lower()


def _flag(value: str) -> bool:
    return _one_of(value, "true", "false", "1", "0") in ("true", "1")


def _number(value: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,4}", value) or int(value) > 65535:
        raise ValueError("must be a whole number from 1 to 65535")
    return int(value)


def setting(variable: str, parse: Parse, default: Any = MISSING, *, secret: bool = False, strip: bool = True) -> Any:
    """A field that is read from this environment variable. If it has no default, it is required. repr() leaves a secret out."""
    return field(default=default, repr=not secret, metadata={"variable": variable, "parse": parse, "strip": strip})


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings. `.env.example` explains each variable."""

    # The key of HS256 tokens, and the key before it, whose tokens stay valid. Better Auth does not strip its secret either.
    secret: str = setting("BETTER_AUTH_SECRET", _secret, secret=True, strip=False)
    previous_secret: str = setting("BETTER_AUTH_SECRET_PREVIOUS", _secret, "", secret=True, strip=False)
    database_url: str = setting("NEON_DATABASE_URL", database_url.normalise, secret=True)  # in libpq's form
    origins: tuple[str, ...] = setting("BETTER_AUTH_URL", _origins)  # allowed by CORS; the first is the Better Auth server
    jwks_url: str = setting("BETTER_AUTH_JWKS_URL", _url, "")  # default: the first origin + /api/auth/jwks
    issuer: str = setting("BETTER_AUTH_ISSUER", str, "")  # default: the first origin
    audience: str = setting("BETTER_AUTH_AUDIENCE", str, "")  # default: the first origin
    # For development: allow every port of localhost and 127.0.0.1
    allow_localhost: bool = setting("CORS_ALLOW_LOCALHOST", _flag, False)
    debug: bool = setting("DEBUG", _flag, False)
    log_level: str = setting("LOG_LEVEL", lambda value: _one_of(value, "debug", "info", "warning", "error"), "")
    access_log: bool = setting("ACCESS_LOG", _flag, False)  # one log record for each request
    metrics: bool = setting("METRICS", _flag, False)  # for Prometheus, at /metrics
    # If PORT is set, a platform's proxy connects from another host, so listen on all interfaces.
    bind: str = setting("PORT", lambda port: f"0.0.0.0:{_number(port)}", "127.0.0.1:8000")
    workers: int = setting("WEB_CONCURRENCY", _number, 2)  # processes
    pool_size: int = setting("DB_POOL_SIZE", _number, 8)  # connections of each worker process
    prepare: str = setting("DB_PREPARE", lambda value: _one_of(value, "auto", "on", "off"), "auto")  # prepared statements

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment and from `.env`. The environment takes precedence.

        Raises:
            SystemExit: one line that names `.env` if it cannot be read, and otherwise as in `from_env`.
        """
        try:
            file = dotenv_values(ENV_FILE, encoding="utf-8-sig")  # Windows editors add a byte order mark
            variables = {name: value or "" for name, value in file.items()}
            if any("\0" in value for value in variables.values()):  # as in the environment, which cannot hold it
                raise ValueError
        except (OSError, ValueError) as error:
            raise SystemExit(f"todo_api cannot read .env: {type(error).__name__}") from None
        return cls.from_env(variables | os.environ)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read and check all variables.

        Raises:
            SystemExit: one line that names every variable with a problem, and never contains a value.
        """
        values: dict[str, Any] = {}
        problems = []
        for each in fields(cls):
            variable = each.metadata["variable"]
            value = env.get(variable, "")
            try:
                if value.strip():
                    values[each.name] = each.metadata["parse"](value.strip() if each.metadata["strip"] else value)
                elif each.default is MISSING:
                    problems.append(f"{variable} is not set")
            except UnicodeError:  # its text would show a part of the value
                problems.append(f"{variable} is not valid UTF-8")
            except ValueError as error:
                problems.append(f"{variable} {error}")
        if problems:
            raise SystemExit(f"todo_api cannot start: {'; '.join(problems)}")
        origin = values["origins"][0]
        defaults = {"jwks_url": f"{origin}/api/auth/jwks", "issuer": origin, "audience": origin}
        return cls(**(defaults | values))
