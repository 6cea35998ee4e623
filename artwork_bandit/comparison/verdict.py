"""What can be said of a title's variants, in words, at whatever day somebody looks.

    Winner                surely ahead of every other running variant
    Likely                surely ahead of the baseline variant; which of several is open
    No difference found   if there is one, it is surely smaller than what matters
    Not enough data yet   none of these; with how long it may take

"Surely" is by confidence sequences (`estimators.sequence`), which hold at all looks together, so
that looking every day does not make a winner by chance. Of variants that are all the same, one is
called Winner or Likely with probability 5% at most (`simulations.comparison --same`). A winner has
to beat every other one, each at 5% two-sided: what is most easily mistaken are two that are the
same and ahead of the rest, and then one of the two is wrong in 5%. With k running variants k - 1
may be Likely, each at one-sided 5% / k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.estimators import contrast as contrasts
from artwork_bandit.estimators.contrast import Contrast

ALPHA = 0.05
"""Probability of ever calling a difference that is not there, for a title."""
MATTERS = 0.1
"""Differences below this share of the baseline variant's rate are taken as none."""
LONGEST_DAYS = 365.0


class Word(StrEnum):
    WINNER = "Winner"
    LIKELY = "Likely"
    NONE = "No difference found"
    WAIT = "Not enough data yet"
    SINGLE = "Nothing to compare"


SAID = (Word.WINNER, Word.LIKELY, Word.NONE)
"""Words that say something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What can be said, of whom, and why."""

    word: Word
    reason: str
    leader: int | None = None
    """Number of the variant it is about."""
    gain: float | None = None
    """Lift of the leader over the baseline variant on decisions they have in common, a share of its
    rate; None where nothing tells."""
    days_left: float | None = None
    """Days until something can be said at the present traffic; None if nobody can tell."""


def decide(
    found: Contrast, running: Ints, baseline: int, names: list[str], rows_a_day: float
) -> Verdict:
    """Return the verdict on the running variants.

    `running` are numbers of variants, `baseline` is the one that others are measured against,
    `names` are all variants' names, `rows_a_day` is the title's traffic of late.
    """
    if len(running) < 2:
        return Verdict(word=Word.SINGLE, reason="there is only one running variant")
    known = running[found.told[running]]
    if len(known) < 2 or not found.told[baseline]:
        return _too_little(found, running, baseline, names, rows_a_day)
    pairwise = found.difference_half_widths(ALPHA)
    leader = _leader(found, known, baseline)
    others = known[known != leader]
    called, beside = names[leader], names[baseline]
    comparable = others[found.enough[leader, others]]
    if not len(comparable) or (leader != baseline and baseline not in comparable):
        apart = int(others[0]) if leader == baseline else baseline
        often = "hardly ever" if found.rows[leader, apart] else "never"
        return Verdict(
            word=Word.WAIT,
            reason=f"{called} and {names[apart]} could {often} be shown to the same members, on "
            "the same days: nothing tells which is better",
        )
    beaten = found.difference[leader, others] > pairwise[leader, others]
    beaten &= found.enough[leader, others]
    gain = None if leader == baseline else found.lift(leader, baseline, ALPHA)[0]
    gain = 0.0 if gain is None else gain if np.isfinite(gain) else None
    if beaten.all() and len(known) == len(running):
        return Verdict(
            word=Word.WINNER, leader=leader, gain=gain,
            reason=f"{called} is ahead of every other variant",
        )  # fmt: skip
    half = found.difference_half_widths(2 * ALPHA / len(running))
    if leader != baseline and found.difference[leader, baseline] > half[leader, baseline]:
        unknown = [v for v in running.tolist() if v not in known]
        close = [names[v] for v, sure in zip(others, beaten, strict=True) if not sure]
        close += [names[v] for v in unknown]
        rivals = np.setdiff1d(comparable, others[beaten])
        days = _days(found, leader, rivals, pairwise, rows_a_day) if len(rivals) else None
        if unknown:
            days = _too_little(found, running, baseline, names, rows_a_day).days_left
        return Verdict(
            word=Word.LIKELY, leader=leader, gain=gain, days_left=days,
            reason=f"{called} is ahead of {beside}; {_listed(close)} may be as good",
        )  # fmt: skip
    span = np.abs(found.difference) + pairwise
    matters = MATTERS * np.minimum(found.common, found.common.T)
    alike = (span < matters) & found.enough
    if len(known) == len(running) and alike[np.ix_(known, known)].all(
        where=~np.eye(len(known), dtype=bool)
    ):
        return Verdict(
            word=Word.NONE,
            reason=f"if variants differ at all, then by less than {MATTERS:.0%} of {beside}'s rate",
        )
    rival = np.setdiff1d(comparable, others[beaten]) if leader == baseline else np.array([baseline])
    if not len(rival):
        unknown = [names[v] for v in np.setdiff1d(running, [leader, *others[beaten]]).tolist()]
        return Verdict(
            word=Word.WAIT, leader=leader, gain=gain,
            reason=f"{called} is ahead of all it can be compared with, and nothing tells of "
            f"{_listed(unknown)}",
        )  # fmt: skip
    return Verdict(
        word=Word.WAIT, leader=leader, gain=gain,
        reason=f"{called} leads so far, which may be chance",
        days_left=_days(found, leader, rival, half, rows_a_day),
    )  # fmt: skip


