"""What tests of whole flows share."""

from collections.abc import Iterator

import pytest

from artwork_bandit.store.engine import Store
from tests.simulated import Simulation


@pytest.fixture
def simulation(store: Store, database_url: str) -> Iterator[Simulation]:
    """A service with an audience that comes when the test says so."""
    begun = Simulation.begin(store, database_url)
    yield begun
    begun.service.close()
