"""From SQL to a trained model: time beside Vowpal Wabbit alone, and memory as the log grows.

    python -m simulations.retraining --movielens DIR [--rows 100000,1000000] [--page 10] [--times 3]

For each size a SQLite log of uniform choices is made, of homepages of ten titles (`--page`), each
of another member with a long history; it is then trained on by a process of its own
(`simulations.retrained`, which loads what training needs, as `artwork-bandit train` does), whose
wall time and peak memory (its own or that of one it started, whichever needed more) are printed
beside those of VW alone reading the prepared examples of the same log. Both take turns, `--times`
times: medians are printed, and the median of the ratios with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from artwork_bandit.domain import (
    ActionSet,
    Choice,
    Decisions,
    ReplayBlock,
    instant,
    member_bucket,
)
from artwork_bandit.operations import catalog_import
from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.operations.reading import reading
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.priors import Priors
from artwork_bandit.store import catalog, migrate, requests
from artwork_bandit.store.engine import Connection, Store
from artwork_bandit.store.tables import rewards
from artwork_bandit.training import examples
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.conditioning import form_of
from artwork_bandit.training.survey import survey
from simulations.retrained import HOW, SLOT
from simulations.worlds import START, movielens, uniform_log

PART = 50_000
NOBODY = ("clicks", "rewatches", "abandons", "thumbs_up", "thumbs_down")
"""What did not follow."""


def fill(url: str, movielens_folder: Path, rows: int, page: int) -> None:
    """Make a database with a log of that many rows, in requests of `page` titles."""
    setting = movielens(movielens_folder, START, 300, 6, WorldSettings(), 1)
    store = Store(url)
    migrate.migrate(store)
    catalog_import.import_catalog(store, setting.titles, setting.variants, START, dry_run=False)
    rng = np.random.default_rng(1)
    for first in range(0, rows, PART):
        block = uniform_log(setting, min(PART, rows - first), rng, page).block
        with store.write() as connection:
            _insert(connection, block, first, page)
    store.close()


def _insert(connection: Connection, block: ReplayBlock, first: int, page: int) -> None:
    """Log a block as if it had been served and settled; no two requests are of one member."""
    revision = {
        v.variant_id: v.revision_id
        for v in catalog.by_ids(connection, {v for s in block.action_sets for v in s.variant_ids})
    }
    sets = []
    for each in block.action_sets:
        ids = tuple(revision[v] for v in each.variant_ids)
        number = ActionSet.identify(each.slot, each.title_id, ids)
        sets.append(dataclasses.replace(each, action_set_id=number, revision_ids=ids))
    requests.insert_action_sets(connection, sets)
    made: list[tuple[Decisions, str]] = []
    settled = []
    for start in range(0, len(block), page):
        request_id = f"r{first + start}"
        member = f"{block.member_ids[start]}-{first + start}"
        occurred_at = instant(int(block.occurred_at[start]) + first * 1_000_000)
        choices = []
        for position, i in enumerate(range(start, min(start + page, len(block)))):
            of, chosen = sets[block.set_of_row[i]], int(block.chosen[i])
            choice = Choice(
                title_id=of.title_id, variant_id=of.variant_ids[chosen], uri=None,
                propensity=float(block.propensity[i]), action_set_id=of.action_set_id, index=chosen,
            )  # fmt: skip
            choices.append(choice)
            reward = float(block.reward[i])
            settled.append(
                dict.fromkeys(NOBODY, 0) | {
                    "request_id": request_id, "position": position, "member_id": member,
                    "title_id": of.title_id, "slot": of.slot, "period": position,
                    "member_bucket": member_bucket(member), "occurred_at": occurred_at,
                    "confirm": "client", "cell": "explore", "policy": "uniform",
                    "model_version": None, "action_set_id": of.action_set_id, "chosen": chosen,
                    "variant_id": choice.variant_id, "propensity": choice.propensity,
                    "plays": int(reward), "seconds_watched": None, "watched_share": None,
                    "quality_play": int(reward), "reward": reward, "rule": SLOT.reward.version,
                    "settled_at": occurred_at,
                }
            )  # fmt: skip
        decisions = Decisions(
            request_id=request_id, member_id=member, slot=SLOT.name, occurred_at=occurred_at,
            period=0, cell="explore", policy="uniform", model_version=None, confirm="client",
            context=block.contexts[start], choices=tuple(choices),
        )  # fmt: skip
        made.append((decisions, request_id))
    requests.insert(connection, made)
    connection.execute(sa.insert(rewards), settled)


def prepared(url: str, folder: Path) -> tuple[str, int]:
    """Write the log's examples as training writes them; return VW's arguments for them and the size
    of its table."""
    source = ReplaySource.of(Store(url), None, SLOT.name)
    with reading(source) as log:
        found = survey(log, source.lookup, SLOT.reward.bounds)
        ageing = Ageing(half_life=HOW.half_life)
        form = form_of(Priors(), found, ageing)
        with Path(folder, "x.txt").open("w") as out:
            examples.write(out, log, source.lookup, found, form, SLOT, ageing)
    return f"{runner.ARGUMENTS} {form.interactions}", runner.bits(found.features)


def measured(url: str, folder: Path, rows: int, times: int, table: Table) -> None:
    """Add a row of figures."""
    arguments, bits = prepared(url, folder)
    line = [sys.executable, "-m", "simulations.retrained", url]
    wholes, alones, peaks = [], [], []
    for _ in range(times):
        begun = time.perf_counter()
        said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        wholes.append(time.perf_counter() - begun)
        peaks.append(float(said))
        begun = time.perf_counter()
        runner.train(folder / "x.txt", folder / "m.vw", arguments, 1, bits)
        alones.append(time.perf_counter() - begun)
    ratios = np.divide(wholes, alones)
    table.add_row(
        f"{rows:,}", f"{np.median(wholes):.1f} s", f"{np.median(alones):.1f} s",
        f"{np.median(ratios):.2f}x, {ratios.min():.2f} to {ratios.max():.2f} (goal 2.5)",
        f"{max(peaks):.0f} MB",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--times", type=int, default=3, help="each is measured")
    parser.add_argument("--page", type=int, default=10, help="titles in a request; 1 is the worst")
    arguments = parser.parse_args()
    table = Table(title=f"From SQL to a trained model, {arguments.page} titles a request")
    for name in ("decisions", "whole", "VW alone", "ratio", "peak memory"):
        table.add_column(name, justify="right")
    for rows in (int(text) for text in arguments.rows.split(",")):
        with tempfile.TemporaryDirectory(prefix="artwork-bandit-") as folder:
            url = f"sqlite:///{folder}/log.db"
            fill(url, arguments.movielens, rows, arguments.page)
            measured(url, Path(folder), rows, arguments.times, table)
    Console().print(table)


if __name__ == "__main__":
    main()
