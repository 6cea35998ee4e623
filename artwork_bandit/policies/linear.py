"""A compiled model: scores that are linear in the context for a fixed variant.

    score(u, x, v) = [1, u] . weights . [1, x] + own[v]

with u the encoded context, x the encoded features of variant v. `weights` is found by probing
Vowpal Wabbit (`policies.vowpal`), and serving never loads VW. Scores are predicted rewards,
linearised, up to a term common to all variants of a title (its own popularity), which no policy
needs.

A page is `z = [1, u] . weights` once, then one row of variant features times `z` per variant: the
product [contexts x variants] of the whole catalogue is never formed, so a new variant costs one
encoded row.
"""

from __future__ import annotations

import msgspec
import numpy as np

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.variants import VariantColumns


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


class LinearModel(msgspec.Struct, frozen=True):
    """Weights of a compiled model and the encoders they belong to."""

    context_encoder: ContextEncoder
    variant_encoder: VariantEncoder
    weights: list[list[float]]
    """[1 + context columns] x [1 + variant columns]."""
    own: dict[int, float]
    """64-bit variant id -> the variant's own effect."""

    def matrix(self) -> Floats:
        """Return `weights` as an array."""
        shape = (1 + len(self.context_encoder.columns), 1 + len(self.variant_encoder.columns))
        return np.asarray(self.weights, np.float64).reshape(shape)

    def encode_variants(self, variants: VariantColumns) -> tuple[Floats, Floats]:
        """Return ([n x (1 + variant columns)] with a leading 1, [n] own effects)."""
        columns = self.variant_encoder.encode(variants.features)
        own = np.array([self.own.get(int(key), 0.0) for key in variants.keys], np.float64)
        return np.hstack([np.ones((len(columns), 1)), columns]), own


def scores(
    weights: Floats,
    contexts: Floats,
    variants: Floats,
    own: Floats,
    context_of: Ints,
    rows: Ints,
) -> Floats:
    """Return one score per (context, variant) pair.

    `weights` [1 + c, 1 + f], `contexts` [n, c], `variants` [V, 1 + f], `own` [V]; pair i joins
    context `context_of[i]` with variant `rows[i]`.
    """
    z = weights[0] + contexts @ weights[1:]
    # Summed along the row, not by a matrix product: a pair's score must not depend on which
    # other pairs are asked for.
    found: Floats = np.einsum("ij,ij->i", variants[rows], z[context_of]) + own[rows]
    return found
