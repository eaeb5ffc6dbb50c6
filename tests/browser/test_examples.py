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
    """Run Node.js and return what it prints. If it is missing, skip, or fail if REQUIRE_NODE is set."""
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
    assert seen["lost"]["message"].startswith(f"No response from http://127.0.0.1:{seen['port']}. ")
    assert "CORS" in seen["lost"]["message"]


def test_the_usage_of_the_readme_works(service: Service, alice: Client, tmp_path: Path) -> None:
    text = USAGE
    for printed, ours in {
        "http://127.0.0.1:8000": f"http://127.0.0.1:{service.port}",
        '"alice"': json.dumps(alice.user_id),
        "the token that `make token` prints": token({"sub": alice.user_id}),
        "throw error\n": "throw error\n  console.log(error.status)\n",
        'await send("DELETE"': 'for (const { title } of (await list()).tasks) console.log(title)\nawait send("DELETE"',
    }.items():
        assert printed in text
        text = text.replace(printed, ours)
    (tmp_path / "package.json").write_text('{"type": "module"}')  # like <script type="module"> in a page
    (tmp_path / "api.js").write_text(HELPER)
    (tmp_path / "usage.js").write_text(text)
    output = node(str(tmp_path / "usage.js"))
    assert "title: 'Buy milk'" in output
    assert output.endswith("\n412\nBuy rye\n")
    assert alice.list() == []


def test_the_example_contains_the_helper_as_printed() -> None:
    assert HELPER in (ROOT / "examples" / "todo.html").read_text()


def test_a_person_uses_the_example(service: Service, alice: Client, tmp_path: Path) -> None:
    command = browser_command("example.mjs")
    tasks = [alice.create(f"Task {number}") for number in range(25)]
    with FileServer(ROOT / "examples") as files:
        page, api = f"http://127.0.0.1:{files.port}/todo.html", f"http://127.0.0.1:{service.port}"
        arguments = [page, str(pictures(tmp_path) / "example.png"), api, alice.user_id, token({"sub": alice.user_id})]
        done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert seen["noAddress"].startswith("The address must start with http:// or https://")
    assert seen["noToken"].startswith("This is not a token.")
    assert seen["noUser"].startswith("This token does not name a user")
    assert seen["first"] == [task["title"] for task in tasks[:10]]
    assert seen["later"] == ["Added. It is on the last page.", 10]
    assert seen["second"] == [task["title"] for task in tasks[:20]]
    assert seen["all"] == [*(task["title"] for task in tasks), "Added later"]
    assert seen["added"] == [*seen["all"], "Buy milk"]
    assert (seen["toggled"], seen["edited"], seen["deleted"]) == (200, 200, 204)
    assert seen["conflict"] == ["Somebody has changed this task meanwhile.\nYour title was: Mine", "Theirs"]
    assert seen["invalid"].startswith("title: ")
    assert seen["blank"] == [seen["invalid"] + "\nYour title was:", "Theirs"]
    assert seen["failed"] == ["Internal server error", "Theirs again", False]
    assert seen["offline"][0].startswith(f"No response from {api}. ")
    assert seen["offline"][0].endswith("\nYour title was: Offline")
    assert seen["offline"][1] == "Theirs again"
    assert seen["gone"] == ["Task not found", 25]
    assert seen["deletedTwice"] == [404, "", 24]
    assert alice.list() == seen["left"]
    assert [task["title"] for task in seen["left"]] == [*(task["title"] for task in tasks[3:]), "Added later", "Buy rye"]
    assert seen["left"][-1]["completed"] is True
    assert seen["problems"] == []
