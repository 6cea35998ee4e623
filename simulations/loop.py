"""The whole loop over HTTP, with the 610 real members of a MovieLens folder as the audience.

    python -m simulations.loop --movielens DIR [--pages 5000] [--database URL] [--seed 1]

Their ratings are imported with `artwork-bandit history import --movielens`; 300 of their films get
six invented variants each; the response model is `operations.audience`'s with beta 0.5. Members
open pages of 20 films on the real server; `artwork-bandit train` runs in between. Prints what each
policy earned per impression on the pages after the last training: the truth of every policy on the
very impressions of the live cell, and what was realised in the cells, with 95% intervals clustered
by member. Members here have few titles left to see, so a draw period is short.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from artwork_bandit.domain import Floats, member_bucket
from artwork_bandit.estimators import BucketSums, estimate
from artwork_bandit.estimators.ips import IPS
from artwork_bandit.estimators.proportion import proportion
from artwork_bandit.operations import catalog_import
from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.operations.server_process import command, free_port, serving
from artwork_bandit.operations.visitor import Visit, Visitor
from artwork_bandit.settings import Settings
from artwork_bandit.store import cells, migrate
from artwork_bandit.store.engine import Store
from simulations.worlds import Setting, movielens

TITLES, PER_TITLE, PAGE = 300, 6, 20
SHARES = {"explore": 0.3, "baseline": 0.05, "live": 0.65}
TRAININGS = (0.2, 0.4, 0.7)
"""Shares of the pages after which a model is trained."""


@dataclass(slots=True)
class Tally:
    """What happened on the pages after the last training."""

    visits: list[Visit] = field(default_factory=list)

    def of_cell(self, cell: str) -> list[Visit]:
        return [visit for visit in self.visits if visit.cell == cell]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=5000)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--database", help="default: a new SQLite file")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="artwork-bandit-loop-") as folder:
        settings = Settings(
            database_url=arguments.database or f"sqlite:///{folder}/loop.db",
            port=free_port(8801),
            attribution_window_seconds=2.0,
            period_seconds=60.0,
        )
        store = Store(settings.database_url)
        migrate.migrate(store)
        setting = _set_up(console, store, settings, arguments)
        with serving(settings, Path(folder, "server.log")):
            tally = _drive(console, settings, setting, arguments.pages, arguments.seed)
        store.close()
    console.print(_table(setting, tally))


def _set_up(
    console: Console, store: Store, settings: Settings, arguments: argparse.Namespace
) -> Setting:
    console.print("importing the members' ratings ...")
    now = dt.datetime.now(dt.UTC)
    world = WorldSettings(beta=arguments.beta)
    setting = movielens(arguments.movielens, now, TITLES, PER_TITLE, world, arguments.seed)
    _run(settings, "history", "import", "--movielens", str(arguments.movielens))
    catalog_import.import_catalog(store, [], setting.variants, now, dry_run=False)
    with store.write() as connection:
        cells.set_shares(connection, SHARES)
    return setting


def _drive(console: Console, settings: Settings, setting: Setting, pages: int, seed: int) -> Tally:
    rng = np.random.default_rng([seed, 3])
    visitor = Visitor(settings.host, settings.port, setting.world, rng)
    ids = [t.title_id for t in setting.titles]
    due = [int(share * pages) for share in TRAININGS]
    tally = Tally()
    with Progress(console=console) as progress:
        task = progress.add_task("pages", total=pages)
        for number in range(pages):
            if number in due:
                progress.console.print(_run(settings, "train", "--json"))
                tally = Tally()
            member = int(rng.integers(len(setting.world.members)))
            page = [ids[i] for i in rng.choice(len(ids), PAGE, replace=False)]
            tally.visits.append(visitor.visit(member, "artwork", page))
            progress.advance(task)
    visitor.close()
    return tally


def _run(settings: Settings, *arguments: str) -> str:
    """Run a real command; return a line of what it said."""
    line, environment = command(settings, *arguments)
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if arguments[0] != "train":
        done.check_returncode()
        return done.stdout
    if done.returncode:
        return done.stderr.strip()
    said = json.loads(done.stdout)
    verdict = said["verdict"]
    return f"model {said['version']} ({said['rows']:,} rows) {verdict}: {said['reason']}"


def _table(setting: Setting, tally: Tally) -> Table:
    world = setting.world
    by_title: dict[str, list[int]] = {}
    for row, title in enumerate(world.title_of):
        by_title.setdefault(title, []).append(row)
    everyone = np.mean(
        [world.probabilities(m, range(len(world.title_of))) for m in range(len(world.members))],
        axis=0,
    )
    best = {t: rows[int(np.argmax(everyone[rows]))] for t, rows in by_title.items()}
    columns: dict[str, list[Floats]] = {}
    buckets: list[int] = []
    for visit in tally.of_cell("live"):
        titles = [world.title_of[row] for row in visit.rows]
        options = np.array([world.probabilities(visit.member, by_title[t]) for t in titles])
        columns.setdefault("uniform", []).append(options.mean(axis=1))
        single = world.probabilities(visit.member, [best[t] for t in titles])
        columns.setdefault("best single variant (known)", []).append(single)
        columns.setdefault("live", []).append(world.probabilities(visit.member, visit.rows))
        columns.setdefault("contextual oracle", []).append(options.max(axis=1))
        buckets += [member_bucket(world.members[visit.member])] * len(titles)
    table = Table(title="Quality plays per impression after the last training (95% intervals)")
    for name in ("policy", "true value, same impressions", "over uniform", "realised in its cell"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    for name, values in found.items():
        cell = {"uniform": "explore", "live": "live"}.get(name)
        table.add_row(
            name,
            _mean(values, buckets),
            _mean(values - found["uniform"], buckets, signed=True),
            "" if cell is None else _realised(world.members, tally.of_cell(cell)),
        )
    captured = (found["live"] - found["uniform"]).mean()
    headroom = (found["contextual oracle"] - found["uniform"]).mean()
    table.caption = f"live captures {captured / headroom:.0%} of the headroom, exploration included"
    return table


def _mean(values: Floats, buckets: list[int], *, signed: bool = False) -> str:
    columns = np.stack([values, np.ones(len(values))], axis=1)
    found = estimate(IPS(), BucketSums.of(columns, np.array(buckets)))
    sign = "+" if signed else ""
    return f"{found.estimate:{sign}.4f} ({found.lower:{sign}.4f} to {found.upper:{sign}.4f})"


def _realised(members: list[str], visits: list[Visit]) -> str:
    counts, plays = np.zeros(256), np.zeros(256)
    for visit in visits:
        bucket = member_bucket(members[visit.member])
        counts[bucket] += len(visit.rows)
        plays[bucket] += sum(visit.played)
    rate = proportion(counts, plays)
    return f"{rate.rate:.4f} ({rate.lower:.4f} to {rate.upper:.4f})"


if __name__ == "__main__":
    main()
