"""A report as one HTML file: opens without network or script, prints, and fits a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jinja2

from artwork_bandit import __version__
from artwork_bandit.domain import instant
from artwork_bandit.estimators import BucketSums, Estimate
from artwork_bandit.estimators.diagnostics import PER_OCTAVE, bin_edges
from artwork_bandit.estimators.sums import standard_error, value
from artwork_bandit.evaluation import plots
from artwork_bandit.evaluation.evidence import DAY
from artwork_bandit.evaluation.plots import Bar
from artwork_bandit.evaluation.results import LOGGING, Judged, Report
from artwork_bandit.evaluation.verdict import Verdict

MOST_POINTS = 40
"""Points of a course over time; days are joined until no more are left."""
WHAT = {
    "cressie_read": "Empirical likelihood (Cressie-Read)",
    "ips": "IPS",
    "snips": "Self-normalised IPS",
    "clipped_ips": "Clipped IPS",
    "dm": "Direct method",
    "dr": "Doubly robust",
    "sndr": "Self-normalised doubly robust",
    "switch_dr": "Switch-DR",
    "dr_os": "DR, optimistic shrinkage",
    "rejection": "Rejection (replay)",
}


def as_html(report: Report, source: str, seed: int, model_versions: Sequence[int]) -> str:
    """Return the whole page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("artwork_bandit.evaluation", "."),
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    logged = report.mean_reward
    overview = [
        Bar(
            label=name,
            value=e.estimate,
            lower=e.lower,
            upper=e.upper,
            reason="refused, see below" if judged.verdict is Verdict.REFUSE else e.reason or "-",
        )
        for name, judged in report.targets.items()
        for e in [judged.estimators["dr"]]
    ]
    return environment.get_template("report.html").render(
        report=report, source=source, seed=seed, version=__version__,
        model_versions=list(model_versions), level=f"{100 * report.method.level:.4g}",
        first=_when(report.first), last=_when(report.last), Verdict=Verdict,
        overview=_safe(plots.forest(overview, "Value of each target (doubly robust)", logged)),
        targets=[_target(name, judged, logged) for name, judged in report.targets.items()],
    )  # fmt: skip


def _target(name: str, judged: Judged, logged: float | None) -> dict[str, Any]:
    difference = judged.difference
    days, values, halves = _course(judged.by_day)
    tail = judged.support.tail
    bins = tail[:, 0].reshape(-1, PER_OCTAVE).sum(axis=1)
    edges = [0.0, *bin_edges()[PER_OCTAVE::PER_OCTAVE].tolist()]
    against = "what was logged" if judged.against == LOGGING else judged.against
    return {
        "name": name,
        "judged": judged,
        "against": against,
        "sentence": _sentence(name, judged, against),
        "rows": [(WHAT[e], _number(found), _interval(found), found.interval or found.reason)
                 for e, found in judged.estimators.items()],
        "difference": (_number(difference), _interval(difference)),
        "course": _safe(plots.course(days, values, halves, f"Value of {name} over time", logged)),
        "tail": _safe(
            plots.histogram(edges, (bins / max(1.0, bins.sum())).tolist(),
                            f"Importance weights of {name}")
        ),
        "segments": _safe(
            plots.forest(
                [Bar(label=s.name, value=s.value.estimate, lower=s.value.lower,
                     upper=s.value.upper, reason=f"{s.reason or s.value.reason} ({s.rows:,} rows)")
                 for s in judged.segments],
                f"Value of {name} by segment", logged,
            )
        ),
    }  # fmt: skip


def _sentence(name: str, judged: Judged, against: str) -> str:
    """Return what the log says of a target, in words."""
    if judged.verdict is Verdict.REFUSE:
        reason = next(
            (c.message for c in judged.checks if c.status is Verdict.REFUSE), "the log is refused"
        )
        return f"This log cannot say what {name} would earn: {reason}."
    found = judged.difference
    if name == against:
        return f"{name} is what the others are set against."
    if found.estimate is None or found.lower is None or found.upper is None:
        return f"There is no interval for {name} against {against}."
    by = f"by {abs(found.estimate):.4f} per impression ({found.lower:+.4f} to {found.upper:+.4f})"
    if found.lower > 0:
        return f"{name} would earn more than {against}, {by}."
    if found.upper < 0:
        return f"{name} would earn less than {against}, {by}."
    more = "" if judged.rows_to_decide is None else (
        f" If the estimate is right, about {judged.rows_to_decide:,} rows like these would decide."
    )  # fmt: skip
    between = f"{found.lower:+.4f} to {found.upper:+.4f}"
    return f"{name} and {against} cannot be told apart: {between}.{more}"


def _course(by_day: dict[int, BucketSums]) -> tuple[list[str], list[float], list[float]]:
    """Return the days, values and half widths (1.96 standard errors) of at most MOST_POINTS."""
    days = sorted(by_day)
    together = math.ceil(len(days) / MOST_POINTS) or 1
    names, values, halves = [], [], []
    for first in range(0, len(days), together):
        some = days[first : first + together]
        sums = by_day[some[0]]
        for day in some[1:]:
            sums = sums + by_day[day]
        mean, error = value(sums), standard_error(sums)
        if mean is not None and error is not None:
            names.append(f"{instant(some[0] * DAY):%Y-%m-%d}")
            values.append(mean)
            halves.append(1.96 * error)
    return names, values, halves


def _number(found: Estimate) -> str:
    return "–" if found.estimate is None else f"{found.estimate:.5f}"


def _interval(found: Estimate) -> str:
    if found.lower is None or found.upper is None:
        return "–"
    return f"{found.lower:.5f} to {found.upper:.5f}"


def _when(microseconds: int) -> str:
    return f"{instant(microseconds):%Y-%m-%d %H:%M} UTC" if microseconds else "–"


def _safe(svg: str) -> Any:
    """Return our own SVG, whose texts are escaped, as what the template need not escape."""
    import markupsafe

    return markupsafe.Markup(svg)
