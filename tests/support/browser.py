"""Runs the scripts of tests/browser in Node.js with Chromium."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.server import ROOT

SCRIPTS = ROOT / "tests" / "browser"


def browser_command(script: str) -> list[str]:
    """Return the command that runs the script. If Node.js or Chromium is missing, skip, or fail if REQUIRE_BROWSER is set."""
    programs = {"Node.js": shutil.which("node"), "Chromium": shutil.which("chromium")}
    missing = [f"{name} is not installed" for name, path in programs.items() if not path]
    if not (SCRIPTS / "node_modules" / "playwright-core").is_dir():
        missing.append("`npm ci --prefix tests/browser` has not been run")
    if missing:
        reason = "; ".join(missing)
        pytest.fail(reason) if os.environ.get("REQUIRE_BROWSER") else pytest.skip(reason)
    return [str(programs["Node.js"]), str(SCRIPTS / script), str(programs["Chromium"])]


def pictures(default: Path) -> Path:
    """Create and return the folder for screenshots: $ARTIFACTS if it is set."""
    folder = Path(os.environ.get("ARTIFACTS") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
