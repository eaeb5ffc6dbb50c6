import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.support.client import SECRET
from todo_api.config import Config
from todo_api.database_url import normalise

GOOD = {"BETTER_AUTH_SECRET": SECRET, "NEON_DATABASE_URL": "postgresql://u:p@h/db", "BETTER_AUTH_URL": "http://localhost:3000"}


def message(**env: str) -> str:
    with pytest.raises(SystemExit) as ended:
        Config.from_env({**GOOD, **env})
    assert "\n" not in str(ended.value)
    return str(ended.value)


def test_it_works() -> None:
    config = Config.from_env(GOOD)
    assert config.origins == ("http://localhost:3000",)
    assert config.jwks_url == "http://localhost:3000/api/auth/jwks"
    assert (config.issuer, config.audience) == ("http://localhost:3000", "http://localhost:3000")
    assert (config.debug, config.access_log, config.metrics) == (False, False, False)


def test_env_example_names_every_variable() -> None:
    example = Path(__file__).parents[1].joinpath(".env.example").read_text()
    assert sorted(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)) == sorted(
        each.metadata["variable"] for each in fields(Config)
    )


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", ["", "   "])
def test_a_missing_variable_is_named(name: str, value: str) -> None:
    assert message(**{name: value}) == f"todo_api cannot start: {name} is not set"


def test_all_problems_are_named_at_once() -> None:
    text = message(BETTER_AUTH_SECRET="short", NEON_DATABASE_URL="mysql://u:hunter2@h/db", BETTER_AUTH_URL="", DEBUG="maybe")
    assert all(name in text for name in ("BETTER_AUTH_SECRET", "NEON_DATABASE_URL", "BETTER_AUTH_URL", "DEBUG"))
    assert "hunter2" not in text
    assert "short " not in text
    assert "JWKS" not in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BETTER_AUTH_SECRET", "x" * 31, "shorter than 32 bytes"),
        ("BETTER_AUTH_SECRET", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYI\n-----END PUBLIC KEY-----", "PEM"),
        ("BETTER_AUTH_SECRET_PREVIOUS", "x" * 31, "shorter than 32 bytes"),
        ("BETTER_AUTH_URL", "localhost:3000", "https://app.example.com"),
        ("BETTER_AUTH_URL", "http://localhost:3000/api/auth", "without a path"),
        ("BETTER_AUTH_URL", "*", "origins"),
        ("BETTER_AUTH_URL", "https://app.example.com?", "origins"),
        ("BETTER_AUTH_URL", "https://*.example.com", "origins"),
        ("BETTER_AUTH_URL", "https://secret.example.com,", "origins"),
        ("BETTER_AUTH_JWKS_URL", "file:///etc/passwd", "http"),
        ("DEBUG", "yes please", "true or false or 1 or 0"),
        ("ACCESS_LOG", "on", "true or false or 1 or 0"),
        ("METRICS", "/metrics", "true or false or 1 or 0"),
        ("DB_PREPARE", "maybe", "auto or on or off"),
        ("DB_POOL_SIZE", "0", "whole number"),
        ("DB_POOL_SIZE", "many", "whole number"),
        ("PORT", "65536", "whole number"),
        ("PORT", "tcp://10.0.0.1:80", "whole number"),
        ("WEB_CONCURRENCY", "0", "whole number"),
    ],
)
def test_a_malformed_variable_is_named_without_its_value(name: str, value: str, expected: str) -> None:
    text = message(**{name: value})
    assert name in text
    assert expected in text
    assert value not in text


def test_a_secret_counts_in_bytes() -> None:
    assert Config.from_env({**GOOD, "BETTER_AUTH_SECRET": "ü" * 16}).secret == "ü" * 16


@pytest.mark.parametrize(
    ("env", "bind"), [({}, "127.0.0.1:8000"), ({"PORT": " "}, "127.0.0.1:8000"), ({"PORT": "10000"}, "0.0.0.0:10000")]
)
def test_a_platforms_port_is_open_to_its_network(env: dict[str, str], bind: str) -> None:
    assert Config.from_env({**GOOD, **env}).bind == bind


