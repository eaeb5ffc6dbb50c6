"""The page at /docs in a real browser."""

import json
import subprocess
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask

from tests.support.browser import browser_command, pictures
from tests.support.client import token
from tests.support.server import Service

MAX_HEIGHT = 3000  # pixels of an open operation; it was 4,060 when each error had its own entry


def test_a_person_creates_lists_toggles_and_deletes_a_task(database_url: str, tmp_path: Path) -> None:
    command = browser_command("docs.mjs")
    user_id, title = f"alice-{uuid.uuid4()}", f"Buy milk {uuid.uuid4()}"
    with Service(database_url, DEBUG="true", LOG_LEVEL="info") as service:
        root = f"http://127.0.0.1:{service.port}/"
        arguments = [root, str(pictures(tmp_path)), token({"sub": user_id}), user_id, title]
        done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, timeout=120)
        assert service.client(user_id).list() == []
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    task = seen["created"]["body"]
    assert (seen["created"]["status"], task["user_id"], task["title"]) == ("201", user_id, title)
    assert (seen["listed"]["status"], seen["listed"]["body"]) == ("200", [task])
    assert (seen["toggled"]["status"], seen["toggled"]["body"]["completed"]) == ("200", True)
    assert seen["deleted"]["status"] == "204"
    operations = [seen[name] for name in ("created", "listed", "toggled", "deleted")]
    assert [operation["first"] for operation in operations] == [["user_id", "alice"]] * 4
    assert max(operation["height"] for operation in operations) <= MAX_HEIGHT
    assert "make run" in seen["hint"]
    assert (seen["address"], seen["topBars"]) == (f"{root}docs/", 0)
    assert {urlsplit(url).netloc for url in seen["requests"]} == {urlsplit(root).netloc}
    assert seen["problems"] == []


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/", "/docs/swagger-ui.css"])
def test_there_is_no_docs_page_without_debug(app: Flask, path: str) -> None:
    response = app.test_client().get(path)
    assert (response.status_code, response.json) == (404, {"detail": "Not Found"})
