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
import resource
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from artwork_bandit.domain import ActionSet, Context, Title, Variant, member_bucket
from artwork_bandit.operations.summing import sum_up
from artwork_bandit.settings import Settings
from artwork_bandit.store import catalog, migrate, rollups
from artwork_bandit.store import requests as request_store
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
NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)


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
    days: int = DAYS, now: dt.datetime = NOW,
) -> tuple[float, float]:  # fmt: skip
    """Write a log and roll it up; return the seconds that rolling up took, and all of it."""
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
    begun, rolling = time.perf_counter(), 0.0
    with store.write() as connection:
        request_store.insert_action_sets(connection, sets)
    for batch in track(
        _batches(sets, impressions, days, now), "rolling up", total=-(-impressions // BATCH)
    ):
        with store.write() as connection:
            asked = {row["request_id"]: row for row in batch}
            connection.execute(sa.insert(requests), [_request(row) for row in asked.values()])
            connection.execute(
                sa.insert(rewards), [{k: v for k, v in r.items() if k != "taste"} for r in batch]
            )
            start = time.perf_counter()
            rollups.add(connection, batch, batch)
            rolling += time.perf_counter() - start
    return rolling, time.perf_counter() - begun


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
    bucket = [member_bucket(f"m{i}") for i in range(MEMBERS)]
    done = 0
    while done < impressions:
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
        propensity = np.choose(cell[member], [1 / k, np.ones(n), p_live])
        chance = 1 / (1 + np.exp(-logit[title, group, shown] - eager[member]))
        played = (rng.random(n) < chance).astype(int).tolist()
        ids = [uuid.UUID(bytes=rng.bytes(16)).hex for _ in range(page[-1] + 1)]
        yield [
            {
                "request_id": ids[page[i]], "position": i % PAGE, "member_id": f"m{member[i]}",
                "title_id": sets[title[i]].title_id, "slot": "artwork",
                "period": done + i, "member_bucket": bucket[member[i]], "occurred_at": at,
                "confirm": "client", "cell": CELLS[cell[member[i]]],
                "policy": "squarecb", "model_version": 1 if cell[member[i]] == 2 else None,
                "action_set_id": sets[title[i]].action_set_id, "chosen": int(shown[i]),
                "variant_id": sets[title[i]].variant_ids[shown[i]],
                "propensity": float(propensity[i]), "clicks": played[i], "plays": played[i],
                "rewatches": 0, "abandons": 0, "thumbs_up": 0, "thumbs_down": 0,
                "seconds_watched": None, "watched_share": None, "quality_play": played[i],
                "reward": float(played[i]), "rule": "bench", "settled_at": at,
                "taste": int(group[i]),
            }
            for i in range(n)
        ]  # fmt: skip
        done += n


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
    rolling, whole = fill(store, made, variants, impressions)
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
    batches = impressions / BATCH
    console.print(
        f"rolling up: {1000 * rolling / batches:.0f} ms per {BATCH:,} rewards "
        f"({rolling / whole:.0%} of writing them), {impressions / rolling:,.0f} rewards/s; "
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
