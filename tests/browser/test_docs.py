"""The page at /docs in a real browser."""

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask

from tests.support.client import token
from tests.support.server import Service

HERE = Path(__file__).resolve().parent


@pytest.fixture
def command() -> list[str]:
    """docs.mjs and its browser; skips where what they need is missing, unless REQUIRE_BROWSER is set."""
    node, chromium = shutil.which("node"), shutil.which("chromium")
    if node and chromium and (HERE / "node_modules" / "playwright-core").is_dir():
        return [node, str(HERE / "docs.mjs"), chromium]
    missing = "`npm ci --prefix tests/browser` has not been run" if node else "Node.js is not installed"
    reason = missing if chromium else "Chromium is not installed"
    return pytest.fail(reason) if os.environ.get("REQUIRE_BROWSER") else pytest.skip(reason)


def test_a_person_creates_a_task_and_sees_it_in_the_list(command: list[str], database_url: str, tmp_path: Path) -> None:
    user_id, title = f"alice-{uuid.uuid4()}", f"Buy milk {uuid.uuid4()}"
    pictures = Path(os.environ.get("ARTIFACTS") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)
    with Service(database_url, DEBUG="true") as service:
        host = f"127.0.0.1:{service.port}"
        arguments = [f"http://{host}/docs", str(pictures / "docs.png"), token({"sub": user_id}), user_id, title]
        done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    task = json.loads(seen["created"]["body"])
    assert (seen["created"]["status"], task["user_id"], task["title"]) == ("201", user_id, title)
    assert (seen["listed"]["status"], json.loads(seen["listed"]["body"])) == ("200", [task])
    assert {urlsplit(url).netloc for url in seen["requests"]} == {host}
    assert seen["problems"] == []


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/docs/swagger-ui.css"])
def test_there_is_no_such_page_without_debug(app: Flask, path: str) -> None:
    answer = app.test_client().get(path)
    assert (answer.status_code, answer.json) == (404, {"detail": "Not Found"})
