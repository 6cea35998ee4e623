"""The demo: a catalogue with drawn pictures, the real server, and an audience that drives it.

The audience's tastes are known here and nowhere else; the service sees HTTP only. Tastes matter
more than they may in life (beta 1.0), so that learning shows within minutes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from artwork_bandit.comparison.cells import CellComparison, compare
from artwork_bandit.domain import Title, Variant
from artwork_bandit.errors import ArtworkBanditError
from artwork_bandit.operations import audience, catalog_import, demo_catalog, drawing
from artwork_bandit.operations.audience import World, WorldSettings
from artwork_bandit.operations.history_import import import_history
from artwork_bandit.operations.imports import Changes
from artwork_bandit.operations.server_process import command, free_port, serving
from artwork_bandit.operations.visitor import Visitor
from artwork_bandit.settings import LIVE, Settings
from artwork_bandit.store import cells, migrate
from artwork_bandit.store.engine import Store

MEMBERS = 3_000
PLAYS_BEFORE = 20
TITLES_PER_PAGE = 24
TRAILER_EVERY = 4
"""Every so many visits the member also browses trailers."""
SHARES = {"explore": 0.3, "baseline": 0.1, "live": 0.6}
WORLD = WorldSettings(base=-2.2, beta=1.0, quality_sd=0.2, composition_sd=0.15)
FIRST_TRAINING, TRAINING_EVERY = 900, 800
"""Visits before the first training, and between trainings. Of fewer than some 800 the newest
quarter, of as many members as visits, is refused as too few to judge a model."""
VISITS_AFTER, MOST_VISITS = 2_000, 5_000
"""Visits of a bounded run after the first model has gone live, so that its verdict is one look, not
the luckiest of many; and in all, if none does."""
VISITORS = 2
REFRESH_SECONDS = 2.0
LINE_EVERY = 4
"""Refreshes between two lines of a bounded run."""


@dataclass(slots=True)
class Progress:
    """What the drivers have done so far."""

    once: bool
    visits: int = 0
    impressions: int = 0
    trainings: list[str] = field(default_factory=list)
    live_at: int | None = None
    """Visits before the first artwork model went live."""
    error: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: threading.Event = field(default_factory=threading.Event)
    """Whether members may come: while `once` trains, they wait, as on a machine that is quick."""

    @property
    def enough(self) -> bool:
        """Whether a bounded run has come to its end: so long after the first model went live, told
        beforehand, or all who look would see it ahead at some moment."""
        last = MOST_VISITS if self.live_at is None else self.live_at + VISITS_AFTER
        return self.once and self.visits >= last


def run(*, once: bool, folder: Path | None, port: int | None, seed: int) -> bool:
    """Run the demo; return whether the live cell was ahead of the explore cell at the end."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="artwork-bandit-demo-")
            folder = Path(stack.enter_context(temporary))
        folder.mkdir(parents=True, exist_ok=True)
        console = Console(force_terminal=False if once else None)
        chosen = Settings(
            database_url=f"sqlite:///{folder.absolute() / 'demo.db'}",
            media_dir=str(folder.absolute() / "media"),
            port=port or free_port(8800 if port is None else 0),
            attribution_window_seconds=2.0,
            period_seconds=600.0,
            demo_homepage=LIVE,
        )
        store = Store(chosen.database_url)
        stack.callback(store.close)
        console.print("Setting up: database, catalogue, pictures, members ...")
        titles, world = set_up(store, chosen, seed)
        stack.enter_context(serving(chosen, folder / "server.log"))
        address = f"http://{chosen.host}:{chosen.port}/"
        console.print(f"The page is at [bold]{address}[/]" + ("" if once else "  (Ctrl+C stops)"))
        console.print(f"A homepage as a member sees it: [bold]{address}demo[/]")
        return _drive(console, chosen, store, titles, world, seed, once)


def set_up(store: Store, chosen: Settings, seed: int) -> tuple[list[Title], World]:
    """Migrate, import the catalogue and the members' history, draw the pictures."""
    now = dt.datetime.now(dt.UTC)
    migrate.migrate(store)
    titles, variants = demo_catalog.load(seed)
    catalog_import.import_catalog(store, titles, variants, now, dry_run=False)
    _draw(variants, {t.title_id: t.name for t in titles}, Path(chosen.media_dir))
    rng = np.random.default_rng([seed, 1])
    tastes = audience.invent_tastes(titles, MEMBERS, rng)
    history = audience.invent_history(titles, tastes, PLAYS_BEFORE, now, rng)
    half_life = dt.timedelta(days=chosen.profile_half_life_days)
    import_history(store, history, half_life, now, dry_run=False, changes=Changes())
    with store.write() as connection:
        cells.set_shares(connection, SHARES)
    return titles, World(variants, tastes, WORLD, rng)


