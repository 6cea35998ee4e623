"""The one encoder of contexts and variants: serving, training and evaluation all use it.

Columns are learned from a log (`learn`), then frozen and shipped inside the model's bundle, so
that the offline answer is the online answer. Names from outside stay names here; what reaches
Vowpal Wabbit are column numbers and finite values only.

Context columns
    `genre:G`     log-lift of the member's viewing share of G over the audience's share,
                      log((w_G + k p_G) / ((W + k) p_G)),   w decayed plays, W their sum, k = 5,
                  0 for a member without history, bounded below by log(k / (W + k))
    `device:D`, `surface:S`, `country:C`, `language:L`, `daypart:0`..`5` (local hour div 4),
    `weekend`     indicators
Variant columns
    `key=value`   for strings and (weighted 1/length) lists of strings
    `key`         for numbers, standardised, and booleans
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from artwork_bandit.domain import Context, Floats, Ints

PRIOR_PLAYS = 5.0
"""k: plays of an average member that a profile is shrunk towards."""
RAREST_SHARE = 0.005
"""A categorical value seen in a smaller share of rows gets no column."""
MOST_VARIANT_COLUMNS = 256
MOST_GENRES = 128


class ContextEncoder(msgspec.Struct, frozen=True):
    """Columns of a context."""

    genres: dict[str, float]
    """Genre -> the audience's viewing share, all > 0."""
    categories: list[str]
    """`field:value` indicators, in column order after the genres."""

    @staticmethod
    def learn(contexts: Sequence[Context]) -> ContextEncoder:
        """Return an encoder with the genres and categories that occur in `contexts`."""
        shares: defaultdict[str, float] = defaultdict(float)
        seen: Counter[str] = Counter()
        for context in contexts:
            weight = sum(w for w in context.genres.values() if w > 0)
            for genre, plays in context.genres.items():
                if plays > 0:
                    shares[genre] += plays / weight
            seen.update(_categories(context))
        common = dict(sorted(sorted(shares.items(), key=lambda s: -s[1])[:MOST_GENRES]))
        total = sum(common.values()) or 1.0
        enough = max(1.0, RAREST_SHARE * len(contexts))
        return ContextEncoder(
            genres={genre: share / total for genre, share in common.items()},
            categories=sorted(name for name, count in seen.items() if count >= enough),
        )

    @property
    def columns(self) -> list[str]:
        return [f"genre:{genre}" for genre in self.genres] + self.categories

    def encode(self, contexts: Sequence[Context]) -> Floats:
        """Return [n x columns]."""
        column = {name: i + len(self.genres) for i, name in enumerate(self.categories)}
        genre_column = {genre: i for i, genre in enumerate(self.genres)}
        n_genres = len(genre_column)
        share = np.fromiter(self.genres.values(), np.float64, n_genres)
        out = np.zeros((len(contexts), n_genres + len(column)))
        for row, context in zip(out, contexts, strict=True):
            for genre, plays in context.genres.items():
                if (at := genre_column.get(genre)) is not None and plays > 0:
                    row[at] = plays
            for name in _categories(context):
                if (at := column.get(name)) is not None:
                    row[at] = 1.0
        weights = out[:, :n_genres]
        totals = weights.sum(axis=1, keepdims=True)
        out[:, :n_genres] = np.log(
            (weights + PRIOR_PLAYS * share) / ((totals + PRIOR_PLAYS) * share)
        )
        return out


class VariantEncoder(msgspec.Struct, frozen=True):
    """Columns of a variant's features."""

    categories: list[str]
    """`key=value` indicators."""
    numbers: dict[str, tuple[float, float]]
    """key -> (mean, standard deviation > 0), columns after the categories."""

    @staticmethod
    def learn(features: Iterable[Mapping[str, Any]]) -> VariantEncoder:
        """Return an encoder with the feature values that occur, the most frequent first."""
        seen: Counter[str] = Counter()
        numbers: dict[str, list[float]] = {}
        for each in features:
            for key, value in each.items():
                if isinstance(value, bool | int | float):
                    numbers.setdefault(key, []).append(float(value))
                else:
                    seen.update(name for name, _ in _indicators(key, value))
        scales = {key: (float(np.mean(v)), float(np.std(v))) for key, v in sorted(numbers.items())}
        return VariantEncoder(
            categories=sorted(name for name, _ in seen.most_common(MOST_VARIANT_COLUMNS)),
            numbers={key: scale for key, scale in scales.items() if scale[1] > 0},
        )

    @property
    def columns(self) -> list[str]:
        return [*self.categories, *self.numbers]

    def encode(self, features: Sequence[Mapping[str, Any]]) -> Floats:
        """Return [n x columns]; values without a column, and numbers not given, are 0."""
        column = {name: i for i, name in enumerate(self.columns)}
        out = np.zeros((len(features), len(column)))
        for row, each in zip(out, features, strict=True):
            for key, value in each.items():
                if isinstance(value, bool | int | float):
                    if scale := self.numbers.get(key):
                        row[column[key]] = np.clip((value - scale[0]) / scale[1], -4.0, 4.0)
                else:
                    for name, weight in _indicators(key, value):
                        if (at := column.get(name)) is not None:
                            row[at] = weight
        return out


def affinity_pairs(
    contexts: ContextEncoder, variants: VariantEncoder, genre_feature: str
) -> tuple[Ints, Ints]:
    """Return (context columns, variant columns) of the genres that both know.

    A variant's affinity for a member is the sum over these pairs of context x variant: how much
    the member likes the genres that the variant emphasises.
    """
    at = {name: i for i, name in enumerate(variants.categories)}
    pairs = [
        (i, at[name])
        for i, genre in enumerate(contexts.genres)
        if (name := f"{genre_feature}={genre}") in at
    ]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _categories(context: Context) -> Iterable[str]:
    if context.device is not None:
        yield f"device:{context.device}"
    if context.surface is not None:
        yield f"surface:{context.surface}"
    if context.country is not None:
        yield f"country:{context.country}"
    if context.language is not None:
        yield f"language:{context.language}"
    if context.hour is not None:
        yield f"daypart:{context.hour // 4}"
    if context.weekday is not None and context.weekday >= 5:
        yield "weekend"


def _indicators(key: str, value: Any) -> list[tuple[str, float]]:
    if isinstance(value, str):
        return [(f"{key}={value}", 1.0)]
    if isinstance(value, list | tuple) and value:
        return [(f"{key}={item}", 1.0 / len(value)) for item in value]
    return []
