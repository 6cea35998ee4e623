"""A compiled model: scores that are linear in the context for a fixed variant.

    score(u, x, v) = [1, u] . weights . [1, x] + own[v] . [1, f]  ( + s watched . [1, x] )

with u the encoded context, f some of its columns (the member's taste factors), x the encoded
features of variant v and own[v] what was learned of that very variant; s, where the member watched
of v's very title, is the share, and `watched` its row of the weights. All are found by probing
Vowpal Wabbit (`policies.vowpal`), and serving never loads VW. Scores are predicted rewards on
[0, 1], linearised, up to a term common to all variants of a title (its own popularity), which no
policy needs.

A page is `z = [1, u] . weights` once, then a sparse row of variant features times `z` per variant.
The product [context columns x variants] of the whole catalogue is never formed: for 50,000 variants
and 200 context columns it would be 80 MB to make at every change; the sparse rows are 5 MB, and a
new variant costs one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np

from artwork_bandit.domain import Floats, Ints, ranges
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.features import EMPHASIS, KINDS
from artwork_bandit.policies.rendezvous import UInt64s
from artwork_bandit.policies.variants import VariantColumns

TAGGED = f"{EMPHASIS}{KINDS[0]}:"
"""Begins the tokens of tags that are trusted."""
MOST_BESIDE = 16
"""Tokens of a row that are kept beside those of other rows."""


class Canary(msgspec.Struct, frozen=True):
    """One prediction of Vowpal Wabbit itself, kept to check the compiled model wherever it runs."""

    context: list[float]
    """Encoded context columns."""
    variant: list[float]
    """Encoded variant columns."""
    variant_key: int | None
    """64-bit id of the variant whose own effect is included, or None."""
    score: float
    """What the compiled model must give."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearModel:
    """Weights of a compiled model and the encoders they belong to; arrays may be mapped files."""

    context_encoder: ContextEncoder
    variant_encoder: VariantEncoder
    weights: Floats
    """[1 + context columns, 1 + variant columns]."""
    own_keys: UInt64s
    """64-bit ids of the variants with an effect of their own, increasing."""
    own_effects: Floats
    """[their number, 1 + own columns]: for any member, and per unit of each own column."""
    own_columns: list[int] = field(default_factory=list)
    """Context columns that act on each variant in its own way."""

    @property
    def own_genres(self) -> list[int]:
        """Which of the own columns are of genres (`policies.doubtful`)."""
        return [i for i, c in enumerate(self.own_columns) if c < len(self.context_encoder.genres)]

    def own(self, keys: UInt64s) -> Floats:
        """Return [n, 1 + own columns], 0 for variants the log never had."""
        if not len(self.own_keys):
            return np.zeros((len(keys), 1 + len(self.own_columns)))
        at = np.minimum(np.searchsorted(self.own_keys, keys), len(self.own_keys) - 1)
        found: Floats = self.own_effects[at] * (self.own_keys[at] == keys)[:, None]
        return found

    def scores(
        self, contexts: Floats, variants: EncodedVariants, context_of: Ints, rows: Ints
    ) -> Floats:
        """Return one score per (context, variant) pair.

        `contexts` [n, c]; pair i joins context `context_of[i]` with variant `rows[i]`. Each pair
        is summed by itself: a score must not depend on which others are asked for.
        """
        z = self.weights[0] + contexts @ self.weights[1:]
        # `take` is four times as fast as indexing, with 64-bit indices only.
        columns = variants.columns.take(rows, axis=0)
        weight = z[0].take(columns) if len(z) == 1 else z[context_of[:, None], columns]
        found: Floats = np.einsum("ij,ij->i", variants.values.take(rows, axis=0), weight)
        if self.own_columns:
            factors = np.ones((len(contexts), 1 + len(self.own_columns)))
            factors[:, 1:] = contexts[:, self.own_columns]
            own = variants.own.take(rows, axis=0)
            if len(factors) == 1:
                found += np.einsum("ij,j->i", own, factors[0])
            else:
                found += np.einsum("ij,ij->i", own, factors.take(context_of, axis=0))
        else:
            found += variants.own[:, 0].take(rows)
        if variants.wide:
            for i in np.flatnonzero(np.isin(rows, list(variants.wide))).tolist():
                more, value = variants.wide[int(rows[i])]
                found[i] += float(value @ z[context_of[i], more])
        return found


@dataclass(frozen=True, slots=True, eq=False)
class EncodedVariants:
    """A table of V variants as one model sees it: sparse rows of columns, beside each other."""

    columns: Ints
    """[V, K]: per token, the column of the weights; the constant is column 0. Rows with fewer than
    K tokens end in the constant with value 0."""
    values: Floats
    """[V, K]."""
    own: Floats
    """[V, 1 + own columns]."""
    wide: dict[int, tuple[Ints, Floats]]
    """Row -> (columns, values) of its tokens beyond K: a few rows must not widen all."""
    watched: Floats | None = None
    """V, what a title watched to the end adds to the scores of its variants; None if the model
    does not know."""

    @staticmethod
    def of(model: LinearModel, variants: VariantColumns) -> EncodedVariants:
        table = variants.features
        columns, values = model.variant_encoder.columns_of(table)
        k = min(int(table.sizes.max(initial=1)), MOST_BESIDE)
        kept = np.minimum(table.sizes, k)
        at = ranges(table.starts, kept)
        place = ranges(np.arange(len(table)) * k, kept)
        beside = np.zeros(len(table) * k, np.int64)
        weights = np.zeros(len(table) * k)
        beside[place], weights[place] = columns[at], values[at]
        wide = {}
        for row in np.flatnonzero(table.sizes > k).tolist():
            rest = slice(table.starts[row] + k, table.starts[row] + table.sizes[row])
            wide[row] = (columns[rest], values[rest])
        watched = None
        if (column := model.context_encoder.watched_column) is not None:
            flat, begins = table.flat(np.arange(len(table)))
            parts = values[flat] * model.weights[1 + column][columns[flat]]
            watched = np.add.reduceat(parts, begins) if len(begins) else np.empty(0)
        return EncodedVariants(
            beside.reshape(-1, k), weights.reshape(-1, k), own_of(model, variants), wide, watched
        )

    @staticmethod
    def dense(rows: Floats, own: Floats) -> EncodedVariants:
        """Return given rows [V, 1 + f], the first column being 1."""
        columns = np.tile(np.arange(rows.shape[1]), (len(rows), 1))
        return EncodedVariants(columns, rows, own, {})


def own_of(model: LinearModel, variants: VariantColumns) -> Floats:
    """Return [V, 1 + own columns]; nothing of genres for variants that a trusted tag tells of by
    now, though none did when the model learned what they emphasise."""
    own, genres = model.own(variants.keys), model.own_genres
    if genres:
        table = variants.features
        flat, begins = table.flat(np.arange(len(table)))
        tags = table.tokens[flat]
        told = np.isin(tags, [at for name, at in table.numbers.items() if name.startswith(TAGGED)])
        if len(begins):
            trusted = np.flatnonzero(np.add.reduceat(told, begins))
            own[np.ix_(trusted, 1 + np.array(genres))] = 0.0
    return own


def contributions(weights: Floats, context: Floats, variant: Floats) -> Floats:
    """Return what each (context column, variant column) pair adds to a score.

    [1 + c, 1 + f] from `context` [c] and `variant` [1 + f]; row and column 0 are the constants.
    """
    found: Floats = weights * np.concatenate([[1.0], context])[:, None] * variant
    return found
