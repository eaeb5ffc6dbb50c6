from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"


def test_every_install_is_the_same() -> None:
    """Each package is pinned, and so is whatever it brings along."""
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
