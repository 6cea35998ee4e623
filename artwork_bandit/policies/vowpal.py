"""Vowpal Wabbit's text format, and compiling a VW model by asking it.

The model is a logistic regression of the reward on what was shown (the direct method of
contextual bandits; Beygelzimer and Langford 2009), explored by our own closed forms. Why not
`--cb_adf`: it writes n lines for each row to learn from one of them, takes no row weights, fits a
probability by squared loss, and captured less of what can be gained (`simulations.learning`
prints both). Propensities have their place in evaluation and in the gate, which do not trust
this model.

Nothing here loads VW: a predictor is a function from a line to a raw prediction (a logit). Only
numbers that this module formats reach VW, as `|namespace column:value`; a name from outside never
does, and neither does a number that is not finite (VW accepts both silently, and learns nonsense).

Namespaces: `t` title, `g` context columns, `v` variant columns, `o` the variant's own effect, `a`
its affinity for the member. `g` and `v` interact (`-q gv`). For a fixed variant the raw
prediction is linear in the context, so unit contexts against unit variants recover every weight,
to VW's float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.policies.linear import Canary

Predictor = Callable[[str], float]
"""From one line without label to VW's raw prediction."""

OWN_VALUE = 0.1
"""Value of a variant's own feature: small, so that its effect is shrunk towards what its features
and its title say until it has been shown often (adaptive steps would fit a handful of plays)."""


def columns_text(values: Floats) -> str:
    """Return ` i:value` for each non-zero column; raises ValueError unless all are finite."""
    if not np.all(np.isfinite(values)):
        raise ValueError("a value for Vowpal Wabbit is not finite")
    at = np.flatnonzero(values)
    return "".join(f" {i}:{x:.7g}" for i, x in zip(at.tolist(), values[at].tolist(), strict=True))


def context_text(context: Floats) -> str:
    return f"|g{columns_text(context)}"


def variant_text(variant: Floats, own: int | None) -> str:
    """Return what does not depend on the context; `own` is the variant's number, or None."""
    own_text = "" if own is None else f" |o {own}:{OWN_VALUE}"
    return f"|v{columns_text(variant)}{own_text}"


def affinity_text(affinity: float) -> str:
    """Return the affinity namespace."""
    if not np.isfinite(affinity):
        raise ValueError("an affinity for Vowpal Wabbit is not finite")
    return f"|a 0:{affinity:.7g}" if affinity else "|a"


def labels(reward: float, weight: float) -> list[str]:
    """Return the labels of one row: a reward strictly between 0 and 1 is a part of each class."""
    if not 0 <= reward <= 1 or not 0 < weight < np.inf:
        raise ValueError(f"label with reward {reward} and weight {weight}")
    parts = (("1", reward * weight), ("-1", (1 - reward) * weight))
    return [f"{label} {part:.7g}" for label, part in parts if part > 0]


def affinities(context: Floats, variants: Floats, pairs: tuple[Ints, Ints]) -> Floats:
    """Return per variant [n] how much the context's member likes the genres it emphasises."""
    found: Floats = np.einsum("ij,j->i", variants[:, pairs[1]], context[pairs[0]])
    return found


def line(context: Floats, variant: Floats, own: int | None, pairs: tuple[Ints, Ints]) -> str:
    """Return one example without label and title."""
    affinity = float(affinities(context, variant[None], pairs)[0])
    return " ".join((context_text(context), variant_text(variant, own), affinity_text(affinity)))


def compile_weights(
    predict: Predictor, context_columns: int, variant_columns: int, pairs: tuple[Ints, Ints]
) -> Floats:
    """Return logit weights [1 + context columns, 1 + variant columns], NaN where VW's are."""
    contexts = np.vstack([np.zeros(context_columns), np.eye(context_columns)])
    variants = np.vstack([np.zeros(variant_columns), np.eye(variant_columns)])
    table = np.array([[predict(line(u, x, None, pairs)) for x in variants] for u in contexts])
    table[is_forced(table, table[0, 0])] = np.nan
    weights = table.copy()
    weights[1:] -= table[0]
    weights[:, 1:] -= weights[:, :1]
    return weights


def compile_own(predict: Predictor, numbers: Sequence[int]) -> Floats:
    """Return the own effect of each variant number, as a logit, NaN where VW's is."""
    nothing = np.zeros(0)
    intercept = predict(variant_text(nothing, None))
    raw = np.array([predict(variant_text(nothing, number)) for number in numbers], np.float64)
    raw[is_forced(raw, intercept)] = np.nan
    return raw - intercept


def is_forced(raw: Floats, intercept: float) -> npt.NDArray[np.bool_]:
    """Return where a prediction of a trained model is no prediction.

    `--freegrad` leaves a NaN weight now and then (a few in ten thousand, features seen a handful
    of times), and VW answers NaN with exactly 0, saying nothing.
    """
    return np.asarray((raw == 0.0) & (intercept != 0.0))


def canaries(
    predict: Predictor, contexts: Floats, variants: Floats, owns: Sequence[int | None],
    keys: Mapping[int, int], pairs: tuple[Ints, Ints], scale: float,
) -> list[Canary]:  # fmt: skip
    """Return VW's predictions, times `scale`, for each (context, variant, own number) row."""
    return [
        Canary(
            context=u.tolist(),
            variant=x.tolist(),
            variant_key=None if own is None else keys[own],
            score=scale * predict(line(u, x, own, pairs)),
        )
        for u, x, own in zip(contexts, variants, owns, strict=True)
    ]
