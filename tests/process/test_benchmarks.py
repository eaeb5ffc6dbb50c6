"""`make bench` in a short run: what it prints, and that it stops at a wrong response. These tests do not check speed."""

import os
import re
import sys
from pathlib import Path

import pytest

from benchmarks import compare, scale
from benchmarks.database import database
from benchmarks.server import SERVERS

pytestmark = pytest.mark.long

LIAR = """
import itertools
from benchmarks.peers import wsgi_limit

asked = itertools.count()

def app(environ, start_response):
    body = b"".join(wsgi_limit.app(environ, start_response))
    return [body.replace({truth!r}, {lie!r}) if next(asked) >= {patience} else body]
"""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configure a short run without the FastAPI peers. Return the folder for its results."""
    short = {"ROUNDS": "1", "SECONDS": "1", "SERVERS": "todo_api,wsgi_limit", "WORKLOADS": "mixed,get", "LATENCY_MS": "1"}
    for name, value in {**short, "BENCH_DATABASE_URL": os.environ["TEST_DATABASE_URL"], "RESULTS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_it_works(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main()
    text = (results / "results.md").read_text()
    assert text.strip() in capsys.readouterr().out
    heading, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert heading == ["workload", "server", "requests/s", "p50 ms", "p99 ms", "server CPU µs", "todo_api / this"]
    assert [row[:2] for row in rows] == [[w, s] for w in ("mixed", "get") for s in ("todo_api", "wsgi_limit")]
    assert all(float(number) > 0 for row in rows for number in row[2:6])
    assert [bool(re.fullmatch(r"[\d.]+ \([\d.]+ to [\d.]+\)", row[-1])) for row in rows] == [False, True] * 2
    assert "fsync off, 1 ms away" in text
    assert re.search(r"PSS\): todo_api \d+, wsgi_limit \d+\n", text)
    assert (results / "results.svg").read_text().count("<rect") == 2 + len(rows)


@pytest.mark.parametrize(
    ("truth", "lie", "patience", "complaint"),
    [
        (b"false", b"true ", 0, "wrong answer of wsgi_limit to create"),
        (b'"id":', b'"no":', 100, "wrong answer to b'GET /api/long"),
    ],
    ids=["at once", "under load"],
)
def test_a_wrong_response_ends_the_benchmark(
    results: Path, monkeypatch: pytest.MonkeyPatch, truth: bytes, lie: bytes, patience: int, complaint: str
) -> None:
    (results / "liar.py").write_text(LIAR.format(truth=truth, lie=lie, patience=patience))
    command = [sys.executable, "-m", "gunicorn", "liar:app", "--pythonpath", str(results), "--bind", "127.0.0.1:{port}"]
    monkeypatch.setitem(SERVERS, "wsgi_limit", command)
    monkeypatch.setenv("WORKLOADS", "get")
    with pytest.raises(SystemExit, match=re.escape(complaint)):
        compare.main()
    assert not (results / "results.md").exists()


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("operation", scale.calls(1000))
def test_the_statements_run_as_bench_scale_calls_them(operation: str) -> None:
    with database(os.environ["TEST_DATABASE_URL"]) as url:
        scale.fill(url, tasks=1000, users=10)
        with scale.connect(url) as conn:
            call = scale.calls(1000)[operation]
            assert scale.run(conn, *call())
            assert scale.buffers(conn, call) > 0