def _draw(variants: list[Variant], names: dict[str, str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for variant in variants:
        text = drawing.draw(variant, names[variant.title_id])
        (folder / f"{variant.variant_id}.svg").write_text(text, "utf-8")


def _drive(
    console: Console, chosen: Settings, store: Store, titles: list[Title], world: World,
    seed: int, once: bool,
) -> bool:  # fmt: skip
    progress, stop = Progress(once=once), threading.Event()
    progress.open.set()
    threads = [
        threading.Thread(
            target=_visit_until, args=(stop, progress, chosen, titles, world, [seed, 2, i])
        )
        for i in range(VISITORS)
    ]
    threads.append(threading.Thread(target=_train_until, args=(stop, progress, chosen)))
    for thread in threads:
        thread.start()
    try:
        with _display(console, once) as show:
            while not stop.wait(REFRESH_SECONDS) and progress.error is None:
                show(progress, store)
                if progress.enough:
                    break
                if not all(thread.is_alive() for thread in threads):
                    progress.error = progress.error or "a simulated visitor crashed, see above"
    except KeyboardInterrupt:
        console.print("stopping ...")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if progress.error is not None:
        raise ArtworkBanditError(progress.error)
    _train(chosen, "artwork", progress)  # joins the last outcomes
    final = _compare(store)
    console.print(_summary(progress, final))
    return _is_ahead(final)


def _visit_until(
    stop: threading.Event, progress: Progress, chosen: Settings, titles: list[Title],
    world: World, seed: list[int],
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    visitor = Visitor(chosen.host, chosen.port, world, rng)
    ids = [t.title_id for t in titles]
    with_trailers = ids[: demo_catalog.TITLES_WITH_TRAILERS]
    try:
        while not stop.is_set():
            if progress.enough or not progress.open.wait(0.1):
                stop.wait(0.1)
                continue
            member = int(rng.integers(len(world.members)))
            page = [ids[i] for i in rng.choice(len(ids), TITLES_PER_PAGE, replace=False)]
            seen = len(visitor.visit(member, "artwork", page).rows)
            if progress.visits % TRAILER_EVERY == 0:
                seen += len(visitor.visit(member, "trailer", with_trailers).rows)
            with progress.lock:
                progress.visits += 1
                progress.impressions += seen
    except ArtworkBanditError as error:
        progress.error = progress.error or str(error)
    finally:
        visitor.close()


def _train_until(stop: threading.Event, progress: Progress, chosen: Settings) -> None:
    due = FIRST_TRAINING
    try:
        while not stop.wait(0.2):
            if progress.visits >= due and not progress.enough:
                if progress.once:
                    progress.open.clear()
                for slot in ("artwork", "trailer"):
                    _train(chosen, slot, progress)
                due = progress.visits + TRAINING_EVERY
                progress.open.set()
    except ArtworkBanditError as error:
        progress.error = progress.error or str(error)


def _train(chosen: Settings, slot: str, progress: Progress) -> None:
    """Run the real `train` command in a process of its own; note what it said."""
    arguments, environment = command(chosen, "train", "--slot", slot, "--tune", "never", "--json")
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        progress.trainings.append(f"{slot}: {said[-1] if said else 'training failed'}")
        return
    outcome = json.loads(done.stdout)
    verdict = outcome["verdict"]
    if verdict == "live" and slot == "artwork" and progress.live_at is None:
        progress.live_at = progress.visits
    progress.trainings.append(
        f"{slot} model {outcome['version']} ({outcome['rows']:,} rows) {verdict}: "
        f"{outcome['reason']}"
    )


def _compare(store: Store) -> CellComparison:
    with store.read() as connection:
        return compare(connection, "artwork", None, None)


def _is_ahead(found: CellComparison) -> bool:
    live = next(row for row in found.cells if row.cell == "live")
    return found.since is not None and live.lift_lower is not None and live.lift_lower > 0


@contextlib.contextmanager
def _display(console: Console, once: bool) -> Iterator[Callable[[Progress, Store], None]]:
    """Give a function that shows progress: in place on a terminal, else a line now and then."""
    if console.is_terminal and not once:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda progress, store: live.update(_panel(progress, _compare(store)))
        return
    seen = itertools.count()
    told = 0

    def line(progress: Progress, store: Store) -> None:
        nonlocal told
        if next(seen) % LINE_EVERY == 0:
            console.print(_line(progress, _compare(store)), highlight=False)
        for text in progress.trainings[told:]:
            console.print(f"  {text}", highlight=False)
            told += 1

    yield line


def _line(progress: Progress, found: CellComparison) -> str:
    rates = ", ".join(
        f"{row.cell} {row.take_fraction.rate:.4f}"
        for row in found.cells
        if row.take_fraction.rate is not None
    )
    if not progress.trainings:
        rates = "collecting uniform choices"
    return f"{progress.impressions:>8,} impressions | {rates or 'no outcomes yet'}"


def _panel(progress: Progress, found: CellComparison) -> Group:
    head = Text(f"{progress.visits:,} pages, {progress.impressions:,} impressions", "bold")
    since = "before any model" if found.since is None else "since the first model went live"
    table = Table(title=f"Take fraction (quality plays per impression), {since}")
    for title in ("cell", "counted", "take fraction", "95% interval", "against explore"):
        table.add_column(title, justify="left" if title == "cell" else "right")
    for row in found.cells:
        rate = row.take_fraction
        table.add_row(
            row.cell,
            f"{rate.count:,}",
            "-" if rate.rate is None else f"{rate.rate:.4f}",
            "-" if rate.lower is None else f"{rate.lower:.4f} to {rate.upper:.4f}",
            "-" if row.lift is None else f"{row.lift:+.1%}",
        )
    trainings = [Text(text, "dim") for text in progress.trainings[-4:]]
    return Group(head, table, *trainings, _verdict(found))


def _verdict(found: CellComparison) -> Text:
    live = next(row for row in found.cells if row.cell == "live")
    if found.since is None:
        return Text("No model is live yet: every cell but the baseline chooses at random.")
    if live.lift is None:
        return Text("A model has gone live, and nothing that it chose has been counted yet.")
    interval = f"{live.lift:+.1%} (95% interval {live.lift_lower:+.1%} to {live.lift_upper:+.1%})"
    if _is_ahead(found):
        return Text(f"The live cell is ahead of the explore cell by {interval}.", "green")
    return Text(f"Live against explore: {interval}. Not told apart yet.", "yellow")


def _summary(progress: Progress, found: CellComparison) -> Group:
    earlier = [Text(text, "dim") for text in progress.trainings[:-4]]
    return Group(*earlier, _panel(progress, found))
