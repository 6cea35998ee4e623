"""Which cell a member belongs to.

Members are hashed into 10,000 buckets with a key of their own (not the draw's: cell and draw must
be independent). A cell owns ranges of buckets. When shares change, buckets move only from cells
that shrink to cells that grow, so a growing cell keeps its members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from artwork_bandit.domain import CellShare, stable_hash
from artwork_bandit.errors import InvalidInput

BUCKETS = 10_000
ROUNDING = 1e-6
CELLS = ("explore", "baseline", "live", "challenger")
DEFAULT_SHARES: Mapping[str, float] = {
    "explore": 0.1, "baseline": 0.05, "live": 0.75, "challenger": 0.1
}  # fmt: skip
"""What challengers show tells what the next candidates would earn; while nobody challenges, their
members see what the live model chooses."""


def bucket_of(key: bytes, member_id: str) -> int:
    """Return the member's bucket, in [0, 10000)."""
    return stable_hash("cell", member_id, key=key) % BUCKETS


def cell_of(cells: Sequence[CellShare], bucket: int) -> str:
    """Return the name of the cell that owns the bucket."""
    for cell in cells:
        if any(start <= bucket < end for start, end in cell.ranges):
            return cell.name
    raise LookupError(f"no cell owns bucket {bucket}")


def shares_of(cells: Sequence[CellShare]) -> dict[str, float]:
    """Return the cells' shares of the members."""
    return {cell.name: cell.buckets / BUCKETS for cell in cells}


def reallocate(current: Sequence[CellShare], shares: Mapping[str, float]) -> tuple[CellShare, ...]:
    """Return cells with the new shares, moving as few buckets as possible.

    Raises InvalidInput unless names are known and shares are multiples of 1/10,000 summing to 1.
    """
    if unknown := sorted(set(shares) - set(CELLS)):
        raise InvalidInput(f"unknown cells {unknown}; known are {list(CELLS)}")
    in_range = all(0 <= share <= 1 for share in shares.values())
    counts = {name: round(share * BUCKETS) for name, share in shares.items()} if in_range else {}
    fine = in_range and all(
        abs(share * BUCKETS - counts[name]) < ROUNDING for name, share in shares.items()
    )
    if not fine or sum(counts.values()) != BUCKETS:
        raise InvalidInput(
            f"cell shares are {dict(shares)}; each must be in [0, 1], a multiple of 0.0001, and "
            "their sum 1"
        )
    owner: list[str | None] = [None] * BUCKETS
    kept = dict.fromkeys(CELLS, 0)
    for cell in current:
        for start, end in cell.ranges:
            for bucket in range(start, end):
                if kept[cell.name] < counts.get(cell.name, 0):
                    owner[bucket] = cell.name
                    kept[cell.name] += 1
    free = (bucket for bucket in range(BUCKETS) if owner[bucket] is None)
    for name in CELLS:
        for _ in range(counts.get(name, 0) - kept[name]):
            owner[next(free)] = name
    return tuple(
        CellShare(name=name, ranges=_runs(owner, name)) for name in CELLS if counts.get(name, 0)
    )


def _runs(owner: Sequence[str | None], name: str) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    for bucket, holder in enumerate(owner):
        if holder != name:
            continue
        if runs and runs[-1][1] == bucket:
            runs[-1] = (runs[-1][0], bucket + 1)
        else:
            runs.append((bucket, bucket + 1))
    return tuple(runs)
