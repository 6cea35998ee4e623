"""The commands. Exit codes: 0 done, 1 failed, 2 used wrongly; `--json` for machines.

Rooms are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artwork_bandit import __version__, settings
from artwork_bandit.errors import ArtworkBanditError, InvalidInput
from artwork_bandit.settings import Settings

if TYPE_CHECKING:
    from artwork_bandit.store.engine import Store

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
_slot = click.option("--slot", default="artwork", show_default=True, help="Which slot.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would change.")
_path = click.Path(path_type=Path)
_VERSION = click.IntRange(1, 2**31 - 1)


class _Instant(click.ParamType):  # type: ignore[type-arg]
    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> dt.datetime:
        if isinstance(value, dt.datetime):
            return value
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no ISO 8601 time such as 2026-11-23T20:15:00Z")
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


def _window(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in (("--to", "Before this time (UTC)."), ("--from", "From this time on (UTC).")):
        target = {"--from": "since", "--to": "until"}[name]
        command = click.option(name, target, type=_Instant(), help=text)(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="artwork-bandit")
@click.option("--config", type=_path, help="TOML file with settings.")
@click.option("--database", "database_url", help="sqlite:///FILE or postgresql://USER@HOST/NAME")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, database_url: str | None) -> None:
    """Contextual-bandit selection of artworks and trailers."""
    ctx.obj = lambda **more: settings.load(
        overrides={"database_url": database_url, **more}, file=config
    )


def main() -> None:
    """Run the command; our own errors become one line and exit code 1 or 2."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ArtworkBanditError as error:
        click.echo(f"artwork-bandit: {error}", err=True)
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


@cli.command()
@click.option("--once", is_flag=True, help="Run bounded, without a terminal; exit 0 if it learned.")
@click.option("--folder", type=_path, help="Keep the database and pictures here.")
@click.option("--port", type=int, help="Port of the web page.  [default: 8800 or the next free]")
@click.option("--seed", default=1, show_default=True)
def demo(once: bool, folder: Path | None, port: int | None, seed: int) -> None:
    """Everything, on SQLite, with a simulated audience."""
    from artwork_bandit.operations.demo import run

    sys.exit(0 if run(once=once, folder=folder, port=port, seed=seed) else 1)


@cli.command()
@click.pass_obj
def migrate(load: Callable[..., Settings]) -> None:
    """Bring the database to this release."""
    from artwork_bandit.store import migrate as migration
    from artwork_bandit.store.engine import Store

    before, after = migration.migrate(Store(load().database_url))
    click.echo(
        f"database is at {after}" + ("" if before == after else f", was {before or 'empty'}")
    )


@cli.group()
def catalog() -> None:
    """Titles and variants."""


@catalog.command("import")
@click.argument("file", type=_path)
@_dry_run
@_json
@click.pass_obj
def catalog_import(load: Callable[..., Settings], file: Path, dry_run: bool, as_json: bool) -> None:
    """Add or change titles and variants from JSON Lines: a title with its variants a line."""
    from artwork_bandit.operations import imports
    from artwork_bandit.store import catalog as catalog_store

    changes = imports.Changes()
    store = _store(load())
    with store.read() as connection:
        present = {v.variant_id: v for v in catalog_store.list_variants(connection)}
    titles, variants = imports.read_catalog(file, present, changes)
    imports.import_catalog(store, titles, variants, _now(), dry_run=dry_run, changes=changes)
    _report_changes(asdict(changes), dry_run, as_json)


@cli.group()
def history() -> None:
    """Viewing events from before."""


@history.command("import")
@click.argument("file", type=_path, required=False)
@click.option("--movielens", type=_path, help="A MovieLens folder; adds its films as titles.")
@_dry_run
@_json
@click.pass_obj
def history_import(
    load: Callable[..., Settings], file: Path | None, movielens: Path | None, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Add viewing events (CSV or Parquet) to the log and to members' profiles."""
    from artwork_bandit.operations import imports

    if (file is None) == (movielens is None):
        raise click.UsageError("give a FILE or --movielens DIR")
    chosen, now, changes = load(), _now(), imports.Changes()
    store = _store(chosen)
    half_life = dt.timedelta(days=chosen.profile_half_life_days)
    if movielens is not None:
        titles, events = imports.read_movielens(movielens, now)
        imports.import_catalog(store, titles, [], now, dry_run=dry_run, changes=changes)
        extra = {t.title_id: t.genres for t in titles}
    else:
        assert file is not None, "checked above"
        events, extra = imports.read_history(file, changes), {}
    imports.import_history(
        store, events, half_life, now, dry_run=dry_run, changes=changes, genres=extra
    )
    _report_changes(asdict(changes), dry_run, as_json)


@cli.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: 8800]")
@click.option("--workers", type=int, help="Processes.  [default: 1 on SQLite, 2 on PostgreSQL]")
@click.pass_obj
def serve(
    load: Callable[..., Settings], host: str | None, port: int | None, workers: int | None
) -> None:
    """Answer over HTTP until told to stop."""
    from artwork_bandit.web.server import serve as run

    chosen = load(host=host, port=port, workers=workers)
    _store(chosen).close()
    run(chosen)


