"""The README's code for pages in Node.js, and examples/ in Chromium."""

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import SCRIPTS, browser_command, pictures
from tests.support.client import Client, token
from tests.support.server import ROOT, Server, Service

HELPER, USAGE = re.findall(r"^```js\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


class FileServer(Server):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.command = [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1", "--directory", str(folder)]


def node(*arguments: str) -> str:
    """What Node.js prints. Skips without it, unless REQUIRE_NODE is set."""
    program = shutil.which("node") or ""
    if not program:
        reason = "Node.js is not installed"
        pytest.fail(reason) if os.environ.get("REQUIRE_NODE") else pytest.skip(reason)
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture
def alice(service: Service) -> Client:
    return service.client(f"alice-{uuid.uuid4()}")


@pytest.fixture(scope="module")
def service(database_url: str) -> Iterator[Service]:
    with Service(database_url, CORS_ALLOW_LOCALHOST="true") as service:
        yield service


def test_the_helper_of_the_readme_works(service: Service, alice: Client, tmp_path: Path) -> None:
    (tmp_path / "api.mjs").write_text(HELPER)
    base = f"http://127.0.0.1:{service.port}"
    arguments = [str(tmp_path / "api.mjs"), base, alice.user_id, token({"sub": alice.user_id})]
    seen = json.loads(node(str(SCRIPTS / "helper.mjs"), *arguments))
    assert seen["requests"] == 3  # a 503, a lost connection, a success
    assert [task["title"] for task in seen["created"]] == ["Retried", "1", "2", "3", "4"]
    assert seen["pages"] == [seen["created"][:2], seen["created"][2:4], seen["created"][4:]]
    assert alice.list() == [seen["fresh"], *seen["created"][1:]]
    assert seen["fresh"]["title"] == "Changed"
    assert seen["conflict"]["status"] == 412
    assert seen["invalid"]["status"] == 422
    assert {problem.partition(":")[0] for problem in seen["invalid"]["message"].split("; ")} == {"title", "completed"}
    assert seen["missing"] == {"message": "Task not found", "status": 404}
    assert seen["unauthorized"] == {"message": "Missing authorization token", "status": 401}


def test_the_usage_of_the_readme_works(service: Service, alice: Client, tmp_path: Path) -> None:
    text = HELPER + USAGE
    for printed, ours in {
        "http://127.0.0.1:8000": f"http://127.0.0.1:{service.port}",
        '"alice"': json.dumps(alice.user_id),
        "the token that `make run` prints": token({"sub": alice.user_id}),
        "catch(console.error)": "catch((error) => console.log(error.status))",
    }.items():
        assert printed in text
        text = text.replace(printed, ours)
    (tmp_path / "usage.mjs").write_text(text)
    output = node(str(tmp_path / "usage.mjs"))
    assert "title: 'Buy milk'" in output
    assert output.endswith("\n412\n")
    assert alice.list() == []


def test_the_example_contains_the_helper_as_printed() -> None:
    assert HELPER in (ROOT / "examples" / "todo.html").read_text()


def test_a_person_uses_the_example(service: Service, alice: Client, tmp_path: Path) -> None:
    command = browser_command("example.mjs")
    tasks = [alice.create(f"Task {number}") for number in range(12)]
    with FileServer(ROOT / "examples") as files:
        page, api = f"http://127.0.0.1:{files.port}/todo.html", f"http://127.0.0.1:{service.port}"
        arguments = [page, str(pictures(tmp_path) / "example.png"), api, alice.user_id, token({"sub": alice.user_id})]
        done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert seen["first"] == [task["title"] for task in tasks[:10]]
    assert seen["all"] == [task["title"] for task in tasks]
    assert seen["added"] == "Buy milk"
    assert (seen["toggled"], seen["edited"], seen["deleted"]) == (200, 200, 204)
    assert seen["conflict"] == ["Somebody has changed this task meanwhile. Your title was: Mine", "Theirs"]
    assert seen["invalid"].startswith("title: ")
    assert alice.list() == seen["left"]
    assert [task["title"] for task in seen["left"]] == [*(task["title"] for task in tasks[1:]), "Buy rye"]
    assert seen["left"][-1]["completed"] is True
    assert seen["problems"] == []
