"""openapi.json is valid, and a frontend's tools can use it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from todo_api.validation import DOCUMENT

HERE = Path(__file__).resolve().parent
MODULES = HERE / "node_modules"


@pytest.fixture(scope="session")
def node() -> str:
    """Return the path of Node.js. If it or a package is missing, skip, or fail if REQUIRE_NODE is set."""
    node = shutil.which("node")
    if node and (MODULES / "openapi-typescript").is_dir():
        return node
    reason = "`npm ci --prefix tests/document` has not been run" if node else "Node.js is not installed"
    return pytest.fail(reason) if os.environ.get("REQUIRE_NODE") else pytest.skip(reason)


def test_it_is_an_openapi_3_1_document() -> None:
    document = json.loads(DOCUMENT.read_bytes())
    assert document["openapi"].startswith("3.1.")
    validate(document, cls=OpenAPIV31SpecValidator)


def test_a_typescript_frontend_compiles_with_the_generated_types(node: str, tmp_path: Path) -> None:
    shutil.copy(HERE / "client.ts", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(MODULES)
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]
    for command in (
        [str(MODULES / "openapi-typescript" / "bin" / "cli.js"), str(DOCUMENT), "--output", "api.d.ts"],
        [str(MODULES / "typescript" / "bin" / "tsc"), *options, "client.ts"],
    ):
        done = subprocess.run([node, *command], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
