"""The Python client that openapi-python-client generates from openapi.json works with the real service."""

import importlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import token
from tests.support.server import Service
from todo_api.validation import DOCUMENT


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Generate the client and make it importable. Yield the package's name."""
    folder, name = tmp_path_factory.mktemp("generated"), "todo_api_client"
    (folder / "config.yaml").write_text("post_hooks: []\n")  # no formatting
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(DOCUMENT), "--meta", "none"]
    options = ["--output-path", str(folder / name), "--config", str(folder / "config.yaml"), "--fail-on-warning"]
    done = subprocess.run([*command, *options], check=False, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield name
    sys.path.remove(str(folder))


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    with Service(database_url) as service:
        yield service


def test_each_shape_is_one_class(generated: str) -> None:
    models = importlib.import_module(f"{generated}.models")
    enums = {"ListTasksOrder", "ListTasksSort", "ListTasksStatus", "AuthenticationErrorDetail"}
    schemas = {
        "Completion",
        "Error",
        "FieldError",
        "Health",
        "NewTask",
        "Ready",
        "Task",
        "TaskChange",
        "AuthenticationError",
        "ValidationError",
    }
    assert set(models.__all__) == schemas | enums | {"OpenapiResponse200"}


def test_a_round_trip(generated: str, service: Service) -> None:
    def call(operation: str, *arguments: Any, **keywords: Any) -> Any:
        module = importlib.import_module(f"{generated}.api.tasks.{operation}")
        return module.sync_detailed(user, *arguments, client=client, **keywords)

    models: Any = importlib.import_module(f"{generated}.models")
    user = f"alice-{uuid.uuid4()}"
    new_client = importlib.import_module(generated).AuthenticatedClient
    client = new_client(f"http://127.0.0.1:{service.port}", token({"sub": user}))
    with client:
        created = call("create_task", body=models.NewTask("Buy milk"), idempotency_key="k")
        task = created.parsed
        assert (created.status_code, task.title, task.description, task.completed) == (201, "Buy milk", None, False)
        toggled = call("toggle_task", task.id).parsed  # without a body
        assert toggled.completed
        assert call("toggle_task", task.id, body=models.Completion(completed=True)).parsed.completed
        changed = call("update_task", task.id, body=models.TaskChange(description="Two litres")).parsed
        assert (changed.title, changed.description, changed.completed) == ("Buy milk", "Two litres", True)
        assert call("list_tasks", status=models.ListTasksStatus.COMPLETED, sort=models.ListTasksSort.UPDATED_AT).parsed == [
            changed
        ]
        stale = call("update_task", task.id, body=models.TaskChange(title="Rye"), if_match=created.headers["ETag"])
        assert (stale.status_code, type(stale.parsed)) == (412, models.Error)
        bad = call("update_task", task.id, body=models.TaskChange(title="")).parsed
        assert (bad.error, bad.detail[0].loc) == ("title: must not be empty", ["body", "title"])
        assert call("delete_task", task.id).status_code == 204
        gone = call("get_task", task.id)
        assert (gone.status_code, gone.parsed) == (404, models.Error("Task not found"))
    with new_client(f"http://127.0.0.1:{service.port}", "nonsense") as client:
        refused = call("list_tasks")
        assert refused.parsed == models.AuthenticationError(models.AuthenticationErrorDetail.INVALID_OR_MALFORMED_TOKEN)
