"""Policies: from contexts and action sets to a probability per variant.

One object serves HTTP, training's gate and evaluation. A policy is bound once to a table of
variants (a catalogue, or the variants of a log block), then asked for pmfs of whole pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from artwork_bandit.domain import Context, Floats, Ints
from artwork_bandit.policies import exploration, ragged
from artwork_bandit.policies.encoding import BoundEncoder
from artwork_bandit.policies.exploration import Exploration
from artwork_bandit.policies.linear import EncodedVariants, LinearModel
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.policies.watched import watched_shares


class BoundPolicy(Protocol):
    """A policy that knows the variants it chooses from."""

    @property
    def floor_share(self) -> float:
        """Total probability it spreads evenly over the eligible variants; 0 for a fixed one."""

    def pmf(
        self, contexts: Sequence[Context], context_of: Ints, rows: Ints, offsets: Ints
    ) -> Floats:
        """Return the flat pmf of d decisions.

        Decision i was asked in `contexts[context_of[i]]`, with the variants
        `rows[offsets[i]:offsets[i + 1]]` of the bound table.
        """


class Policy(Protocol):
    """A way to choose."""

    @property
    def name(self) -> str: ...

    @property
    def model_version(self) -> int | None: ...

    @property
    def contextual(self) -> bool:
        """Whether its pmf depends on the context."""

    def bind(self, variants: VariantColumns) -> BoundPolicy: ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every eligible variant with the same probability."""

    name: str = "uniform"
    model_version: None = None
    contextual: bool = False
    floor_share: float = 1.0

    def bind(self, variants: VariantColumns) -> BoundPolicy:
        return self

    def pmf(
        self, contexts: Sequence[Context], context_of: Ints, rows: Ints, offsets: Ints
    ) -> Floats:
        return exploration.uniform(offsets)


@dataclass(frozen=True, slots=True)
class Fixed:
    """One variant with certainty: a named one, else the default, else the first eligible."""

    variant_id: str | None = None
    name: str = "baseline"
    model_version: None = None
    contextual: bool = False

    def bind(self, variants: VariantColumns) -> BoundPolicy:
        named = np.array([v == self.variant_id for v in variants.variant_ids], bool)
        return _BoundFixed(2.0 * named + variants.is_default)


@dataclass(frozen=True, slots=True)
class _BoundFixed:
    preference: Floats
    floor_share: float = 0.0

    def pmf(
        self, contexts: Sequence[Context], context_of: Ints, rows: Ints, offsets: Ints
    ) -> Floats:
        return exploration.greedy(self.preference[rows], offsets)


@dataclass(frozen=True, slots=True)
class Ranked:
    """The eligible variant with the largest known value, with certainty: `best-single`."""

    values: dict[int, float]
    """64-bit variant id -> value; unknown variants come last."""
    name: str = "best-single"
    model_version: None = None
    contextual: bool = False

    def bind(self, variants: VariantColumns) -> BoundPolicy:
        values = [self.values.get(int(key), -np.inf) for key in variants.keys]
        return _BoundFixed(np.array(values, np.float64))


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """A trained model's scores, explored by a closed form."""

    model: LinearModel
    exploration: Exploration
    model_version: int | None = None
    contextual: bool = True

    @property
    def name(self) -> str:
        return self.exploration.form

    def bind(self, variants: VariantColumns) -> BoundModel:
        return BoundModel(self, BoundScorer.of(self.model, variants))


@dataclass(frozen=True, slots=True)
class BoundScorer:
    """A model with the encoded features of a table of variants: what is chosen from its scores is
    a policy's to say."""

    model: LinearModel
    encoder: BoundEncoder
    variants: EncodedVariants
    columns: VariantColumns

    @staticmethod
    def of(model: LinearModel, columns: VariantColumns) -> BoundScorer:
        encoder = BoundEncoder(model.context_encoder)
        return BoundScorer(model, encoder, EncodedVariants.of(model, columns), columns)

    def scores(
        self, contexts: Sequence[Context], context_of: Ints, rows: Ints, offsets: Ints
    ) -> Floats:
        """Return the flat scores: predicted reward on [0, 1], up to a constant per decision."""
        encoded = self.encoder.encode(contexts)
        sizes = ragged.sizes(offsets)
        found = self.model.scores(encoded, self.variants, context_of.repeat(sizes), rows)
        if self.variants.watched is not None:
            titles = self.columns.title_of[rows[offsets[:-1]]]
            played = [c.played for c in contexts]
            shares = watched_shares(played, self.columns.titles, context_of, titles)
            if shares.any():
                found += shares.repeat(sizes) * self.variants.watched[rows]
        return found


@dataclass(frozen=True, slots=True)
class BoundModel:
    """A model policy made ready for a table of variants."""

    policy: ModelPolicy
    scorer: BoundScorer

    @property
    def floor_share(self) -> float:
        return self.policy.exploration.explored_share

    def pmf(
        self, contexts: Sequence[Context], context_of: Ints, rows: Ints, offsets: Ints
    ) -> Floats:
        flat = self.scorer.scores(contexts, context_of, rows, offsets)
        return self.policy.exploration.pmf(flat, offsets)
