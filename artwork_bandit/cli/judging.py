"""The command that says what another policy would have earned."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from artwork_bandit.cli.options import (
    PATH,
    open_store,
    slot_option,
    window_options,
)
from artwork_bandit.settings import Settings


@click.command()
@click.option("--log", type=PATH, help="Parquet file or folder; else the database's log.")
@window_options
@slot_option
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
    store = open_store(load()) if database else None
    source = ReplaySource.of(store, log, slot_named(slot).name, since, until)
    found, versions = judge(source, targets, against)
    if json_file is not None:
        import msgspec

        shown = reporting.as_json(found, source.name, seed, versions)
        json_file.write(msgspec.json.format(msgspec.json.encode(shown)).decode() + "\n")
    if json_file is None or json_file.name != "<stdout>":
        reporting.show(found, source.name, Console(width=min(Console().width, 80)))
    sys.exit(all(t.verdict is Verdict.REFUSE for t in found.targets.values()))
