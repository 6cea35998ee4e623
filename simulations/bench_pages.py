"""How long do the pages take on a large log, and how far behind are they?

    python -m simulations.bench_pages [--impressions 10000000] [--titles 10000] [--postgresql]

Makes a catalogue and four weeks of decisions (titles are Zipf, members have one of eight tastes,
most are served by a policy that knows them), rolls them up as the worker does, sums the titles up,
and asks a server in this process for each page, `--times` times. Printed are the median and the
slowest, the bytes that leave, and what rolling up and summing up took. Roll-ups are never behind:
they are made in the transaction of the rewards; verdicts are behind by one summing-up.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from artwork_bandit.domain import ActionSet, Context, Title, Variant, member_bucket, microseconds
from artwork_bandit.operations.summing import sum_up
from artwork_bandit.settings import Settings
from artwork_bandit.slots import slot_named
from artwork_bandit.store import catalog, migrate, resumming, rollups
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.columns import Instant
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import requests, rewards
from artwork_bandit.web.app import create_app
from simulations.database import postgresql

TASTES, MEMBERS, DAYS, PAGE = 8, 200_000, 28, 24
FLOOR = 0.05
CELLS = ("explore", "baseline", "live")
CELL_SHARES = (0.1, 0.05, 0.85)
BATCH = 5_000
GENRES = ("Comedies", "Dramas", "Horror", "Crime", "Kids", "Anime", "Docuseries", "Romance")
COMPOSITIONS = ("close-up", "ensemble", "scenery", "object")
RULE = slot_named("artwork").reward.version
NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
AT_ONCE = 40
"""Batches in a transaction."""
MEASURED = 40
_REWARD = [column.name for column in rewards.c]


def invent(titles: int, per_title: int = 6) -> tuple[list[Title], list[Variant]]:
    """Return a catalogue."""
    rng = np.random.default_rng(1)
    made, variants = [], []
    for t in range(titles):
        genres = tuple(rng.choice(GENRES, 2, replace=False).tolist())
        made.append(Title(title_id=f"t{t:05d}", name=f"Title {t}", genres=genres))
        variants += [
            Variant(
                variant_id=f"t{t:05d}-{v}", title_id=f"t{t:05d}", slot="artwork",
                uri=f"https://cdn.example/t{t:05d}-{v}.jpg", is_default=v == 0,
                features={
                    "genre": genres[v % 2], "composition": COMPOSITIONS[rng.integers(4)],
                    "faces": int(rng.integers(4)),
                },
            )
            for v in range(per_title)
        ]  # fmt: skip
    return made, variants


def fill(
    store: Store, titles: Sequence[Title], variants: Sequence[Variant], impressions: int,
    days: int = DAYS, now: dt.datetime = NOW, measured: int = 10**9,
) -> float:  # fmt: skip
    """Write a log and roll it up; return the median seconds of rolling up a batch.

    The last `measured` batches are rolled up as the worker does it; those before as `rollups
    rebuild` does, which comes to the same (`tests/store`) and takes minutes instead of an hour.
    """
    with store.write() as connection:
        catalog.put_titles(connection, titles, now)
        catalog.put_variants(connection, variants, now)
        stored = catalog.list_variants(connection, slot="artwork")
    by_title: dict[str, list[Variant]] = {}
    for variant in stored:
        by_title.setdefault(variant.title_id, []).append(variant)
    sets = []
    for title_id, some in sorted(by_title.items()):
        ids = tuple(v.revision_id for v in some)
        sets.append(
            ActionSet(
                action_set_id=ActionSet.identify("artwork", title_id, ids, 0), title_id=title_id,
                slot="artwork", revision_ids=ids,
                variant_ids=tuple(v.variant_id for v in some), default=0,
            )
        )  # fmt: skip
    with store.write() as connection:
        request_store.insert_action_sets(connection, sets)
    batches = -(-impressions // BATCH)
    bulk, seconds = max(batches - measured, 0), []
    made = track(_batches(sets, impressions, days, now), "writing a log", total=batches)
    for _, some in itertools.groupby(enumerate(made), lambda each: each[0] // AT_ONCE):
        with store.write() as connection:
            if store.dialect == "sqlite":
                connection.exec_driver_sql("PRAGMA cache_size=-1500000")
            for number, batch in some:
                if number == bulk and bulk:
                    resumming.rebuild(connection)
                asked = {row["request_id"]: row for row in batch}
                _write(connection, requests, [_request(row) for row in asked.values()])
                _write(connection, rewards, [{n: r[n] for n in _REWARD} for r in batch])
                if number >= bulk:
                    start = time.perf_counter()
                    rollups.add(connection, batch, batch)
                    seconds.append(time.perf_counter() - start)
    if store.dialect == "postgresql":
        with store.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")
    return statistics.median(seconds)


def _write(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows as fast as the database takes them."""
    names = list(rows[0])
    kinds = [table.c[name].type for name in names]
    instants = [i for i, kind in enumerate(kinds) if isinstance(kind, Instant)]
    values = [list(row.values()) for row in rows]
    for row in values:
        for i in instants:
            row[i] = microseconds(row[i])
    connection.execute(sa.select(1))  # a transaction that will be committed
    cursor = connection.connection.cursor()
    listed = ", ".join(names)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(names))
        cursor.executemany(f"INSERT INTO {table.name} ({listed}) VALUES ({marks})", values)
        return
    with cursor.copy(f"COPY {table.name} ({listed}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)


def _batches(
    sets: Sequence[ActionSet], impressions: int, days: int, now: dt.datetime
) -> Iterator[list[dict[str, Any]]]:
    rng = np.random.default_rng(2)
    size = np.array([len(s.variant_ids) for s in sets])
    most = int(size.max())
    weight = 1 / (10 + np.arange(len(sets)))
    popular = np.cumsum(weight / weight.sum())
    quality = rng.normal(0, 0.15, (len(sets), most))
    effect = rng.normal(0, 0.45, (len(sets), TASTES, most))
    there = np.arange(most) < size[:, None]
    logit = -2.2 + quality[:, None, :] + effect
    best = np.where(there[:, None, :], logit, -np.inf).argmax(axis=2)
    taste = rng.integers(TASTES, size=MEMBERS)
    cell = rng.choice(len(CELLS), MEMBERS, p=CELL_SHARES)
    eager = rng.normal(0, 0.4, MEMBERS) + rng.normal(0, 0.5, TASTES)[taste]
    names = [f"m{i}" for i in range(MEMBERS)]
    bucket = [member_bucket(name) for name in names]
    for done in range(0, impressions, BATCH):
        n = min(BATCH, impressions - done)
        at = now - dt.timedelta(days=days * (1 - done / impressions) + 1)
        page = np.arange(n) // PAGE
        member = rng.integers(MEMBERS, size=page[-1] + 1)[page]
        title = np.minimum(np.searchsorted(popular, rng.random(n)), len(sets) - 1)
        k, group = size[title], taste[member]
        even = (rng.random(n) * k).astype(int)
        wanted = best[title, group]
        explores = (cell[member] == 0) | ((cell[member] == 2) & (rng.random(n) < FLOOR))
        shown = np.where(cell[member] == 1, 0, np.where(explores, even, wanted))
        p_live = FLOOR / k + (1 - FLOOR) * (shown == wanted)
        propensity = np.choose(cell[member], [1 / k, np.ones(n), p_live]).tolist()
        chance = 1 / (1 + np.exp(-logit[title, group, shown] - eager[member]))
        played = (rng.random(n) < chance).astype(int).tolist()
        columns = (x.tolist() for x in (page, member, title, shown, group, cell[member]))
        yield [
            {
                "request_id": f"{done + p:016x}", "position": i % PAGE, "member_id": names[m],
                "title_id": sets[t].title_id, "slot": "artwork", "period": done + i,
                "member_bucket": bucket[m], "occurred_at": at, "confirm": "client",
                "cell": CELLS[c], "policy": "squarecb", "model_version": 1 if c == 2 else None,
                "action_set_id": sets[t].action_set_id, "chosen": s,
                "variant_id": sets[t].variant_ids[s], "propensity": propensity[i],
                "clicks": played[i], "plays": played[i], "rewatches": 0, "abandons": 0,
                "thumbs_up": 0, "thumbs_down": 0, "seconds_watched": None,
                "watched_share": None, "quality_play": played[i], "reward": float(played[i]),
                "rule": RULE, "settled_at": at, "taste": g,
            }
            for i, (p, m, t, s, g, c) in enumerate(zip(*columns, strict=True))
        ]  # fmt: skip


def _request(row: dict[str, Any]) -> dict[str, Any]:
    context = Context(
        device=("tv", "phone", "web")[row["period"] % 3], country="US", hour=20,
        genres={GENRES[row["taste"]]: 3.0},
    )  # fmt: skip
    names = ("request_id", "member_id", "slot", "occurred_at", "period", "cell", "policy",
             "model_version", "confirm")  # fmt: skip
    return {name: row[name] for name in names} | {
        "fingerprint": "", "context": msgspec.json.encode(context).decode(), "choices": b"\x90",
    }  # fmt: skip


def measure(settings: Settings, times: int, busiest: str, middling: str) -> list[tuple[str, ...]]:
    """Return (page, median, slowest, kilobytes) of each page."""
    app = create_app(settings)
    found = []
    paths = [
        "/", "/?search=title+99", "/?verdict=Winner&sort=gain", "/?page=100",
        f"/titles/{busiest}", f"/titles/{middling}", f"/titles/{busiest}?by=taste",
        f"/titles/{middling}?by=taste", "/policies", "/features",
    ]  # fmt: skip
    with app.test_client() as client:
        for path in paths:
            seconds, sent = [], 0
            for _ in range(times):
                start = time.perf_counter()
                answer = client.get(
                    path, headers={"Accept-Encoding": "gzip", "Accept": "text/html"}
                )
                sent = len(answer.data)
                seconds.append(time.perf_counter() - start)
                assert answer.status_code == 200, path
            found.append(
                (
                    path, f"{1000 * statistics.median(seconds):,.0f} ms",
                    f"{1000 * max(seconds):,.0f} ms", f"{sent / 1000:.1f} kB",
                )
            )  # fmt: skip
    app.extensions["artwork_bandit"].service.close()
    return found


def run(url: str, impressions: int, titles: int, times: int) -> None:
    """Print the table for one database."""
    console = Console()
    store = Store(url)
    migrate.migrate(store)
    made, variants = invent(titles)
    rolling = fill(store, made, variants, impressions, measured=MEASURED)
    settings = Settings(database_url=url, reload_seconds=3600)
    start = time.perf_counter()
    summed = sum_up(store, "artwork", settings, NOW, most_seconds=1e9)
    summing = time.perf_counter() - start
    table = Table(title=f"{store.dialect}: {impressions:,} impressions of {titles:,} titles")
    for name in ("page", "median", "slowest", "sent, compressed"):
        table.add_column(name, justify="left" if name == "page" else "right")
    for row in measure(settings, times, made[0].title_id, made[len(made) // 2].title_id):
        table.add_row(*row)
    console.print(table)
    console.print(
        f"rolling up: {1000 * rolling:.0f} ms per {BATCH:,} rewards; "
        f"summing up: {summed:,} titles in {summing:.1f} s, {1000 * summing / summed:.1f} ms each; "
        f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impressions", type=int, default=10_000_000)
    parser.add_argument("--titles", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--postgresql", action="store_true", help="on PostgreSQL, not SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as server:
        url = f"sqlite:///{Path(folder) / 'pages.db'}"
        if options.postgresql:
            url = server.enter_context(postgresql(Path(folder) / "postgresql")).url
        run(url, options.impressions, options.titles, options.times)


if __name__ == "__main__":
    main()
