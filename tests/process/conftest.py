from collections.abc import Iterator

import pytest

from tests.process.service import Service


@pytest.fixture(scope="session")
def service(database_url: str) -> Iterator[Service]:
    """One running service for the tests that do it no harm."""
    with Service(database_url) as service:
        yield service