@cli.command()
@click.option("--log", type=_path, help="Parquet file or folder; else the database's log.")
@_slot
@click.option("--seed", default=1, show_default=True)
@_json
@click.pass_obj
def train(
    load: Callable[..., Settings], log: Path | None, slot: str, seed: int, as_json: bool
) -> None:
    """Join rewards, train a candidate, promote it if the held-out log says so."""
    from artwork_bandit.operations.retrain import retrain
    from artwork_bandit.slots import slot_named

    chosen = load()
    outcome = retrain(_store(chosen), slot_named(slot), chosen, _now(), seed=seed, log=log)
    if as_json:
        _print_json(asdict(outcome))
    else:
        verdict = "live" if outcome.promoted else "rejected"
        click.echo(f"joined {outcome.joined:,} rewards")
        click.echo(f"model {outcome.version}, trained on {outcome.rows:,} rows: {verdict}")
        click.echo(outcome.reason)


@cli.group()
def models() -> None:
    """Trained models."""


@models.command("list")
@_json
@click.pass_obj
def models_list(load: Callable[..., Settings], as_json: bool) -> None:
    """All models, the newest first."""
    from artwork_bandit.store import registry

    with _store(load()).read() as connection:
        records = registry.list_all(connection)
    if as_json:
        _print_json([asdict(r) for r in records])
        return
    for r in records:
        click.echo(f"{r.version:>4}  {r.slot:<8} {r.status:<9} {r.created_at:%Y-%m-%d %H:%M}Z"
                   f"  {r.rows:>9,} rows  {r.reason}")  # fmt: skip


@models.command("show")
@click.argument("version", type=_VERSION)
@click.pass_obj
def models_show(load: Callable[..., Settings], version: int) -> None:
    """One model's window, settings, metrics and the gate's reason, as JSON."""
    from artwork_bandit.store import registry

    with _store(load()).read() as connection:
        _print_json(asdict(registry.get(connection, version)))


@models.command("promote")
@click.argument("version", type=_VERSION)
@click.option("--reason", default="promoted by hand", show_default=True)
@click.pass_obj
def models_promote(load: Callable[..., Settings], version: int, reason: str) -> None:
    """Make a model the live one, whatever the gate said; its bytes are checked first."""
    from artwork_bandit.store import registry

    with _store(load()).write() as connection:
        registry.load(connection, version)
        registry.promote(connection, version, reason, _now())
    click.echo(f"model {version} is live")


@models.command("rollback")
@_slot
@click.option("--reason", default="rolled back by hand", show_default=True)
@click.pass_obj
def models_rollback(load: Callable[..., Settings], slot: str, reason: str) -> None:
    """Go back to the model that was live before."""
    from artwork_bandit.slots import slot_named
    from artwork_bandit.store import registry

    with _store(load()).write() as connection:
        version = registry.roll_back(connection, slot_named(slot).name, reason, _now())
    click.echo("no model is live: uniform" if version is None else f"model {version} is live")


@models.command("compare")
@click.argument("version", type=_VERSION)
@click.argument("other", type=_VERSION)
@click.pass_obj
def models_compare(load: Callable[..., Settings], version: int, other: int) -> None:
    """Value two models on the rows after both were trained; exit code 1 if the log cannot tell."""
    from rich.console import Console

    from artwork_bandit.evaluation import report as reporting
    from artwork_bandit.evaluation.verdict import Verdict
    from artwork_bandit.operations.judge import judge
    from artwork_bandit.operations.replay_source import ReplaySource
    from artwork_bandit.store import registry

    store = _store(load())
    with store.read() as connection:
        slots = {registry.get(connection, v).slot for v in (version, other)}
    if len(slots) > 1:
        raise InvalidInput(f"models {version} and {other} are of different slots")
    source = ReplaySource.of(store, None, slots.pop(), None, None)
    found, _ = judge(source, [f"model:{version}"], f"model:{other}")
    reporting.show(found, source.name, Console(width=min(Console().width, 80)))
    sys.exit(any(t.verdict is Verdict.REFUSE for t in found.targets.values()))