def test_origins_are_normalised() -> None:
    urls = "https://App.Example.com/, http://127.0.0.1:3000 ,http://[::1]:3000,https://a.example:443,http://b.example:80"
    config = Config.from_env({**GOOD, "BETTER_AUTH_URL": urls})
    assert config.origins[:3] == ("https://app.example.com", "http://127.0.0.1:3000", "http://[::1]:3000")
    assert config.origins[3:] == ("https://a.example", "http://b.example")


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("True", True), ("1", True), ("false", False), ("", False)])
def test_switches(value: str, expected: bool) -> None:
    assert Config.from_env({**GOOD, "DEBUG": value}).debug is expected
    assert Config.from_env({**GOOD, "ACCESS_LOG": value}).access_log is expected
    assert Config.from_env({**GOOD, "METRICS": value}).metrics is expected


def test_its_repr_holds_no_secret() -> None:
    text = repr(
        Config.from_env({**GOOD, "BETTER_AUTH_SECRET_PREVIOUS": SECRET[::-1], "NEON_DATABASE_URL": "postgresql://u:hunter2@h/db"})
    )
    assert SECRET not in text
    assert SECRET[::-1] not in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p@h/db", "postgresql://u:p@h/db?connect_timeout=5"),
        ("postgres://u:p@h/db", "postgresql://u:p@h/db?connect_timeout=5"),
        ("postgresql+asyncpg://u:p@h/db?ssl=require", "postgresql://u:p@h/db?sslmode=require&connect_timeout=5"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql://u:p@h/db?connect_timeout=5"),
        ("postgresql://u:p@h/db?ssl=true", "postgresql://u:p@h/db?sslmode=require&connect_timeout=5"),
        ("postgresql://u:p@h/db?ssl=off", "postgresql://u:p@h/db?sslmode=disable&connect_timeout=5"),
        ("postgresql://u:p@h/db?ssl=verify-full", "postgresql://u:p@h/db?sslmode=verify-full&connect_timeout=5"),
        ("postgresql://u:p@h/db?pgbouncer=true&schema=x&connection_limit=1", "postgresql://u:p@h/db?connect_timeout=5"),
        ("postgresql://u:p@h/db?connect_timeout=2", "postgresql://u:p@h/db?connect_timeout=2"),
        (
            "postgresql://u:p@ep-x-pooler.eu.aws.neon.tech/db?sslmode=require&channel_binding=require",
            "postgresql://u:p@ep-x-pooler.eu.aws.neon.tech/db?sslmode=require&channel_binding=require&connect_timeout=10",
        ),
        ("postgresql://u:p@h/db?options=endpoint%3Dx", "postgresql://u:p@h/db?options=endpoint%3Dx&connect_timeout=5"),
        ("postgresql://u:a+b%40#?c@h/db", "postgresql://u:a+b%40#?c@h/db?connect_timeout=5"),
        (
            "postgresql://u:p@h1:1,h2:2/db?target_session_attrs=read-write",
            "postgresql://u:p@h1:1,h2:2/db?target_session_attrs=read-write&connect_timeout=5",
        ),
        ("postgresql://u@/db?host=/tmp/x&port=5433", "postgresql://u@/db?host=/tmp/x&port=5433&connect_timeout=5"),
    ],
)
def test_database_urls_as_users_have_them(given: str, expected: str) -> None:
    assert normalise(given) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "mysql://u:hunter2@h/db",
        "postgresql:u:hunter2@h/db",
        "postgresql://u:hunter2@x@h/db",
        "postgresql://u:hunter2/x@h/db",
        "postgresql://alice:8231/hunter2@127.0.0.1:1/app",
        "postgresql://u:hunter2%zz@h/db",
        "postgresql://u:hunter2@h:port/db",
        "postgresql://u:hunter2@h/db?sslmode=hunter2",
    ],
)
def test_an_unusable_url_is_refused_without_showing_it(url: str) -> None:
    text = message(NEON_DATABASE_URL=url)
    assert "NEON_DATABASE_URL" in text
    assert "hunter2" not in text
