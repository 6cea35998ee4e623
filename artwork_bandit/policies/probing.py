"""Compiling a Vowpal Wabbit model by asking it, in the text of `policies.vowpal`.

Nothing here loads VW: a predictor is a function from a line to a raw prediction (a logit).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies.linear import Canary
from artwork_bandit.policies.vowpal import Form

Predictor = Callable[[str], float]
"""From one line without label to VW's raw prediction."""


def compile_weights(
    predict: Predictor, form: Form, context_columns: int, variant_columns: int,
    acting: Sequence[int] | None = None,
) -> Floats:  # fmt: skip
    """Return logit weights [1 + context columns, 1 + variant columns]; those of `acting` context
    columns alone, and of none, where these are given."""
    rows = range(context_columns) if acting is None else acting
    contexts = np.vstack([np.zeros(context_columns), np.eye(context_columns)[list(rows)]])
    variants = np.vstack([np.zeros(variant_columns), np.eye(variant_columns)])
    of_contexts = form.context_texts(contexts)
    of_variants = form.variant_texts(variants, [None] * len(variants))
    liked = np.stack([contexts[:, c] @ variants[:, v].T for c, v in form.pairs], axis=-1)
    crosses = [form.cross_texts(np.tile(u, (len(variants), 1)), variants) for u in contexts]
    parts = (of_contexts, map(form.affinity_texts, liked), crosses)
    table = np.array(
        [
            [predict(f"{u} {x} {a}{c}") for x, a, c in zip(of_variants, *more, strict=True)]
            for u, *more in zip(*parts, strict=True)
        ]
    )
    weights = table.copy()
    weights[1:] -= table[0]
    weights[:, 1:] -= weights[:, :1]
    return _finite(weights)


def compile_affinities(predict: Predictor, form: Form) -> Floats:
    """Return logit effects [kinds]: of one unit of each affinity, without any crosses."""
    nothing = predict("|")
    texts = form.affinity_texts(np.eye(len(form.pairs)))
    return _finite(np.array([predict(text) - nothing for text in texts]))


def compile_genre_crosses(predict: Predictor, form: Form, emphasis_columns: int) -> Floats:
    """Return logit effects [genres, emphasis columns]: of one unit of each cross, alone."""
    nothing = predict("|")
    table = [
        [predict(form.cross_text(g, e)) - nothing for e in range(emphasis_columns)]
        for g in range(form.genres)
    ]
    return _finite(np.array(table).reshape(form.genres, emphasis_columns))


def compile_own(
    predict: Predictor, form: Form, context_columns: int, numbers: Sequence[int]
) -> Floats:
    """Return [numbers, 1 + own columns]: each variant's own effects, as logits."""
    acting = form.factors if form.own_crosses else []
    contexts = np.zeros((1 + len(acting), context_columns))
    contexts[np.arange(1, 1 + len(acting)), acting] = 1.0
    before = form.context_texts(contexts)
    plain = np.array([predict(text) for text in before])
    owns = map(form.own_text, numbers)
    table = np.array(
        [[predict(f"{text}{own}") for text in before] for own in owns], np.float64
    ).reshape(len(numbers), len(before))
    own = table - plain
    own[:, 1:] -= own[:, :1]
    if (genres := form.own_genres) is not None:
        nothing = predict("|")
        effects = np.array([predict(text) - nothing for text in form.pair_texts()])
        own = np.hstack([own, genres.per_genre(effects)[list(numbers)]])
    return _finite(own)


def canaries(
    predict: Predictor, form: Form, contexts: Floats, variants: Floats,
    owns: Sequence[int | None], keys: Mapping[int, int], scale: float,
) -> list[Canary]:  # fmt: skip
    """Return VW's predictions, times `scale`, for each (context, variant, own number) row."""
    return [
        Canary(
            context=u.tolist(),
            variant=x.tolist(),
            variant_key=None if own is None else keys[own],
            score=scale * predict(form.line(u, x, own)),
        )
        for u, x, own in zip(contexts, variants, owns, strict=True)
    ]


def _finite(weights: Floats) -> Floats:
    if not np.all(np.isfinite(weights)):
        raise BrokenModel("Vowpal Wabbit predicts numbers that are not finite; not registered")
    return weights