@cli.command()
@click.option("--log", type=_path, help="Parquet file or folder; else the database's log.")
@_window
@_slot
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    help="live, uniform, best-single, baseline, model:12, variant:ID, column:NAME.",
)
@click.option("--against", default="logging", show_default=True, help="What to subtract.")
@click.option("--seed", default=1, show_default=True, help="Recorded in the report.")
@click.option("--json", "json_file", type=click.File("w", atomic=True), help="Report; - prints it.")
@click.pass_obj
def evaluate(
    load: Callable[..., Settings], log: Path | None, since: dt.datetime | None,
    until: dt.datetime | None, slot: str, targets: tuple[str, ...], against: str, seed: int,
    json_file: Any,
) -> None:  # fmt: skip
    """What would another policy have earned? Exit code 1 if every target is refused."""
    from rich.console import Console

    from artwork_bandit.evaluation import report as reporting
    from artwork_bandit.evaluation.verdict import Verdict
    from artwork_bandit.operations.judge import judge, needs_database
    from artwork_bandit.operations.replay_source import ReplaySource
    from artwork_bandit.slots import slot_named

    database = log is None or any(needs_database(t) for t in (*targets, against))
    store = _store(load()) if database else None
    source = ReplaySource.of(store, log, slot_named(slot).name, since, until)
    found, versions = judge(source, targets, against)
    if json_file is not None:
        import msgspec

        shown = reporting.as_json(found, source.name, seed, versions)
        json_file.write(msgspec.json.format(msgspec.json.encode(shown)).decode() + "\n")
    if json_file is None or json_file.name != "<stdout>":
        reporting.show(found, source.name, Console(width=min(Console().width, 80)))
    sys.exit(all(t.verdict is Verdict.REFUSE for t in found.targets.values()))


@cli.command()
@click.argument("file", type=_path)
@_window
@_slot
@click.pass_obj
def export(
    load: Callable[..., Settings], file: Path, since: dt.datetime | None,
    until: dt.datetime | None, slot: str,
) -> None:  # fmt: skip
    """Write the replay log to a Parquet file."""
    from artwork_bandit.slots import slot_named
    from artwork_bandit.store import parquet, replay

    window = replay.Window(slot=slot_named(slot).name, since=since, until=until)
    rows = parquet.write(file, replay.blocks(_store(load()), window))
    click.echo(f"{rows:,} rows written to {file}")


@cli.command("import-log")
@click.argument("path", type=_path)
@_dry_run
@_json
@click.pass_obj
def import_log(load: Callable[..., Settings], path: Path, dry_run: bool, as_json: bool) -> None:
    """Take a Parquet replay log into the database."""
    from artwork_bandit.operations import imports

    result = imports.import_log(_store(load()), path, _now(), dry_run=dry_run)
    _report_changes(asdict(result), dry_run, as_json)


@cli.group()
def cells() -> None:
    """Shares of members per policy."""


@cells.command("show")
@_json
@click.pass_obj
def cells_show(load: Callable[..., Settings], as_json: bool) -> None:
    """The cells and their shares."""
    from artwork_bandit.store import cells as cell_store

    with _store(load()).read() as connection:
        found = cell_store.read(connection)
    _show_cells({c.name: c.buckets / 10_000 for c in found}, as_json)


@cells.command("set")
@click.argument("shares", nargs=-1, required=True, metavar="CELL=SHARE...")
@_json
@click.pass_obj
def cells_set(load: Callable[..., Settings], shares: tuple[str, ...], as_json: bool) -> None:
    """Give cells new shares, such as: explore=0.1 baseline=0.05 live=0.85"""
    from artwork_bandit.store import cells as cell_store

    wanted: dict[str, float] = {}
    for share in shares:
        name, _, text = share.partition("=")
        try:
            wanted[name] = float(text)
        except ValueError as error:
            raise click.UsageError(f"{share!r} is not CELL=SHARE") from error
    with _store(load()).write() as connection:
        found = cell_store.set_shares(connection, wanted)
    _show_cells({c.name: c.buckets / 10_000 for c in found}, as_json)


@cli.group()
def config() -> None:
    """Settings."""


@config.command("show")
@click.pass_obj
def config_show(load: Callable[..., Settings]) -> None:
    """The settings in force, as TOML; secrets are hidden."""
    for name, value in asdict(load()).items():
        if name == "decision_key" and value:
            value = "(set)"
        if name == "database_url":
            value = _without_password(value)
        click.echo(f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}")


def _store(chosen: Settings) -> Store:
    """Return the migrated database's store."""
    from artwork_bandit.store.engine import Store
    from artwork_bandit.store.migrate import require_current

    store = Store(chosen.database_url)
    require_current(store)
    return store


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def _show_cells(shares: dict[str, float], as_json: bool) -> None:
    if as_json:
        _print_json(shares)
    else:
        for name, share in shares.items():
            click.echo(f"{name:<10} {share:7.2%}")


def _report_changes(changes: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    """Print what an import did; exit 1 if it rejected anything."""
    if as_json:
        _print_json(changes | {"dry_run": dry_run})
    else:
        click.echo("would change:" if dry_run else "done:")
        for name, count in changes.items():
            if name != "problems" and count:
                click.echo(f"  {count:>9,}  {name.replace('_', ' ')}")
        for problem in changes.get("problems", []):
            click.echo(f"  {problem}", err=True)
    if changes.get("rejected"):
        sys.exit(1)


def _without_password(url: str) -> str:
    from urllib.parse import urlsplit

    password = urlsplit(url).password
    return url if password is None else url.replace(f":{password}@", ":***@")
