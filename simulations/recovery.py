"""An abrupt change as a running system meets it: with gate, guard, cells and attribution window.

    python -m simulations.recovery --movielens DIR [--decisions 100000] [--days 40] [--seeds 5]

The real service answers homepages of ten titles, the real worker does what is due every six hours,
by a clock that the simulation moves. Halfway genres and compositions swap what they do, profiles
stay. A play counts once its window of 24 hours has closed, as it does in production: whatever is
decided is decided a day late. Prints, per world, how much of the stream passes until a first model
is live; the share of the headroom between uniform and the contextual oracle that the live cell
captures, exploration included, over the fifth before the change; how much passes until the change
is known, until what was live is gone, and until the live cell is back at 80% of before, for a day
at least; and the share in the last fifth.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from artwork_bandit.domain import Event, EventType
from artwork_bandit.operations import catalog_import
from artwork_bandit.operations.audience import World, WorldSettings
from artwork_bandit.operations.changes import changed_at
from artwork_bandit.operations.worker import Worker
from artwork_bandit.serving.chooser import Question
from artwork_bandit.serving.ingest import Incoming
from artwork_bandit.serving.service import Service
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import migrate, registry
from artwork_bandit.store.engine import Store
from simulations.worlds import START, Setting, movielens

SLOT = SLOTS["artwork"]
PAGE = 10
STEP = dt.timedelta(hours=6)
BACK = 0.8


@dataclass(frozen=True, slots=True)
class Step:
    """Six hours."""

    earned: float
    """Mean chances of a quality play in the live cell: of what was shown, and what chance and the
    oracle would have come to."""
    uniform: float
    oracle: float
    known: bool
    """Whether a model knows of a change."""
    live: int | None


def lived(setting: Setting, folder: Path, decisions: int, days: int, seed: int) -> Iterator[Step]:
    """Yield what came of each step."""
    rng = np.random.default_rng([seed, 5])
    settings = Settings(
        database_url=f"sqlite:///{folder}/log.db", local_dir=str(folder), reload_seconds=3600
    )
    store = Store(settings.database_url)
    migrate.migrate(store)
    catalog_import.import_catalog(store, setting.titles, setting.variants, START, dry_run=False)
    service, worker = Service(store, settings), Worker(Store(settings.database_url), settings)
    world, steps = setting.world, days * (dt.timedelta(days=1) // STEP)
    rows: dict[str, list[int]] = {}
    for variant in setting.variants:
        rows.setdefault(variant.title_id, []).append(world.row_of[variant.variant_id])
    pages = decisions // PAGE // steps
    for step in range(steps):
        if step == steps // 2:
            world = world.swapped(rng)
        shown = []
        for page in range(pages):
            now = START + step * STEP + page * STEP / pages
            shown += _visit(service, setting, world, rows, now, rng)
        worker.once(START + (step + 1) * STEP)
        service.state.refresh()
        with store.read() as connection:
            newest = registry.list_all(connection, SLOT.name)[:1]
            live = registry.live(connection, SLOT.name)
        known = any(changed_at(model) is not None for model in newest)
        yield Step(*np.mean(shown, axis=0), known, live and live.version)
    worker.close()
    service.close()


def _visit(
    service: Service, setting: Setting, world: World, rows: dict[str, list[int]], now: dt.datetime,
    rng: np.random.Generator,
) -> list[tuple[float, float, float]]:  # fmt: skip
    """Let a member look at a page; return the chances of what was shown, of uniform choice and of
    the oracle, if the member is of the live cell."""
    member = int(rng.integers(len(world.members)))
    titles = rng.choice(len(setting.titles), PAGE, replace=False)
    ids = tuple(setting.titles[t].title_id for t in titles)
    question = Question(
        request_id=uuid.UUID(bytes=rng.bytes(16)).hex, member_id=world.members[member], slot=SLOT,
        title_ids=ids, context=setting.contexts[member],
    )  # fmt: skip
    answer = service.answer(question, True, now, own_id=True)
    batch, chances = [], []
    for choice, decision_id in zip(answer.decisions.choices, answer.decision_ids, strict=True):
        of_title = world.probabilities(member, rows[choice.title_id])
        chance = of_title[rows[choice.title_id].index(world.row_of[choice.variant_id])]
        chances.append((chance, of_title.mean(), of_title.max()))
        kinds = ["impression"] + ["play"] * bool(rng.random() < chance)
        for kind in kinds:
            event = Event(
                event_id=uuid.UUID(bytes=rng.bytes(16)).hex, type=EventType(kind), occurred_at=now
            )
            batch.append(Incoming(index=len(batch), event=event, decision_id=decision_id))
    assert not service.take_in(batch, now).rejected
    return chances if answer.decisions.cell == "live" else []


def shares(steps: list[Step]) -> np.ndarray:
    """Return the share of the headroom per step, each with three before it: of a day."""
    earned, uniform, oracle = (
        np.convolve([getattr(s, name) for s in steps], np.full(4, 0.25))[: len(steps)]
        for name in ("earned", "uniform", "oracle")
    )
    return (earned - uniform) / (oracle - uniform)


def percent_after(found: np.ndarray, begin: int) -> str:
    """Return how much of the stream passes from `begin` until the first of these steps."""
    at = np.flatnonzero(found[begin:])
    return "never" if not len(at) else f"{(at[0] + 1) / len(found):.0%}"


def row(steps: list[Step]) -> list[str]:
    """Return a world's cells of the table."""
    half, fifth, share = len(steps) // 2, len(steps) // 5, shares(steps)
    before = share[half - fifth : half].mean()
    was = steps[half - 1].live
    # The window of the first day after the change looks back before it.
    back = (share >= BACK * before) & (np.arange(len(steps)) >= half + 4)
    return [
        percent_after(np.array([s.live is not None for s in steps]), 0),
        f"{before:.2f}",
        percent_after(np.array([s.known for s in steps]), half),
        percent_after(np.array([s.known and s.live != was for s in steps]), half),
        percent_after(back, half),
        f"{share[-fifth:].mean():.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    table = Table(title=f"A swap halfway through {arguments.decisions:,} decisions")
    after = ("known after", "gone after", "back after")
    for name in ("world", "first live", "before", *after, "last fifth"):
        table.add_column(name, justify="right")
    with Progress(transient=True) as progress:
        total = arguments.seeds * arguments.days * 4
        task = progress.add_task("living", total=total)
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            setting = movielens(arguments.movielens, START, 300, 6, WorldSettings(beta=0.5), seed)
            with tempfile.TemporaryDirectory(prefix="artwork-bandit-") as folder:
                steps = []
                for step in lived(setting, Path(folder), arguments.decisions, arguments.days, seed):
                    steps.append(step)
                    progress.advance(task)
            table.add_row(str(seed), *row(steps))
    Console().print(table)


if __name__ == "__main__":
    main()
