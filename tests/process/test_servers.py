"""The servers that the tests start leave no files in the temporary directory."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.nginx import Nginx
from tests.support.pgbouncer import PgBouncer
from tests.support.server import Server, free_port


class Mock(Server):
    def __init__(self, code: str) -> None:
        super().__init__()
        self.command = [sys.executable, "-c", code]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set and return the temporary directory of this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_server_runs_inside_its_block_and_leaves_no_folder(temporary: Path) -> None:
    server = Mock("import http.server, sys; http.server.test(port=int(sys.argv[1]), bind='127.0.0.1')")
    server.command.append(str(server.port))
    for _ in range(2):
        with server:
            assert server.process.poll() is None
            assert list(temporary.iterdir()) == [server.home]
        assert server.process.poll() is not None
        assert list(temporary.iterdir()) == []


def test_a_server_that_ends_at_once_shows_its_output_and_leaves_no_folder(temporary: Path) -> None:
    with pytest.raises(RuntimeError, match="Mock has ended: no luck"), Mock("print('no luck')"):
        pass
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "server", [lambda: Nginx(free_port()), lambda: PgBouncer("postgresql://127.0.0.1:1/todo")], ids=["nginx", "pgbouncer"]
)
def test_a_server_that_is_not_installed_leaves_no_folder(
    server: Callable[[], Server], temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.delenv("REQUIRE_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception), server():
        pass
    assert list(temporary.iterdir()) == []
