"""Do the intervals of what features of pictures do hold, across titles?

    python -m simulations.features [--titles 150] [--worlds 40]

In every title the default picture lacks a feature that the three others have; what it does is
known. Decisions are drawn evenly, or seven of ten are of one picture that has it. Prints, per world
of that kind, the mean of what is found and how often the interval, which claims 95%, has the truth.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.comparison import features, variants
from artwork_bandit.domain import ActionSet, Variant
from artwork_bandit.operations.summing import effects_of
from artwork_bandit.store.rollups import BUCKETS, Rollup

FACES = ("no", "yes", "yes", "yes")
EVEN, MOSTLY = (0.25, 0.25, 0.25, 0.25), (0.1, 0.7, 0.1, 0.1)
DAYS = 10


def title(
    rng: np.random.Generator,
    name: str,
    shares: tuple[float, ...],
    decisions: int,
    rates: list[float],
) -> tuple[list[Variant], variants.Comparison]:
    """Return a title of four pictures, and its comparison."""
    ids = [f"{name}-{i}" for i in range(len(FACES))]
    known = [
        Variant(
            variant_id=v, title_id=name, slot="artwork", uri=f"/{v}", is_default=i == 0,
            features={"faces": FACES[i]},
        )
        for i, v in enumerate(ids)
    ]  # fmt: skip
    shown = rng.choice(len(ids), decisions, p=shares)
    played = rng.random(decisions) < np.array(rates)[shown]
    place = rng.integers(DAYS, size=decisions) * BUCKETS + rng.integers(BUCKETS, size=decisions)
    key = place * len(ids) + shown
    rows, plays = np.bincount(key), np.bincount(key, played)
    sums = []
    for at in np.flatnonzero(rows).tolist():
        day, rest = divmod(at, BUCKETS * len(ids))
        bucket, v = divmod(rest, len(ids))
        n, s, w = int(rows[at]), int(plays[at]), 1 / shares[v]
        cell = "explore" if shares == EVEN else "live"
        sums.append(
            Rollup(20_000 + day, 1, cell, ids[v], bucket, n, n, s, n, s, n * w, n * w * w, s * w)
        )
    sets = {1: ActionSet(action_set_id=1, title_id=name, slot="artwork", default=0,
                         revision_ids=tuple(range(len(ids))), variant_ids=tuple(ids))}  # fmt: skip
    return known, variants.of_rows(name, "artwork", known, sums, sets, 0.05, None)


def found(
    rng: np.random.Generator, titles: int, shares: tuple[float, ...], decisions: int, rate: float,
    lift: float,
) -> features.FeatureRow:  # fmt: skip
    """Return what is said of having faces."""
    effects, described = {}, {}
    for i in range(titles):
        base = rate * float(rng.uniform(0.5, 1.5))
        of_title = [base * (1 + lift * (faces == "yes")) for faces in FACES]
        known, compared = title(rng, f"t{i}", shares, decisions, of_title)
        described |= {v.variant_id: v.features for v in known}
        if (told := effects_of(compared)) is not None:
            effects[f"t{i}"] = {v: (effect, worth) for v, (effect, worth) in told.items()}
    rows = features.across_titles(effects, described)
    return next(row for row in rows if row.value == "yes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--titles", type=int, default=150)
    parser.add_argument("--worlds", type=int, default=40)
    arguments = parser.parse_args()
    table = Table(title=f"Faces on {arguments.titles} titles, {arguments.worlds} worlds each")
    for name in ("decisions a title", "shown", "rate", "truth", "mean found", "interval has it"):
        table.add_column(name, justify="right")
    for decisions, shares, rate, lift in (
        (1_200, EVEN, 0.06, 0.0), (4_000, EVEN, 0.06, 0.0), (1_200, EVEN, 0.15, 0.0),
        (4_000, MOSTLY, 0.06, 0.0), (1_200, EVEN, 0.06, 0.2), (4_000, EVEN, 0.15, 0.2),
    ):  # fmt: skip
        rng = np.random.default_rng(1)
        true = lift / (1 + lift / 2)  # relative to the mean of the two, shown alike
        rows = [
            found(rng, arguments.titles, shares, decisions, rate, lift)
            for _ in range(arguments.worlds)
        ]
        has = np.mean([row.lower <= true <= row.upper for row in rows])
        table.add_row(
            f"{decisions:,}", "evenly" if shares == EVEN else "70% one", f"{rate:.0%}",
            f"{true:+.1%}", f"{np.mean([row.lift for row in rows]):+.1%}", f"{has:.0%}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
