"""Cells keep their members when shares change."""

import numpy as np
import pytest

from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies.cells import BUCKETS, DEFAULT_SHARES, bucket_of, cell_of, reallocate


def owners(cells: object) -> list[str]:
    return [cell_of(cells, bucket) for bucket in range(BUCKETS)]


def test_shares_are_exact_and_cover_everybody() -> None:
    names = owners(reallocate((), DEFAULT_SHARES))
    for name, share in DEFAULT_SHARES.items():
        assert names.count(name) == round(share * BUCKETS)


def test_a_growing_cell_keeps_its_members_and_only_the_difference_moves() -> None:
    before = reallocate((), {"explore": 0.1, "baseline": 0.1, "live": 0.8})
    after = reallocate(before, {"explore": 0.2, "baseline": 0.1, "live": 0.7})
    pairs = list(zip(owners(before), owners(after), strict=True))
    moved = [(a, b) for a, b in pairs if a != b]
    assert moved == [("live", "explore")] * 1000


def test_members_fall_into_cells_by_share() -> None:
    cells = reallocate((), {"explore": 0.3, "live": 0.7})
    found = [cell_of(cells, bucket_of(b"key", f"m{i}")) for i in range(20_000)]
    share = found.count("explore") / len(found)
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 20_000)


@pytest.mark.parametrize(
    "shares",
    [
        {"explore": 0.5}, {"explore": 1.5, "live": -0.5}, {"wrong": 1.0},
        {"explore": 0.00004, "live": 0.99996}, {"explore": 0.12345, "live": 0.87655},
    ],
)  # fmt: skip
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        reallocate((), shares)
