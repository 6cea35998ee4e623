"""The commands that run the service: demo, migrate, serve, cells, config."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from artwork_bandit.cli.options import (
    FOLDER,
    SEED,
    editor_at,
    json_flag,
    open_store,
    print_json,
)
from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.settings import Settings

if TYPE_CHECKING:
    from artwork_bandit.store.spool import Spool


@click.command()
@click.option("--once", is_flag=True, help="Run bounded, without a terminal; exit 0 if it learned.")
@click.option("--folder", type=FOLDER, help="Keep the database and pictures here.")
@click.option("--port", type=int, help="Port of the web page.  [default: 8800 or the next free]")
@click.option("--seed", type=SEED, default=1, show_default=True)
@click.pass_context
def demo(
    ctx: click.Context, once: bool, folder: Path | None, port: int | None, seed: int
) -> None:  # fmt: skip
    """Everything, on SQLite, with a simulated audience."""
    from artwork_bandit.operations.demo import run

    if ctx.parent is not None and any(value is not None for value in ctx.parent.params.values()):
        raise click.UsageError(
            "the demo makes a database of its own, and settings: it goes without --database and "
            "--config; --folder says where to keep them"
        )

    sys.exit(0 if run(once=once, folder=folder, port=port, seed=seed) else 1)


@click.command()
@json_flag
@click.pass_obj
def migrate(load: Callable[..., Settings], as_json: bool) -> None:
    """Bring the database to this release."""
    from artwork_bandit.store import migrate as migration
    from artwork_bandit.store.engine import Store

    before, after = migration.migrate(Store(load().database_url))
    if as_json:
        print_json({"before": before, "after": after})
        return
    click.echo(
        f"database is at {after}" + ("" if before == after else f", was {before or 'empty'}")
    )


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: 8800]")
@click.option("--workers", type=int, help="Processes.  [default: 1 on SQLite, 2 on PostgreSQL]")
@click.pass_obj
def serve(
    load: Callable[..., Settings], host: str | None, port: int | None, workers: int | None
) -> None:
    """Answer over HTTP until told to stop."""
    from artwork_bandit.operations.rules import slot_of
    from artwork_bandit.slots import SLOTS
    from artwork_bandit.web.server import serve as run

    chosen = load(host=host, port=port, workers=workers)
    for name in SLOTS:
        slot_of(chosen, name)  # its reward rule is one, or who joins rewards would find out later
    try:
        open_store(chosen).close()
    except StoreUnavailable as error:  # it may be back before anybody asks
        click.echo(f"questions are answered with 503 as long as {error}", err=True)
    run(chosen)


@click.command()
@click.option("--once", is_flag=True, help="Do what is due and end: for a scheduler of yours.")
@json_flag
@click.pass_obj
def worker(load: Callable[..., Settings], once: bool, as_json: bool) -> None:
    """Join rewards, train, demote, drain the spool: on a schedule, until told to stop."""
    import signal
    import threading

    from artwork_bandit.operations.worker import Worker
    from artwork_bandit.store import clock
    from artwork_bandit.web.logs import configure

    chosen = load()
    configure("warning" if once else chosen.log_level)
    store = open_store(chosen)
    made = Worker(store, chosen)
    if once:
        try:
            done = made.once(clock.of(store))
        finally:
            made.close()
        if as_json:
            print_json({"leads": done is not None, "done": [asdict(d) for d in done or ()]})
            sys.exit(any(each.failed for each in done or ()))
        click.echo("another worker leads: nothing done" if done is None else "done:")
        for each in done or ():
            click.echo(f"  {each.slot}: joined {each.joined:,} rewards")
            waits = None if each.trained or each.waits is None else f"not trained: {each.waits}"
            failed = each.failed and f"failed: {each.failed}"
            for said in (each.demoted, each.decided, each.trained, waits, failed):
                if said:
                    click.echo(f"  {each.slot}: {said}")
        sys.exit(any(each.failed for each in done or ()))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        made.run(stopped, lambda: clock.of(store))
    finally:
        made.close()


def _switch(
    load: Callable[..., Settings], slot: str | None, paused: bool, reason: str, as_json: bool
) -> None:  # fmt: skip
    from artwork_bandit.slots import SLOTS, slot_named

    names = list(SLOTS) if slot is None else [slot_named(slot).name]
    with open_store(load()).write() as connection:
        editor = editor_at(connection)
        changed = [name for name in names if editor.switch(name, paused, reason) is not None]
    if as_json:
        print_json({"slots": names, "changed": changed, "paused": paused, "reason": reason})
        return
    what = "paused: everybody gets the default" if paused else "going on"
    for name in names:
        told = (
            f"{what}, within seconds"
            if name in changed
            else f"was {'' if paused else 'not '}paused"
        )
        click.echo(f"{name}: {told}")


@click.command()
@click.option("--slot", help="Only this slot.  [default: all]")
@click.option("--reason", default="by hand", show_default=True, help="Kept with the switch.")
@json_flag
@click.pass_obj
def pause(
    load: Callable[..., Settings], slot: str | None, reason: str, as_json: bool
) -> None:  # fmt: skip
    """Kill switch: everybody gets the default picture, logged as such, until `resume`."""
    _switch(load, slot, True, reason, as_json)


@click.command()
@click.option("--slot", help="Only this slot.  [default: all]")
@click.option("--reason", default="by hand", show_default=True, help="Kept with the switch.")
@json_flag
@click.pass_obj
def resume(
    load: Callable[..., Settings], slot: str | None, reason: str, as_json: bool
) -> None:  # fmt: skip
    """End a pause."""
    _switch(load, slot, False, reason, as_json)


@click.group()
def cells() -> None:
    """Shares of members per policy."""


@cells.command("show")
@json_flag
@click.pass_obj
def cells_show(load: Callable[..., Settings], as_json: bool) -> None:
    """The cells and their shares."""
    from artwork_bandit.policies.cells import shares_of
    from artwork_bandit.store import cells as cell_store
    from artwork_bandit.store import pauses

    with open_store(load()).read() as connection:
        found, paused = cell_store.read(connection), pauses.read(connection)
    _show_cells(shares_of(found), as_json)
    for slot in sorted(paused):
        click.echo(f"{slot} is paused, everybody gets the default: `resume` ends it", err=True)


@cells.command("set")
@click.argument("shares", nargs=-1, required=True, metavar="CELL=SHARE...")
@json_flag
@click.pass_obj
def cells_set(load: Callable[..., Settings], shares: tuple[str, ...], as_json: bool) -> None:
    """Give cells new shares, such as: explore=0.1 baseline=0.05 live=0.85"""
    from artwork_bandit.policies.cells import shares_of
    from artwork_bandit.store import cells as cell_store
    from artwork_bandit.store import registry

    wanted: dict[str, float] = {}
    for share in shares:
        name, _, text = share.partition("=")
        if name in wanted:
            raise click.UsageError(f"{name} is given twice")
        try:
            wanted[name] = float(text)
        except ValueError as error:
            raise click.UsageError(f"{share!r} is not CELL=SHARE") from error
    with open_store(load()).write() as connection:
        editor_at(connection).set_cells(wanted)
        found = cell_store.read(connection)
        challenged = registry.challengers_of(connection)
    _show_cells(shares_of(found), as_json)
    if wanted.get("challenger") and not challenged:
        click.echo(
            "no model challenges: the challenger cell is served as the live one, until the gate or "
            "`models challenge` names one",
            err=True,
        )


@click.group()
def spool() -> None:
    """What waits on this host for the database."""


@spool.command("show")
@json_flag
@click.pass_obj
def spool_show(load: Callable[..., Settings], as_json: bool) -> None:
    """How much waits, since when, and what the database refused for good."""
    found = _spool(load)
    refused, oldest = found.refused(), found.oldest()
    since = None if oldest is None else dt.datetime.fromtimestamp(oldest, dt.UTC)
    if as_json:
        print_json(
            {"path": str(found.path), "waiting": found.depth(), "since": since,
             "refused": [asdict(each) for each in refused]}
        )  # fmt: skip
        return
    click.echo(f"{found.path}")
    click.echo(
        f"{found.depth():,} waiting" + (f", since {since:%Y-%m-%d %H:%M:%S}Z" if since else "")
    )
    click.echo(f"{len(refused):,} refused" + ("; `spool retry` tries again" if refused else ""))
    for each in refused:
        click.echo(f"  {each.kind}, {each.size:,} bytes: {each.reason}")


@spool.command("retry")
@json_flag
@click.pass_obj
def spool_retry(load: Callable[..., Settings], as_json: bool) -> None:
    """Have what the database refused tried again, once its cause is mended."""
    count = _spool(load).retry()
    if as_json:
        print_json({"waiting_again": count})
        return
    click.echo(f"{count:,} entries wait again; servers and workers of this host drain them")


def _spool(load: Callable[..., Settings]) -> Spool:
    from artwork_bandit.settings import local_folder
    from artwork_bandit.store.spool import Spool

    return Spool(local_folder(load()) / "spool.db")


@click.group()
def config() -> None:
    """Settings."""


@config.command("show")
@json_flag
@click.pass_obj
def config_show(load: Callable[..., Settings], as_json: bool) -> None:
    """The settings in force, as TOML; secrets are hidden."""
    import json

    from artwork_bandit.store.engine import without_password

    shown = asdict(load())
    shown["decision_key"] = "(set)" if shown["decision_key"] else shown["decision_key"]
    shown["database_url"] = without_password(shown["database_url"])
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        click.echo(f"{name} = {json.dumps(value, ensure_ascii=False)}")  # TOML, for such values


def _show_cells(shares: dict[str, float], as_json: bool) -> None:
    if as_json:
        print_json(shares)
    else:
        for name, share in shares.items():
            click.echo(f"{name:<10} {share:7.2%}")
