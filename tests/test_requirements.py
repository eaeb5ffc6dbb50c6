import ast
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
PACKAGE = Path(__file__).parents[1] / "todo_api"


def test_every_package_is_pinned() -> None:
    """Each package is pinned, and so are its dependencies."""
    lines = REQUIREMENTS.read_text().splitlines()
    pinned = {
        canonicalize_name(each.name): each for each in map(Requirement, filter(None, (line.partition("#")[0] for line in lines)))
    }
    assert all(str(each.specifier).startswith("==") for each in pinned.values())
    needed = {
        canonicalize_name(other.name)
        for each in pinned.values()
        for other in map(Requirement, requires(each.name) or ())
        if not other.marker or any(other.marker.evaluate({"extra": extra}) for extra in {"", *each.extras})
    }
    assert needed <= pinned.keys()


def test_every_imported_package_is_required() -> None:
    distributions = packages_distributions()
    pinned = {canonicalize_name(Requirement(line).name) for line in REQUIREMENTS.read_text().splitlines() if line[:1].isalpha()}
    nodes = [node for path in PACKAGE.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    roots = {module.partition(".")[0] for module in modules}
    imported = {canonicalize_name(name) for root in roots for name in distributions.get(root, ())}
    assert imported <= pinned
    assert "flask-swagger-ui" in imported
