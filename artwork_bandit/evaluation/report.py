"""A report as JSON (the contract's shape) and as text of at most 80 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from artwork_bandit import __version__
from artwork_bandit.domain import instant
from artwork_bandit.estimators import Estimate
from artwork_bandit.evaluation.results import Judged, Report, Segment
from artwork_bandit.evaluation.verdict import Check, Verdict

_STYLE = {Verdict.OK: "green", Verdict.CAUTION: "yellow", Verdict.REFUSE: "red"}
_SHOWN = ("ips", "snips", "dr", "cressie_read")
"""Estimators of the text report; the JSON has all of them."""


def as_json(report: Report, source: str, seed: int, model_versions: list[int]) -> dict[str, Any]:
    """Return the report as plain values; a number that cannot be trusted is None, with a reason."""
    return {
        "log": {
            "rows": report.rows,
            "members": report.members,
            "from": instant(report.first).isoformat() if report.rows else None,
            "to": instant(report.last).isoformat() if report.rows else None,
            "source": source,
            "mean_reward": report.mean_reward,
            "reward_rule": report.reward_rule,
            "certain_share": report.certain_share,
            "propensities": "logged" if report.apart is None else "together",
        },
        "health": {"verdict": report.verdict.value, "checks": [_check(c) for c in report.checks]},
        "targets": {name: _judged(judged) for name, judged in report.targets.items()},
        "segments_by": report.segments_by,
        "notes": report.notes,
        "reward_bounds": list(report.method.bounds),
        "provenance": {
            "seed": seed,
            "cluster": report.cluster,
            "version": __version__,
            "model_versions": model_versions,
            "log_sha256": report.sha256,
        },
    }


def as_text(report: Report, source: str) -> Group:
    """Return what a person reads in a terminal."""
    head = Text.assemble(
        ("Log  ", "bold"), f"{source}: {report.rows:,} rows of {report.members:,} members\n",
    )  # fmt: skip
    if report.rows:
        head.append(f"     {instant(report.first):%Y-%m-%d %H:%M} to ")
        head.append(f"{instant(report.last):%Y-%m-%d %H:%M} UTC, mean reward ")
        head.append("none" if report.mean_reward is None else f"{report.mean_reward:.4f}")
        head.append(" of the rows judged" if report.certain_share else "")
        head.append(f" by rule {report.reward_rule}\n" if report.reward_rule else "\n")
    if report.certain_share:
        head.append(f"     {report.certain_share:.1%} of rows left out: their choice was certain\n")
    head.append("     verdict ").append(report.verdict.value, _STYLE[report.verdict])
    for check in report.checks:
        if check.status is not Verdict.OK:
            head.append(f"\n     {check.message}", _STYLE[check.status])
    percent = f"{100 * report.method.level:.4g}"
    parts = [_target_text(name, judged, percent) for name, judged in report.targets.items()]
    return Group(head, *parts, *(Text(f"\n{note}", "dim") for note in report.notes))


def show(report: Report, source: str, console: Console) -> None:
    console.print(as_text(report, source))


def _target_text(name: str, judged: Judged, percent: str) -> Group:
    head = Text.assemble(("\n" + name + "  ", "bold"))
    head.append(judged.verdict.value, _STYLE[judged.verdict])
    if judged.verdict is not Verdict.REFUSE:
        head.append(f"  ESS {judged.support.effective_sample_size:,.0f}")
        head.append(f" of {judged.support.rows:,} rows")
    if judged.rows_left_out:
        head.append(f"\n  {judged.rows_left_out:,} rows left out, which cannot judge it")
    for check in judged.checks:
        if check.status is not Verdict.OK:
            head.append(f"\n  {check.message}", _STYLE[check.status])
    if judged.verdict is Verdict.REFUSE:
        return Group(head, *_segments_text(judged))
    table = Table(box=None, pad_edge=True)
    for title in ("estimator", "estimate", f"{percent}% interval"):
        table.add_column(title, justify="left" if title == "estimator" else "right")
    for estimator in _SHOWN:
        _add(table, estimator, judged.estimators[estimator])
    if name != judged.against:
        _add(table, f"minus {judged.against}", judged.difference)
    found = judged.difference
    notes = [Text(f"  intervals: {_methods(judged)}", "dim")]
    if found.lower is not None and found.upper is not None and found.lower < 0 < found.upper:
        notes.append(Text(f"  {name} and {judged.against} cannot be told apart"))
    if judged.rows_to_decide is not None:
        notes.append(
            Text(
                f"  if the estimate is right, about {judged.rows_to_decide:,} rows like these "
                "would decide"
            )
        )
    return Group(head, table, *notes, *_segments_text(judged))


def _methods(judged: Judged) -> str:
    """Return how the intervals of the table are made; what differs from most is named."""
    of_each = {name: judged.estimators[name].interval for name in _SHOWN}
    told = [method for method in of_each.values() if method]
    if not told:
        return "none"
    usual = max(dict.fromkeys(told), key=told.count)
    others = [
        f"{name}: {method}" for name, method in of_each.items() if method not in (None, usual)
    ]
    return "; ".join([usual, *others])


def _segments_text(judged: Judged) -> list[Table | Text]:
    if not judged.segments:
        return []
    table = Table(box=None, pad_edge=True, title_justify="left")
    for title in ("segment", "rows", "value (dr)", "interval", f"minus {judged.against}"):
        table.add_column(Text(title), justify="left" if title == "segment" else "right")
    for segment in judged.segments:
        name, rows = Text(segment.name), f"{segment.rows:,}"
        value, difference = segment.value, segment.difference
        beside = ""
        if difference.estimate is not None and difference.lower is not None:
            beside = f"{difference.lower:+.4f} to {difference.upper:+.4f}"
        if segment.reason is not None:
            table.add_row(name, rows, "-", Text(f"refused: {segment.reason}"), beside)
        elif value.estimate is None or value.lower is None:
            table.add_row(name, rows, "-", Text(value.reason or ""), beside)
        else:
            between = f"{value.lower:.4f} to {value.upper:.4f}"
            table.add_row(name, rows, f"{value.estimate:.4f}", between, beside)
    return [table, Text("  intervals of segments hold for all of them together", "dim")]


def _add(table: Table, name: str, found: Estimate) -> None:
    # Texts: names from outside are no markup.
    if found.estimate is None:
        table.add_row(Text(name), "-", Text(found.reason or ""))
    elif found.lower is None:
        table.add_row(Text(name), f"{found.estimate:.4f}", Text(found.reason or ""))
    else:
        table.add_row(
            Text(name), f"{found.estimate:.4f}", f"{found.lower:.4f} to {found.upper:.4f}"
        )


def _judged(judged: Judged) -> dict[str, Any]:
    support = judged.support
    difference = _estimate(judged.difference) | {"against": judged.against}
    return {
        "verdict": judged.verdict.value,
        "checks": [_check(check) for check in judged.checks],
        "rows": support.rows,
        "rows_left_out": judged.rows_left_out,
        "effective_sample_size": support.effective_sample_size,
        "mean_weight": support.mean_weight,
        "max_weight": support.largest,
        "weight_bound": judged.heaviest,
        "rows_to_decide": judged.rows_to_decide,
        "estimators": {name: _estimate(e) for name, e in judged.estimators.items()},
        "difference": difference,
        "segments": [_segment(s) for s in judged.segments],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    shown = {
        "name": segment.name,
        "verdict": segment.verdict.value,
        "rows": segment.rows,
        "effective_sample_size": segment.effective_sample_size,
        "value": _estimate(segment.value),
        "difference": _estimate(segment.difference),
    }
    return shown if segment.reason is None else shown | {"reason": segment.reason}


def _estimate(found: Estimate) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "estimate": found.estimate,
        "lower": found.lower,
        "upper": found.upper,
        "interval": found.interval,
        "level": found.level,
    }
    return shown if found.reason is None else shown | {"reason": found.reason}


def _check(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "status": check.status.value,
        "value": check.value,
        "limit": check.limit,
        "message": check.message,
    }
