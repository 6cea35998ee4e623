"""OK, CAUTION or REFUSE: said before any number, with the reason in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from artwork_bandit.estimators import Estimate
from artwork_bandit.estimators.diagnostics import Support

FEWEST_ROWS = 200
FEWEST_GROUPS = 30
"""Member buckets needed for a clustered variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Below the first number of each pair a target is refused, below the second it is a caution."""

    effective: tuple[float, float]
    """Effective sample size."""
    rewarded: tuple[float, float]
    """Effective number of rewarded rows."""


BOUNDED = Limits(effective=(100.0, 1000.0), rewarded=(5.0, 60.0))
"""For intervals that know what could still come (Cressie-Read): they cover with few rows too."""
NORMAL = Limits(effective=(300.0, 1000.0), rewarded=(60.0, 150.0))
"""For intervals that know only what was seen: below, they cover less than they say
(`simulations.coverage --same-limits`)."""
MEAN_WEIGHT_CAUTION, MEAN_WEIGHT_REFUSE = 3.0, 5.0
"""Standard errors of the mean weight from 1."""
LARGEST_SHARE_CAUTION, LARGEST_SHARE_REFUSE = 0.05, 0.25
APART_CAUTION = 3.0
"""Standard errors between two estimators."""
TOP_PERCENT_CAUTION = 0.5
"""Share of all weight on the heaviest hundredth of the rows."""
UNSUPPORTED_CAUTION, UNSUPPORTED_REFUSE = 0.001, 0.02
FEW_MEMBERS = 0.5
"""Effective rewarded members per effective rewarded row below which members are what is few."""
REWARDED_MEMBERS = (40.0, 100.0)
"""Below the first a target is refused, below the second it is a caution: with 15 intervals covered
.92, and so they did with 28 of 100 rows each, since the unseen row that widens them is one row, not
a member (`simulations.coverage --members 200 --earning 0.1`)."""


ROUNDED = 1e-9
"""Width below which an interval is one number, but for how it was rounded."""


class Verdict(StrEnum):
    OK = "OK"
    CAUTION = "CAUTION"
    REFUSE = "REFUSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Verdict
    value: float | None
    limit: float
    """The value at which the verdict turns REFUSE."""
    message: str


def overall(checks: Iterable[Check]) -> Verdict:
    """Return the worst status."""
    found = {check.status for check in checks}
    return next((v for v in (Verdict.REFUSE, Verdict.CAUTION) if v in found), Verdict.OK)


NO_ROW = "no row of the log can judge this"


def support_checks(
    support: Support, unsupported: float | None, limits: Limits = BOUNDED,
    rewarded_members: float | None = None, of: str = "members",
    none: str = NO_ROW,
) -> list[Check]:  # fmt: skip
    """Return what the weights say about a target.

    `unsupported` is the share of the target's probability on variants of logged probability 0,
    None where the log has no pmfs to tell; `rewarded_members` the effective number of clusters that
    earned something; `of` what these are; `none` what is said where there is no row.
    """
    rows, ess = support.rows, support.effective_sample_size
    if rows == 0:
        return [_below("rows", 0, FEWEST_ROWS, FEWEST_ROWS, none)]
    fewest, few = limits.effective
    fewest_rewarded, few_rewarded = limits.rewarded
    more = max(0, round(rows * (fewest / ess - 1))) if ess else 0
    rewarded = support.effective_rewarded
    more_rewarded = max(0, round(rows * (fewest_rewarded / rewarded - 1))) if rewarded else 0
    # No advice that would still leave too few.
    more, more_rewarded = (max(n, FEWEST_ROWS - rows) if n else 0 for n in (more, more_rewarded))
    checks = [
        _below(
            "rows", rows, FEWEST_ROWS, FEWEST_ROWS,
            f"{rows} rows can judge this; at least {FEWEST_ROWS} are needed",
        ),
        _below(
            "member_groups", support.groups, FEWEST_GROUPS, FEWEST_GROUPS,
            f"{support.groups} groups of {of}; an interval needs at least {FEWEST_GROUPS}",
        ),
        _below(
            "effective_sample_size", ess, fewest, few,
            f"{rows:,} rows weigh like {ess:,.0f}; "
            + (f"about {more:,} more rows like these, or " if more else "")
            + "logging closer to the target, would help" if ess < fewest
            else f"{rows:,} rows weigh like {ess:,.0f}",
        ),
        _below(
            "effective_rewarded", rewarded, fewest_rewarded, few_rewarded,
            f"the estimate rests on the equivalent of {rewarded:,.0f} rewarded rows"
            + (f"; about {more_rewarded:,} more rows would help" if more_rewarded else ""),
        ),
        _above(
            "largest_weight_share", support.largest_share,
            LARGEST_SHARE_CAUTION, LARGEST_SHARE_REFUSE,
            f"one row carries {support.largest_share:.1%} of all weight"
            + ("; logging closer to the target would help"
               if support.largest_share > LARGEST_SHARE_REFUSE else ""),
        ),
    ]  # fmt: skip
    if rewarded_members is not None and rewarded_members < FEW_MEMBERS * rewarded:
        refused, cautious = REWARDED_MEMBERS
        checks.append(
            _below(
                "effective_rewarded_members", rewarded_members, refused, cautious,
                f"the rewards are those of the equivalent of {rewarded_members:,.0f} {of}; more "
                f"{of}, not more rows of the same, would help",
            )
        )  # fmt: skip
    checks.append(
        _above(
            "top_percent_share", support.top_percent_share,
            TOP_PERCENT_CAUTION, math.inf,
            "the heaviest hundredth of the rows carries about "
            f"{support.top_percent_share:.0%} of all weight",
        )
    )  # fmt: skip
    z = support.mean_weight_z
    if z is not None:
        checks.append(
            _above(
                "mean_weight", abs(z), MEAN_WEIGHT_CAUTION, MEAN_WEIGHT_REFUSE,
                f"the mean weight is {support.mean_weight:.3f}, {abs(z):.1f} standard errors from "
                "1; further off, propensities are wrong or the target shows what was never logged",
            )
        )  # fmt: skip
    if unsupported is not None:
        checks.append(
            _above(
                "unsupported",
                unsupported,
                UNSUPPORTED_CAUTION,
                UNSUPPORTED_REFUSE,
                f"{unsupported:.1%} of the target's probability is on variants never logged"
                + (
                    "; give them some probability while logging, or judge a target without them"
                    if unsupported > UNSUPPORTED_REFUSE
                    else ""
                ),
            )
        )
    return checks


def agreement(found: Mapping[str, Estimate]) -> list[Check]:
    """Return whether two estimators that use different facts agree within their noise."""
    snips, dr = found["snips"], found["dr"]
    if snips.estimate is None or dr.estimate is None or not snips.standard_error:
        return []
    apart = abs(snips.estimate - dr.estimate) / snips.standard_error
    return [
        _above(
            "agreement", apart, APART_CAUTION, math.inf,
            f"SNIPS and DR are {apart:.1f} standard errors apart"
            + ("; one of propensities and predictions misleads" if apart > APART_CAUTION else ""),
        )
    ]  # fmt: skip


def outside(found: Mapping[str, Estimate]) -> list[Check]:
    """Return whether an estimate lies at the end of its own interval: outside of what the rules
    allow, which was widened to hold it."""
    names = [
        name for name, e in found.items()
        if e.estimate is not None and e.lower is not None and e.upper is not None
        and e.upper - e.lower > ROUNDED and e.estimate in (e.lower, e.upper)
    ]  # fmt: skip
    told = ", ".join(names)
    message = (
        f"{told}: the estimate is the end of its interval: the mean weight is so far from 1 that "
        "what the weights say of all rows and of the rewards do not go together; more rows would "
        "help"
    )
    return [_above("at_the_end", float(len(names)), 0.0, math.inf, message)] if names else []


def _below(name: str, value: float, refuse: float, caution: float, message: str) -> Check:
    status = Verdict.OK
    if value < caution:
        status = Verdict.REFUSE if value < refuse else Verdict.CAUTION
    return Check(name=name, status=status, value=float(value), limit=refuse, message=message)


def _above(name: str, value: float, caution: float, refuse: float, message: str) -> Check:
    status = Verdict.OK
    if not value <= caution:
        status = Verdict.CAUTION if value <= refuse else Verdict.REFUSE
    return Check(name=name, status=status, value=float(value), limit=refuse, message=message)
