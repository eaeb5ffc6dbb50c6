"""Runs SQL files in psql and checks their header comments."""

import os
import re
import subprocess
from pathlib import Path

from dev import postgres
from todo_api.statements import SQL


def psql(url: str, file: Path, *options: str, time_zone: str = "UTC", **variables: str) -> str:
    """Run the file in psql and return what it prints. Fail on any warning, because psql continues after its own errors."""
    command = [postgres.psql(), url, "-X", "-q", "-v", "ON_ERROR_STOP=1", *options]
    settings = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
    session = {"PGTZ": time_zone, "PGCLIENTENCODING": "UTF8", "PGOPTIONS": "-c client_min_messages=warning"}
    done = subprocess.run(
        [*command, *settings, "-f", str(file)], check=False, capture_output=True, text=True, env={**os.environ, **session}
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def check_head(file: Path) -> None:
    """Assert that the header comment says what the file does and how to try it, with every variable that the file uses."""
    head = [line for line in file.read_text().splitlines() if line.startswith("--")]
    assert re.match(r"-- [A-Z]\w+ ", head[0])
    (line,) = (line for line in head if line.startswith("-- Try it: "))
    assert line.endswith(f"-f {file.relative_to(SQL.parent)}")
    assert set(re.findall(r"-v (\w+)=", line)) == set(re.findall(r":'(\w+)'", file.read_text()))
