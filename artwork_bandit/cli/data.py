"""The commands that bring data in and out."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from artwork_bandit.cli.options import (
    PATH,
    counted,
    counting,
    dry_run_flag,
    json_flag,
    open_store,
    print_json,
    progress_shown,
    report_changes,
    rule_option,
    slot_option,
    slot_under,
    utc_now,
    window_options,
)
from artwork_bandit.errors import InvalidInput, NotEnoughData
from artwork_bandit.settings import Settings


@click.group()
def catalog() -> None:
    """Titles and variants."""


@catalog.command("import")
@click.argument("file", type=PATH)
@dry_run_flag
@json_flag
@click.pass_obj
def catalog_import(load: Callable[..., Settings], file: Path, dry_run: bool, as_json: bool) -> None:
    """Add or change titles and variants from JSON Lines: a title with its variants a line."""
    from artwork_bandit.operations.catalog_import import import_catalog_file

    changes = import_catalog_file(open_store(load()), file, utc_now(), dry_run=dry_run)
    report_changes(asdict(changes), dry_run, as_json)


@click.group()
def history() -> None:
    """Viewing events from before."""


@history.command("import")
@click.argument("file", type=PATH, required=False)
@click.option("--movielens", type=PATH, help="A MovieLens folder; adds its films as titles.")
@dry_run_flag
@json_flag
@click.pass_obj
def history_import(
    load: Callable[..., Settings], file: Path | None, movielens: Path | None, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Add viewing events (CSV or Parquet) to the log and to members' profiles."""
    from artwork_bandit.operations import history_import
    from artwork_bandit.operations.catalog_import import import_catalog
    from artwork_bandit.operations.imports import Changes

    if (file is None) == (movielens is None):
        raise click.UsageError("give a FILE or --movielens DIR, one of both")
    chosen, now, changes = load(), utc_now(), Changes()
    store = open_store(chosen)
    half_life = dt.timedelta(days=chosen.profile_half_life_days)
    if movielens is not None:
        titles, events = history_import.read_movielens(movielens, now)
        import_catalog(store, titles, [], now, dry_run=dry_run, changes=changes)
        extra = {t.title_id: t.genres for t in titles}
    else:
        assert file is not None, "checked above"
        events, extra = history_import.read_history(file, changes), {}
    with counted("events") as progress:
        history_import.import_history(
            store, counting(events, progress), half_life, now, dry_run=dry_run, changes=changes,
            genres=extra,
        )  # fmt: skip
    report_changes(asdict(changes), dry_run, as_json)


@click.command()
@click.argument("file", type=PATH)
@window_options
@slot_option
@rule_option
@json_flag
@click.pass_obj
def export(
    load: Callable[..., Settings], file: Path, since: dt.datetime | None,
    until: dt.datetime | None, slot: str, rule: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Write the replay log to a Parquet file."""
    from artwork_bandit.operations.joining import why_empty
    from artwork_bandit.operations.replay_source import ReplaySource
    from artwork_bandit.store import parquet

    chosen = load()
    of = slot_under(chosen, slot, rule)
    store = open_store(chosen)
    source = ReplaySource.of(store, None, of.name, since, until, rule=of.reward)
    if others := source.imported():  # a file says one rule of all its rewards
        raise InvalidInput(
            f"{others[0].message}; --rule with theirs exports them, --from and --to without them"
        )
    try:
        with counted("rows written") as progress:
            rows = parquet.write(file, counting(source.blocks(), progress, len), of.reward)
    except NotEnoughData as error:
        raise NotEnoughData(f"{why_empty(store, of, chosen)}; {error}") from error
    if not rows:
        click.echo(why_empty(store, of, chosen), err=True)
    if as_json:
        print_json({"file": str(file), "rows": rows, "slot": of.name, "rule": of.reward.version})
    else:
        click.echo(f"{rows:,} rows written to {file}")


@click.command("import-log")
@click.argument("path", type=PATH)
@dry_run_flag
@json_flag
@click.pass_obj
def import_log(load: Callable[..., Settings], path: Path, dry_run: bool, as_json: bool) -> None:
    """Take a Parquet replay log into the database."""
    from artwork_bandit.operations import log_import

    chosen = load()
    store = open_store(chosen)
    with progress_shown() as progress:
        result = log_import.import_log(
            store, path, chosen, utc_now(), dry_run=dry_run, progress=progress
        )
    report_changes(asdict(result), dry_run, as_json)
    if result.new_variants and not as_json:
        click.echo("new variants are retired until a catalogue brings them")


@click.group()
def rollups() -> None:
    """The sums behind the pages."""


@rollups.command("check")
@json_flag
@click.pass_obj
def check_rollups(load: Callable[..., Settings], as_json: bool) -> None:
    """Compare the sums with the rewards they are of; exit code 1 if they differ."""
    from artwork_bandit.store import resumming

    with open_store(load()).read() as connection:
        wrong = resumming.wrong(connection)
    if as_json:
        print_json({"wrong": wrong})
    elif wrong:
        click.echo(f"{wrong:,} sums are not what the rewards come to: `rollups rebuild` mends them")
    else:
        click.echo("the sums are what the rewards come to")
    if wrong:
        sys.exit(1)


@rollups.command("rebuild")
@click.pass_obj
def rebuild_rollups(load: Callable[..., Settings]) -> None:
    """Make all sums anew; the worker then sums every title up again."""
    from artwork_bandit.store import resumming

    with open_store(load()).write() as connection:
        resumming.rebuild(connection)
    click.echo("the sums were made anew; the worker sums the titles up within its next rounds")
