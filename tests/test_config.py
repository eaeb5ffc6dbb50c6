import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.support.client import SECRET
from todo_api.config import Config
from todo_api.database_url import normalise

GOOD = {"BETTER_AUTH_SECRET": SECRET, "NEON_DATABASE_URL": "postgresql://u:p@h/db", "BETTER_AUTH_URL": "http://localhost:3000"}

BAD_AUTHORITIES = [
    "http://svc:hunter2@host",
    "http://svc@host",
    "http://@host",
    "http://h:99999",
    "http://h:0",
    "http://h:abc",
    "http://h:-1",
    "http://h:1:2",
    "http://[::1",
    "http://[::g]",
    "http://:80",
    "http://",
    "http://h h",
    "http://a..b",
    "http://.",
    "http://h\\evil",
    'http://h"x',
    "http://*.example.com",
    "http://häuser.example",
    "//h",
    "h:80",
]


def message(**env: str) -> str:
    with pytest.raises(SystemExit) as ended:
        Config.from_env({**GOOD, **env})
    assert "\n" not in str(ended.value)
    return str(ended.value)


def test_defaults() -> None:
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
        ("BETTER_AUTH_URL", "https://app.example.com#", "origins"),
        ("BETTER_AUTH_URL", "https://app.example.com,ftp://b.example", "origins"),
        *(("BETTER_AUTH_URL", url, "origins") for url in BAD_AUTHORITIES),
        *(("BETTER_AUTH_JWKS_URL", f"{url}/x", "with a host and a path") for url in BAD_AUTHORITIES),
        ("BETTER_AUTH_JWKS_URL", "http://?/x", "with a host and a path"),
        ("BETTER_AUTH_JWKS_URL", "https://h/a b", "without a user name, password or space"),
        ("BETTER_AUTH_JWKS_URL", "https://h/a\tb", "without a user name, password or space"),
        ("BETTER_AUTH_JWKS_URL", "https://h/ä", "http:// or https://"),
        ("BETTER_AUTH_JWKS_URL", "https://auth.example.com", "a path"),
        ("BETTER_AUTH_JWKS_URL", "file:///etc/passwd", "http"),
        ("BETTER_AUTH_SECRET", "\udcff" * 40, "is not valid UTF-8"),
        ("NEON_DATABASE_URL", "postgresql://u:\udcff@h/db", "is not valid UTF-8"),
        ("DEBUG", "yes please", "true or false or 1 or 0"),
        ("ACCESS_LOG", "on", "true or false or 1 or 0"),
        ("LOG_LEVEL", "loud", "debug or info or warning or error"),
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


@pytest.mark.parametrize("value", [f"{SECRET}\n", f" {SECRET}", f"{SECRET}\r\n", f"\t{SECRET} "])
@pytest.mark.parametrize(
    ("name", "field"), [("BETTER_AUTH_SECRET", "secret"), ("BETTER_AUTH_SECRET_PREVIOUS", "previous_secret")]
)
def test_a_secret_is_used_exactly_as_given(name: str, field: str, value: str) -> None:
    assert getattr(Config.from_env({**GOOD, name: value}), field) == value


def test_white_space_around_other_settings_does_not_matter() -> None:
    spaced = {name: f" {value}\n" for name, value in GOOD.items() if name != "BETTER_AUTH_SECRET"}
    more = {"BETTER_AUTH_JWKS_URL": " https://h/keys\n", "BETTER_AUTH_ISSUER": " i\n", "DEBUG": " true\n", "PORT": " 80\n"}
    config = Config.from_env({**GOOD, **spaced, **more})
    assert config.origins == ("http://localhost:3000",)
    assert (config.jwks_url, config.issuer, config.debug, config.bind) == ("https://h/keys", "i", True, "0.0.0.0:80")
    assert config.database_url == "postgresql://u:p@h/db?connect_timeout=5"


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://auth.example.com/api/auth/jwks",
        "http://auth_server:3000/keys?realm=todo&x=%20",
        "http://[::1]:3000/keys",
        "http://10.0.0.1/",
        "https://auth.example.com./keys",
    ],
)
def test_jwks_urls_that_are_accepted(url: str) -> None:
    assert Config.from_env({**GOOD, "BETTER_AUTH_JWKS_URL": url}).jwks_url == url


def test_a_secret_counts_in_bytes() -> None:
    assert Config.from_env({**GOOD, "BETTER_AUTH_SECRET": "ü" * 16}).secret == "ü" * 16


@pytest.mark.parametrize(
    ("env", "bind"), [({}, "127.0.0.1:8000"), ({"PORT": " "}, "127.0.0.1:8000"), ({"PORT": "10000"}, "0.0.0.0:10000")]
)
def test_with_port_it_listens_on_all_addresses(env: dict[str, str], bind: str) -> None:
    assert Config.from_env({**GOOD, **env}).bind == bind


def test_origins_are_normalised() -> None:
    urls = "HTTPS://App.Example.com/, http://127.0.0.1:3000 ,http://[::1]:3000,https://a.example:443,http://b.example:80"
    config = Config.from_env({**GOOD, "BETTER_AUTH_URL": urls})
    assert config.origins[:3] == ("https://app.example.com", "http://127.0.0.1:3000", "http://[::1]:3000")
    assert config.origins[3:] == ("https://a.example", "http://b.example")


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("True", True), ("1", True), ("false", False), ("", False)])
def test_flags(value: str, expected: bool) -> None:
    assert Config.from_env({**GOOD, "DEBUG": value}).debug is expected
    assert Config.from_env({**GOOD, "ACCESS_LOG": value}).access_log is expected
    assert Config.from_env({**GOOD, "METRICS": value}).metrics is expected


def test_repr_contains_no_secret() -> None:
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
        ("POSTGRESQL://u:p@h/db", "postgresql://u:p@h/db?connect_timeout=5"),
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
def test_database_urls_that_are_accepted(given: str, expected: str) -> None:
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
        "postgresql://u:hunter2@h:99999/db",
        "postgresql://u:hunter2@h:0/db",
        "postgresql://u:hunter2@h1:1,h2:99999/db",
        "postgresql://u:hunter2@h:٣/db",
        "postgresql://u:hunter2@h/db?sslmode=hunter2",
    ],
)
def test_an_unusable_database_url_is_named_without_its_value(url: str) -> None:
    text = message(NEON_DATABASE_URL=url)
    assert "NEON_DATABASE_URL" in text
    assert "hunter2" not in text
