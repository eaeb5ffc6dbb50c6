"""Each module of todo_api imports only the modules listed here, so that it can be read without the others."""

import ast
from pathlib import Path

import todo_api

PACKAGE = Path(todo_api.__file__).parent
ALLOWED = {
    "__init__": {"app", "auth", "cli", "config", "db", "errors", "headers", "health", "logs", "metrics", "tasks", "validation"},
    "auth": {"config", "jwks", "tokens"},
    "cli": {"config", "migrations", "tokens"},
    "config": {"database_url"},
    "connection": {"app", "outage", "statements"},
    "db": {"config", "outage", "pool", "statements"},
    "errors": {"config", "outage"},
    "etags": {"validation"},
    "headers": {"config"},
    "health": {"config", "db", "etags", "validation"},
    "master": {"__version__", "config", "connection", "migrations"},
    "logs": {"config"},
    "metrics": {"config", "db", "jwks", "outage", "pool"},
    "migrations": {"connection", "database_url", "outage", "statements"},
    "outage": {"app", "database_url"},
    "pool": {"app", "config", "connection", "limits"},
    "tasks": {"app", "auth", "db", "etags", "headers", "validation"},
    "tokens": {"config", "jwks"},
    "validation": {"config", "request_body"},
}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "todo_api":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("todo_api."):
            found.add((node.module or "").removeprefix("todo_api."))
    return found


def test_each_module_imports_only_what_is_listed() -> None:
    graph = {path.stem: imported(path) for path in PACKAGE.glob("*.py")}
    assert {name: parts for name, parts in graph.items() if parts} == ALLOWED


def test_nothing_runs_at_import() -> None:
    for path in PACKAGE.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.ClassDef, ast.FunctionDef)
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert isinstance(node, allowed) or docstring, (path.name, ast.unparse(node))


def test_tests_share_code_through_support_and_benchmarks_do_not_use_tests() -> None:
    root = PACKAGE.parent
    files = [path for folder in ("benchmarks", "dev", "tests") for path in (root / folder).rglob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
                assert (node.module or "").startswith("tests.support."), (path.name, node.module)
                assert path.is_relative_to(root / "tests"), (path.name, node.module)
