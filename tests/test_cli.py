import json

import jwt
from flask import Flask

from tests.support.client import SECRET, Client, config
from todo_api import __version__, create_app
from todo_api.validation import DOCUMENT


def test_a_token_opens_the_door(app: Flask, alice: Client) -> None:
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


def test_migrate_tells_what_it_did(empty_database: str) -> None:
    runner = create_app(config(empty_database)).test_cli_runner()
    assert runner.invoke(args=["migrate"]).output.startswith("applied 0001_create_tasks\n")
    assert runner.invoke(args=["migrate"]).output == ""


def test_version_is_printed(app: Flask) -> None:
    assert app.test_cli_runner().invoke(args=["version"]).output == f"todo_api {__version__}\n"


def test_openapi_json_has_the_same_version() -> None:
    assert json.loads(DOCUMENT.read_bytes())["info"]["version"] == __version__
