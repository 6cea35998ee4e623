"""What several commands share: options, the store, printing."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from artwork_bandit.errors import InvalidInput
from artwork_bandit.settings import Settings

if TYPE_CHECKING:
    from artwork_bandit.operations.editing import Editor
    from artwork_bandit.slots import Slot
    from artwork_bandit.store.engine import Connection, Store

T = TypeVar("T")
TOLD_EVERY = 1_000
"""Showing a count takes longer than reading a row."""
SEED = click.IntRange(0, 2**31 - 1)
"""What numpy and Vowpal Wabbit both take."""
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
json_anyway = click.option(
    "--json", is_flag=True, expose_value=False, help="Printed as JSON anyway."
)
slot_option = click.option("--slot", default="artwork", show_default=True, help="Which slot.")
scheduler_option = click.option(
    "--scheduler", envvar="DASK_SCHEDULER_ADDRESS",
    help="Dask scheduler to read the log's part files; `local` starts processes here.",
)  # fmt: skip
rule_option = click.option(
    "--rule", help="Reward rule that outcomes are read under: a version, or a TOML file."
)
dry_run_flag = click.option("--dry-run", is_flag=True, help="Only say what would change.")
PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
VERSION = click.IntRange(1, 2**31 - 1)


class Instant(click.ParamType):  # type: ignore[type-arg]
    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> dt.datetime:
        if isinstance(value, dt.datetime):
            return value
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no ISO 8601 time such as 2026-11-23T20:15:00Z")
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


def window_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--from` and `--to`, as `since` and `until`, in that order."""

    @wraps(command)
    def ordered(*args: Any, **given: Any) -> Any:
        from artwork_bandit.store.window import require_order

        require_order(given["since"], given["until"])
        return command(*args, **given)

    until = click.option("--to", "until", type=Instant(), help="Before this time (UTC).")
    since = click.option("--from", "since", type=Instant(), help="From this time on (UTC).")
    return since(until(ordered))


def slot_under(chosen: Settings, slot: str, rule: str | None, log: Path | None = None) -> Slot:
    """Return the slot with the rule asked for, or the settings', in force."""
    from artwork_bandit.operations.rules import slot_of

    if rule is not None and log is not None:
        raise click.UsageError(
            "a Parquet log has its rewards; `export --rule` writes it under another rule"
        )
    return slot_of(chosen, slot, rule)


def scheduler_for(log: Path | None, scheduler: str | None) -> str | None:
    """Return who reads the log: one that only the environment names is for Parquet logs, and no
    reason to refuse a database's."""
    source = click.get_current_context().get_parameter_source("scheduler")
    named_here = source is ParameterSource.COMMANDLINE
    return scheduler if named_here or log is not None else None


def open_store(chosen: Settings) -> Store:
    """Return the migrated database's store."""
    from artwork_bandit.store.engine import Store, missing_file
    from artwork_bandit.store.migrate import require_current

    if (file := missing_file(chosen.database_url)) is not None:
        raise InvalidInput(f"there is no database {file}; `artwork-bandit migrate` makes one")
    store = Store(chosen.database_url)
    require_current(store)
    return store


@contextmanager
def progress_shown() -> Iterator[Callable[[str, float], None]]:
    """Give a function that shows what is going on, on standard error if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=None)

        def progress(what: str, share: float) -> None:
            shown.update(task, description=f"{what} {share:.0%}" if share else what)

        yield progress


@contextmanager
def counted(what: str) -> Iterator[Callable[[int], None]]:
    """Give a function that shows a count, on standard error if that is a terminal."""
    with progress_shown() as show:
        yield lambda count: show(f"{count:,} {what}", 0.0)


def counting(
    items: Iterable[T], progress: Callable[[int], None], size: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Yield items, and tell every now and then how many have been taken, or what these hold."""
    taken = told = 0
    for item in items:
        yield item
        taken += size(item)
        if taken - told >= TOLD_EVERY:
            progress(told := taken)
    progress(taken)


def editor_at(connection: Connection) -> Editor:
    """Return whoever types the command, for the record of changes."""
    from artwork_bandit.operations.editing import Editor
    from artwork_bandit.store import clock

    now = clock.now(connection)
    return Editor(connection=connection, author=f"{_user()}, command line", now=now)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number, and need not have a name
        return f"user {os.getuid()}"


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def report_changes(changes: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    """Print what an import did; exit 1 if it rejected anything."""
    if as_json:
        print_json(changes | {"dry_run": dry_run})
    else:
        click.echo("would change:" if dry_run else "done:")
        for name, count in changes.items():
            if name != "problems" and count:
                click.echo(f"  {count:>9,}  {name.replace('_', ' ')}")
        for problem in changes.get("problems", []):
            click.echo(f"  {problem}", err=True)
    if changes.get("rejected"):
        sys.exit(1)
