import json
import os
import subprocess
import sys

import jwt
import pytest
from flask import Flask

from tests.support.client import SECRET, Client, config
from tests.support.server import ROOT
from todo_api import __version__, create_app
from todo_api.validation import DOCUMENT


def flask(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the flask command without any settings."""
    environment = {"PATH": os.environ["PATH"], "BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": "", "NEON_DATABASE_URL": ""}
    command = [f"{sys.prefix}/bin/flask", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def test_it_works(app: Flask, alice: Client) -> None:
    result = app.test_cli_runner().invoke(args=["token", "--user", alice.user_id, "--minutes", "2"])
    assert result.exit_code == 0
    token = result.output.strip()
    claims = jwt.decode(token, SECRET, ["HS256"])
    assert claims["exp"] - claims["iat"] == 120
    assert alice.call("GET", headers={"Authorization": f"Bearer {token}"}).status == 200


def test_a_token_is_signed_with_the_current_secret_while_it_is_replaced() -> None:
    new = create_app(config("postgresql://127.0.0.1:1/none", BETTER_AUTH_SECRET_PREVIOUS=SECRET[::-1]))
    token = new.test_cli_runner().invoke(args=["token", "--user", "alice"]).output.strip()
    assert jwt.decode(token, SECRET, ["HS256"])["sub"] == "alice"


def test_a_token_needs_a_user_and_a_time(app: Flask) -> None:
    runner = app.test_cli_runner()
    assert "--user" in runner.invoke(args=["token"]).output
    assert runner.invoke(args=["token", "--user", "alice", "--minutes", "0"]).exit_code == 2


def test_migrate_lists_the_migrations_that_it_applied(empty_database: str) -> None:
    runner = create_app(config(empty_database)).test_cli_runner()
    assert runner.invoke(args=["migrate"]).output.startswith("applied 0001_create_tasks\n")
    assert runner.invoke(args=["migrate"]).output == ""


def test_version_is_printed(app: Flask) -> None:
    assert app.test_cli_runner().invoke(args=["version"]).output == f"todo_api {__version__}\n"


def test_openapi_json_has_the_same_version() -> None:
    assert json.loads(DOCUMENT.read_bytes())["info"]["version"] == __version__


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "migrate "),
        (["token", "--help"], "--user"),
        (["migrate", "--help"], "tables"),
        (["version"], f"todo_api {__version__}\n"),
    ],
)
def test_help_and_version_need_no_setting(arguments: list[str], expected: str) -> None:
    done = flask(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout


def test_flask_alone_lists_the_commands_without_settings() -> None:
    done = flask()
    assert "migrate " in done.stdout + done.stderr


@pytest.mark.parametrize("user", ["alice", "version"])
def test_a_command_needs_its_settings(user: str) -> None:
    done = flask("token", "--user", user)
    assert done.returncode > 0
    assert "BETTER_AUTH_SECRET is not set" in done.stderr