def _leader(found: Contrast, known: Ints, baseline: int) -> int:
    """Return the variant that is ahead of most others, each on the decisions they have in common;
    of several the one that is most ahead of the baseline."""
    both = np.ix_(known, known)
    ahead = found.enough[both] & (found.difference[both] > 0)
    lead = np.where(found.enough[known, baseline], found.difference[known, baseline], -np.inf)
    return int(known[np.lexsort((lead, ahead.sum(axis=1)))[-1]])


def _too_little(
    found: Contrast, running: Ints, baseline: int, names: list[str], rows_a_day: float
) -> Verdict:
    """Return the verdict while too few variants have an interval."""
    short = [v for v in {*running.tolist(), baseline} if not found.told[v]]
    with np.errstate(divide="ignore"):
        factor = contrasts.FEWEST_ROWS / found.effective_rows
    # Two variants with an interval, the baseline among them, are enough for a first word.
    first = min((factor[v] for v in short if v != baseline), default=1.0)
    needed = max(first, factor[baseline] if baseline in short else 1.0, 1.0)
    rows = float(found.rows[baseline, baseline])
    return Verdict(
        word=Word.WAIT,
        reason=f"{_listed([names[v] for v in sorted(short)])} "
        f"{'has' if len(short) == 1 else 'have'} been seen too little",
        days_left=_until(rows, needed * rows if rows else math.inf, rows_a_day),
    )


def _days(
    found: Contrast, leader: int, rivals: Ints, half: Floats, rows_a_day: float
) -> float | None:
    """Return how many days it takes until the leader can be told from the closest rival, or be said
    to differ too little to matter, if it is ahead by as much as it seems."""
    worst = 0.0
    for rival in rivals:
        lead = abs(float(found.difference[leader, rival]))
        matters = MATTERS * float(min(found.common[rival, leader], found.common[leader, rival]))
        allowed = max(lead, matters - lead, 1e-9)
        rows = float(found.rows[leader, rival])
        worst = max(worst, rows * (float(half[leader, rival]) / allowed) ** 2 - rows)
    return _until(0.0, worst, rows_a_day)


def _until(have: float, need: float, rows_a_day: float) -> float | None:
    if rows_a_day <= 0 or not np.isfinite(need) or have < 0:
        return None
    days = (need - have) / rows_a_day
    return float(min(max(days, 0.0), LONGEST_DAYS))


def _listed(names: list[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} others"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "others"
