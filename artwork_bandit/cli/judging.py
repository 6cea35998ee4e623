"""The command that says what another policy would have earned."""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artwork_bandit.cli.options import (
    PATH,
    SEED,
    counted,
    open_store,
    rule_option,
    scheduler_for,
    scheduler_option,
    slot_option,
    slot_under,
    window_options,
)
from artwork_bandit.errors import InvalidInput, NotEnoughData
from artwork_bandit.settings import Settings

if TYPE_CHECKING:
    from artwork_bandit.operations.self_test import Measured

INTERVALS = ("cressie-read", "delta", "bootstrap", "anytime")
CLUSTERS = ("member_id", "title_id", "decision_id")


class Bounds(click.ParamType):  # type: ignore[type-arg]
    name = "low,high"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            low, high = (float(text) for text in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not two numbers such as 0,1")
        if not -1e9 < low < high < 1e9:
            self.fail(f"{value!r} is not a smaller number and a larger one")
        return low, high


class Level(click.FloatRange):
    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number")
        return found


class ReportFile(click.File):
    """A file that is whole or not there; what is no plain file (a pipe, a device) is written to,
    not replaced."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        path = Path(str(value))
        if str(value) == "-":
            return super().convert(value, param, ctx)
        if path.is_dir():
            self.fail(f"{str(value)!r} is a folder; name a file", param, ctx)
        if not path.absolute().parent.is_dir():
            self.fail(f"{str(value)!r}: there is no folder {str(path.parent)!r}", param, ctx)
        if path.exists() and not path.is_file():
            return click.File("w", "utf-8", lazy=True).convert(value, param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@click.option("--log", type=PATH, help="Parquet file or folder; else the database's log.")
@window_options
@slot_option
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    help="live, challenger, uniform, best-single, baseline, model:12, variant:ID, column:NAME.",
)
@click.option("--against", default="logging", show_default=True, help="What to subtract.")
@click.option(
    "--by",
    help="Judge segments too: taste, community, device, country, language, surface, daypart, "
    "watched, position (of the title in its request), cell.",
)
@click.option("--together", "both", is_flag=True, help="Weigh the explore, live and "
              "challenger cell as one policy's log: intervals are narrower, mostly.")  # fmt: skip
@click.option("--interval", type=click.Choice(INTERVALS), default=INTERVALS[0], show_default=True)
@click.option("--level", type=Level(0.5, 0.9999), default=0.95, show_default=True)
@click.option("--reward-bounds", type=Bounds(), help="Default: those of the slot's reward rule.")
@click.option("--cluster", type=click.Choice(CLUSTERS), default=CLUSTERS[0], show_default=True,
              help="Rows of one of these are not independent.")  # fmt: skip
@click.option(
    "--seed", type=SEED, default=1, show_default=True, help="Of the bootstrap and the self-test."
)
@rule_option
@scheduler_option
@click.option(
    "--self-test",
    is_flag=True,
    help="Do the intervals cover on logs of this shape, simulated in this process?",
)
@click.option("--json", "json_file", type=ReportFile("w", "utf-8", atomic=True),
              help="Report; - prints it.")  # fmt: skip
@click.option("--html", "html_file", type=ReportFile("w", "utf-8", atomic=True),
              help="Report with plots, in one file; - prints it.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Show the report on the policies page, too.")
@click.pass_obj
def evaluate(
    load: Callable[..., Settings], log: Path | None, since: dt.datetime | None,
    until: dt.datetime | None, slot: str, targets: tuple[str, ...], against: str, by: str | None,
    both: bool, interval: Any, level: float, reward_bounds: tuple[float, float] | None,
    cluster: Any, seed: int, rule: str | None, scheduler: str | None, self_test: bool,
    json_file: Any, html_file: Any, keep: bool,
) -> None:  # fmt: skip
    """What would another policy have earned? Exit code 1 if every target is refused."""
    from rich.console import Console

    from artwork_bandit.evaluation import report as reporting
    from artwork_bandit.evaluation.evidence import Method
    from artwork_bandit.evaluation.verdict import Verdict
    from artwork_bandit.operations.changes import require_known_formula
    from artwork_bandit.operations.judge import judge, needs_database
    from artwork_bandit.operations.replay_source import ReplaySource
    from artwork_bandit.operations.rules import slot_of_log

    if interval == "bootstrap" and level > 0.999:
        raise click.UsageError("--interval bootstrap goes with a --level of at most 0.999")
    chosen = load()
    of_slot = slot_under(chosen, slot, rule, log)
    scheduler = scheduler_for(log, scheduler)
    needed = [name for name in (*targets, against, by or "") if needs_database(name)]
    try:
        store = open_store(chosen) if log is None or needed or keep else None
    except InvalidInput as error:
        if log is None or not needed:
            raise
        raise InvalidInput(
            f"{needed[0]} needs the database that has models and catalogue beside the log: {error}"
        ) from error
    source = ReplaySource.of(
        store, log, of_slot.name, since, until, rule=of_slot.reward, bounds=reward_bounds
    )  # fmt: skip
    if store is not None and log is None:
        require_known_formula(store, of_slot, source)
    bounds = reward_bounds or slot_of_log(of_slot, source.rule, source.bounds).reward.bounds
    method = Method(interval=interval, level=level, bounds=bounds, seed=seed)
    printed = [file for file in (json_file, html_file) if file and file.name == "<stdout>"]
    if len(printed) > 1:
        raise click.UsageError("--json - and --html - cannot both be printed; name a file for one")
    to_stdout = bool(printed)
    if self_test:
        if by or html_file is not None or against != "logging" or keep or both:
            raise click.UsageError(
                "--self-test goes without --by, --against, --html, --keep and --together"
            )
        _self_test(source, targets, method, cluster, seed, json_file, to_stdout)
        return
    if both:
        from artwork_bandit.operations.together import together

        source = together(source)
    with counted("rows read") as progress:
        found, versions = judge(source, targets, against, method, cluster, by, progress, scheduler)
    if both and found.apart and not found.rows:
        raise NotEnoughData(
            f"all {found.apart:,} rows are of the baseline cell, or of the hour after shares or "
            "models changed, and cannot be weighed together: ask again an hour after the last "
            "change, or without --together"
        )
    if json_file is not None:
        _write_json(json_file, reporting.as_json(found, source.name, seed, versions))
    if html_file is not None:
        from artwork_bandit.evaluation.html import as_html

        html_file.write(as_html(found, source.name, seed, versions))
    if keep and store is not None:
        from artwork_bandit.operations import reporting as kept

        now = dt.datetime.now(dt.UTC)
        kept.keep(store, of_slot.name, "command line", found, source.name, seed, versions, now)
    if not found.rows and store is not None and log is None:
        from artwork_bandit.operations.joining import why_empty

        click.echo(why_empty(store, of_slot, chosen), err=True)
    if not to_stdout:
        reporting.show(found, source.name, Console(width=min(Console().width, 80)))
    sys.exit(all(found.targets[name].verdict is Verdict.REFUSE for name in targets))


def _self_test(
    source: Any, targets: tuple[str, ...], method: Any, cluster: Any, seed: int, json_file: Any,
    to_stdout: bool,
) -> None:  # fmt: skip
    import msgspec
    from rich.console import Console

    from artwork_bandit.operations.self_test import self_test

    with counted("logs simulated") as progress:
        found = self_test(source, targets, method, cluster, seed, progress=progress)
    if json_file is not None:
        _write_json(json_file, {"self_test": msgspec.to_builtins(found), "level": method.level})
    if not to_stdout:
        _show_measured(found, method.level, Console(width=min(Console().width, 80)))


def _show_measured(found: list[Measured], level: float, console: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    for target in dict.fromkeys(m.target for m in found):
        rows = [m for m in found if m.target == target]
        title = f"{target}: true value {rows[0].truth:.4f}, {rows[0].refused:.0%} of logs refused"
        table = Table(box=None, title=Text(title), title_justify="left")
        for name in ("estimator", "bias", "error (RMS)", f"coverage of {level:.4g}", "half width"):
            table.add_column(name, justify="left" if name == "estimator" else "right")
        for m in rows:
            if m.estimator == "all":
                table.add_row("every log is refused: nothing to measure")
                continue
            table.add_row(
                m.estimator, f"{m.bias:+.5f}", f"{m.error:.5f}",
                "-" if m.coverage is None else f"{m.coverage:.3f}",
                "-" if m.half_width is None else f"{m.half_width:.5f}",
            )  # fmt: skip
        console.print(table)


def _write_json(file: Any, value: Any) -> None:
    import msgspec

    file.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
