"""How often is an abrupt change found where there is one, and where there is none?

    python -m simulations.changes [--logs 400]

Makes rows that came after a model had learned, true but for what each line says, and prints how
often `training.change` finds a change in them, at one look: beside it, where the theory says so,
how often at most. Rewards are rare (about one in nine); what the model says has a standard
deviation of 0.3 logits, unless said otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.domain import Floats
from artwork_bandit.training.change import EVIDENCE, MOSTLY, Seen, told

BASE = -2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What rows are like."""

    rows: int = 20_000
    true: float = 1.0
    """Share of what the model says that is true."""
    spread: float = 0.3
    """Standard deviation of what it says."""
    titles: int = 20
    members: int = 600
    changed: float | None = None
    """Share of the rows after which nothing of it is true."""
    fallen: float = 1.0
    """What the odds of half of the titles are multiplied with from the middle on."""
    strangers: int = 0
    """Members of the opposite taste who make most of the last eighth of the rows."""

    def seen(self, rng: np.random.Generator) -> Seen:
        n, at = self.rows, np.arange(self.rows)
        said = rng.normal(0, self.spread, n)
        title, member = rng.integers(self.titles, size=n), rng.integers(self.members, size=n)
        share = np.full(n, self.true)
        if self.changed is not None:
            share[round(self.changed * n) :] = 0.0
        strange = (at >= n * 7 // 8) & (rng.random(n) < 0.8) & (self.strangers > 0)
        share[strange] = -1.0
        member[strange] = self.members + rng.integers(max(self.strangers, 1), size=n)[strange]
        level = np.log(self.fallen) * ((title < self.titles // 2) & (at > n // 2))
        chance = 1 / (1 + np.exp(-(BASE + level + share * said)))
        earned: Floats = (rng.random(n) < chance).astype(np.float64)
        return Seen(at, member, title, np.full(n, BASE), said, earned)


def bound(true: float) -> float:
    """Return how often a change is found at most where a share is true (`training.change`)."""
    return min(1.0, float(np.exp(-(2 * true / MOSTLY - 1) * EVIDENCE)))


def found(world: World, logs: int, seed: int) -> float:
    """Return the share of logs in which a change is found."""
    rng = np.random.default_rng(seed)
    return sum(told(world.seen(rng)) is not None for _ in range(logs)) / logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=400)
    logs = parser.parse_args().logs
    table = Table(title=f"Share of {logs} logs in which a change is found, at one look")
    for name in ("the rows", "found", "at most"):
        table.add_column(name, justify="left" if name == "the rows" else "right")
    settings: list[tuple[str, dict[str, Any], Callable[[], str]]] = [
        ("20,000, all true", {}, lambda: f"{bound(1.0):.2%}"),
        ("5,000, all true", {"rows": 5_000}, lambda: f"{bound(1.0):.2%}"),
        ("20,000, all true, spread 0.6", {"spread": 0.6}, lambda: f"{bound(1.0):.2%}"),
    ]
    for true in (0.8, 0.7, 0.6, 0.5):
        text = f"20,000, {true:.0%} true"
        settings.append((text, {"true": true}, lambda true=true: f"{bound(true):.1%}"))
    for fallen in (0.5, 0.2, 0.1):
        text = f"20,000, all true, half of the titles fall to {fallen:.0%} midway, spread 0.6"
        settings.append((text, {"fallen": fallen, "spread": 0.6}, lambda: ""))
    for strangers in (2, 5, 8, 20):
        text = f"20,000, all true but for {strangers} members in the last eighth"
        settings.append((text, {"strangers": strangers}, lambda: ""))
    for rows in (20_000, 2_500, 5_000, 10_000):
        changed = {"rows": 20_000 + rows, "changed": 20_000 / (20_000 + rows)}
        settings.append((f"20,000 true, then {rows:,} of which nothing is", changed, lambda: ""))
    for i, (text, how, at_most) in enumerate(settings):
        table.add_row(text, f"{found(World(**how), logs, i):.1%}", at_most())
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
