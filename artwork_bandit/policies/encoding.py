"""The one encoder of contexts and variants: serving, training and evaluation all use it.

Columns are learned from a log (`learn`), then frozen and shipped inside the model's bundle, so
that the offline answer is the online answer. Names from outside stay names here; what reaches
Vowpal Wabbit are column numbers and finite values only.

Context columns
    `genre:G`     log-lift of the member's viewing share of G over the audience's share,
                      log((w_G + k p_G + c) / ((W + k) p_G + c)),   w decayed plays, W their sum,
                  k = 5, c = 0.5: 0 for a member without history, at least log(k / (W + k)), and at
                  most log(1 + w_G / c) however rare the genre
    `device:D`, `surface:S`, `country:C`, `language:L`, `daypart:0`..`5` (local hour div 4),
    `weekend`     indicators
    `factor:i`, `community:i`   similar audiences (`policies.audiences`), where training made them
    `a*b`         products of two columns above, where training asked for them: scores stay linear
                  in the columns, so what is not linear in the context must be a column
    `habit:G`     log-lift of G's share in what the member watches on occasions like this one over
                  its share in all the member watches, where the log knows any habits
    `watched`     the watched share of the very title that a variant is for, where the log knows
                  what members watched: it differs from title to title, so `encode` leaves it 0,
                  and whoever knows the title adds its part (`policies.watched`)
Variant columns
    `key=value`   for strings and (weighted 1/length) lists of strings
    `key`         for numbers, standardised, and booleans
    `emphasised:G`, `tagged:G`, `title's:G`   genres it may emphasise (`features.emphasis`); they
                  say how much a member likes it, and nothing else
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import product

import msgspec
import numpy as np

from artwork_bandit.domain import HOURS, SATURDAY, Context, Floats, Ints, Variant
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies.audiences import Audiences, BoundAudiences
from artwork_bandit.policies.features import (
    EMPHASIS,
    KINDS,
    NUMBER,
    FeatureTable,
    emphasis,
    indicators,
    numeric,
)
from artwork_bandit.policies.flattened import LARGEST, flatten

PRIOR_PLAYS = 5.0
"""k: plays of an average member that a profile is shrunk towards."""
SURPRISING_PLAYS = 0.5
"""c: plays of a genre that hardly anybody watches are no sign of a taste before there are a few."""
RAREST_SHARE = 0.005
"""A categorical value seen in a smaller share of rows gets no column."""
MOST_VARIANT_COLUMNS = 256
MOST_GENRES = 128
MOST_PRODUCTS = 1024
GRID = 64.0
"""Encoded values are multiples of 1/GRID: a training text has few different numbers, and a
context differs by far more from one day to the next."""
FIELDS = {"genre", "device", "surface", "country", "language", "daypart", "weekend", "community"}
"""What context columns come from; a product joins two of them."""


class ContextEncoder(msgspec.Struct, frozen=True):
    """Columns of a context."""

    genres: dict[str, float]
    """Genre -> the audience's viewing share, all > 0."""
    categories: list[str]
    """`field:value` indicators, in column order after the genres."""
    products: list[tuple[int, int]] = []
    """Pairs of columns above whose products are columns of their own, after all others."""
    audiences: Audiences | None = None
    """Similar audiences, columns after the categories."""
    grid: float = 0.0
    """Values are rounded to multiples of 1 / grid; 0 (models of earlier releases) leaves them."""
    surprising: float = 0.0
    """c; models of earlier releases have none."""
    habits: bool = False
    """Whether there are columns of habits, one per genre, after the products."""
    watched: bool = False
    """Whether the last column is of the title watched."""

    @staticmethod
    def learn(contexts: Sequence[Context]) -> ContextEncoder:
        """Return an encoder with the genres and categories that occur in `contexts`."""
        shares: defaultdict[str, float] = defaultdict(float)
        seen: Counter[str] = Counter()
        for context in contexts:
            liked = {g: min(plays, LARGEST) for g, plays in context.genres.items() if plays > 0}
            weight = sum(liked.values())
            for genre, plays in liked.items():
                shares[genre] += plays / weight
            seen.update(_categories(context))
        common = dict(sorted(sorted(shares.items(), key=lambda s: -s[1])[:MOST_GENRES]))
        total = sum(common.values()) or 1.0
        enough = max(1.0, RAREST_SHARE * len(contexts))
        return ContextEncoder(
            genres={genre: share / total for genre, share in common.items()},
            categories=sorted(name for name, count in seen.items() if count >= enough),
            grid=GRID,
            surprising=SURPRISING_PLAYS,
            habits=bool(common) and any(c.habits for c in contexts),
            watched=any(c.played for c in contexts),
        )

    def with_audiences(self, audiences: Audiences | None) -> ContextEncoder:
        """Return an encoder with the columns of similar audiences."""
        return msgspec.structs.replace(self, audiences=audiences)

    def with_products(
        self, products: Sequence[str], contexts: Sequence[Context] = ()
    ) -> ContextEncoder:  # fmt: skip
        """Return an encoder with the products of pairs of fields, such as `device*genre`: each
        column of the one times each of the other becomes a column. Of too many (what clients send
        must not end training) those that are largest in these contexts."""
        pairs = [pair for product in products for pair in _pairs(self.columns, product)]
        if len(pairs) > MOST_PRODUCTS:
            sizes = np.abs(self.encode(contexts))
            left, right = np.array(pairs).T
            mean = (sizes.T @ sizes)[left, right]
            kept = np.sort(np.argsort(-mean, kind="stable")[:MOST_PRODUCTS])
            pairs = [pairs[i] for i in kept.tolist()]
        return msgspec.structs.replace(self, products=pairs)

    def products_left_out(self, products: Sequence[str]) -> int:
        """Return how many products of these pairs of fields are no columns: there are too many."""
        plain = msgspec.structs.replace(self, products=[], habits=False, watched=False).columns
        return sum(len(_pairs(plain, product)) for product in products) - len(self.products)

    @property
    def factors(self) -> list[int]:
        """The columns that hold taste factors."""
        first = len(self.genres) + len(self.categories)
        return [] if self.audiences is None else [*range(first, first + len(self.audiences.center))]

    @property
    def habit_columns(self) -> range:
        """The columns of habits, in the order of the genres."""
        end = len(self.columns) - self.watched
        return range(end - len(self.genres) if self.habits else end, end)

    @property
    def watched_column(self) -> int | None:
        """The column of the title watched, if there is one."""
        return len(self.columns) - 1 if self.watched else None

    @property
    def columns(self) -> list[str]:
        plain = [f"genre:{genre}" for genre in self.genres] + self.categories
        plain += [] if self.audiences is None else self.audiences.columns
        found = plain + [f"{plain[i]}*{plain[j]}" for i, j in self.products]
        found += [f"habit:{genre}" for genre in self.genres] if self.habits else []
        return found + (["watched"] if self.watched else [])

    def encode(self, contexts: Sequence[Context]) -> Floats:
        """Return [n x columns]."""
        return BoundEncoder(self).encode(contexts)


class BoundEncoder:
    """A context encoder with what it looks up made ready once."""

    def __init__(self, encoder: ContextEncoder) -> None:
        self.genre_column = {genre: i for i, genre in enumerate(encoder.genres)}
        genres = len(self.genre_column)
        self.column = {name: i + genres for i, name in enumerate(encoder.categories)}
        self.share = np.fromiter(encoder.genres.values(), np.float64, genres)
        self.prior = PRIOR_PLAYS * self.share
        self.products = np.array(encoder.products, np.int64).reshape(-1, 2)
        made = encoder.audiences
        self.audiences = None if made is None else BoundAudiences(made)
        self.audience_columns = 0 if made is None else len(made.columns)
        self.surprising = encoder.surprising
        self.grid = encoder.grid
        self.habits, self.watched = encoder.habits, encoder.watched

    def encode(self, contexts: Sequence[Context]) -> Floats:
        """Return [n x columns]."""
        genres = len(self.share)
        own = genres + len(self.column)
        plain = own + self.audience_columns
        more = plain + len(self.products)
        out = np.zeros((len(contexts), more + self.habits * genres + self.watched))
        plays = flatten([c.genres for c in contexts], self.genre_column).numbered
        out[plays.rows, plays.numbers] = plays.values
        for row, context in zip(out, contexts, strict=True):
            for name in _categories(context):
                if (at := self.column.get(name)) is not None:
                    row[at] = 1.0
        weights = out[:, :genres]
        totals = weights.sum(axis=1, keepdims=True)
        own_shares = (weights + self.prior) / (totals + PRIOR_PLAYS)
        surprising = self.surprising / (totals + PRIOR_PLAYS)
        out[:, :genres] = np.log((own_shares + surprising) / (self.share + surprising))
        if self.habits:
            out[:, more : more + genres] = self._habits(contexts, own_shares)
        if self.grid:
            out[:, :genres] = np.round(out[:, :genres] * self.grid) / self.grid
        if self.audiences is not None:
            found = self.audiences.encode(out[:, :genres], [c.played for c in contexts])
            out[:, own:plain] = np.round(found * GRID) / GRID
        if len(self.products):
            products = out[:, self.products[:, 0]] * out[:, self.products[:, 1]]
            out[:, plain:more] = (
                np.round(products * self.grid) / self.grid if self.grid else products
            )
        return out

    def _habits(self, contexts: Sequence[Context], own_shares: Floats) -> Floats:
        """Return [n, genres]: what members watch on such occasions over what they watch at all."""
        on = np.zeros_like(own_shares)
        plays = flatten([c.habits for c in contexts], self.genre_column).numbered
        on[plays.rows, plays.numbers] = plays.values
        totals = on.sum(axis=1, keepdims=True)
        shares = (on + PRIOR_PLAYS * own_shares) / (totals + PRIOR_PLAYS)
        found: Floats = np.round(np.log(shares / own_shares) * GRID) / GRID
        return found


class VariantEncoder(msgspec.Struct, frozen=True):
    """Columns of a variant's features."""

    categories: list[str]
    """`key=value` indicators."""
    numbers: dict[str, tuple[float, float]]
    """key -> (mean, standard deviation > 0), columns after the categories."""
    emphasis: list[str] = []
    """`kind:genre`, columns after the numbers."""

    @staticmethod
    def learn(variants: Iterable[Variant]) -> VariantEncoder:
        """Return an encoder with the feature values that occur, the most frequent first."""
        seen: Counter[str] = Counter()
        emphasised: Counter[str] = Counter()
        numbers: dict[str, list[float]] = {}
        for each in variants:
            seen.update(dict(indicators(each.features)).keys())
            emphasised.update(dict(emphasis(each)).keys())
            for key, value in numeric(each.features):
                numbers.setdefault(key, []).append(value)
        scales = {key: (float(np.mean(v)), float(np.std(v))) for key, v in sorted(numbers.items())}
        return VariantEncoder(
            categories=sorted(name for name, _ in seen.most_common(MOST_VARIANT_COLUMNS)),
            numbers={key: scale for key, scale in scales.items() if _varies(*scale)},
            emphasis=sorted(name for name, _ in emphasised.most_common(MOST_VARIANT_COLUMNS)),
        )

    @property
    def described(self) -> int:
        """Number of columns of features, before those of emphasis."""
        return len(self.categories) + len(self.numbers)

    @property
    def columns(self) -> list[str]:
        return [*self.categories, *self.numbers, *self.emphasis]

    def columns_of(self, table: FeatureTable) -> tuple[Ints, Floats]:
        """Return, per token of the table, (column, value), the constant being column 0.

        Features without a column have value 0, as numbers that are not given do.
        """
        n = len(table.numbers)
        column, mean, scale = np.zeros(n, np.int64), np.zeros(n), np.ones(n)
        known = np.zeros(n)
        known[0] = 1.0  # the constant
        is_number = np.zeros(n, bool)
        for i, name in enumerate(self.categories, start=1):
            if (at := table.numbers.get(name)) is not None:
                column[at], known[at] = i, 1.0
        for i, (key, (center, spread)) in enumerate(
            self.numbers.items(), start=1 + len(self.categories)
        ):
            if (at := table.numbers.get(NUMBER + key)) is not None:
                column[at], known[at] = i, 1.0
                mean[at], scale[at], is_number[at] = center, spread, True
        for i, name in enumerate(self.emphasis, start=1 + self.described):
            if (at := table.numbers.get(EMPHASIS + name)) is not None:
                column[at], known[at] = i, 1.0
        t = table.tokens
        value = table.weights.copy()
        at_number = is_number[t]
        some = t[at_number]
        value[at_number] = np.clip((value[at_number] - mean[some]) / scale[some], -4.0, 4.0)
        return column[t], value * known[t]

    def encode(self, table: FeatureTable) -> Floats:
        """Return [n x columns]."""
        column, value = self.columns_of(table)
        rows = np.arange(len(table))
        flat, _ = table.flat(rows)
        out = np.zeros((len(table), 1 + len(self.columns)))
        np.add.at(out, (np.repeat(rows, table.sizes), column[flat]), value[flat])
        return out[:, 1:]


def _varies(mean: float, spread: float) -> bool:
    """Tell whether numbers differ by more than the rounding of their mean."""
    return spread > 1e-9 * max(1.0, abs(mean))


Pairs = tuple[Ints, Ints]
"""Context columns and variant columns, side by side."""


def affinity_pairs(contexts: ContextEncoder, variants: VariantEncoder) -> list[Pairs]:
    """Return, per kind of emphasis, the columns of the genres that contexts and variants both know.

    A variant's affinity of a kind for a member is the sum over its pairs of context x variant: how
    much the member likes the genres that the variant emphasises, is tagged with, or may emphasise;
    then the same of the member's habits, where there are any.
    """
    at = {name: i for i, name in enumerate(variants.emphasis, start=variants.described)}
    likings = [range(len(contexts.genres))] + [contexts.habit_columns] * contexts.habits
    found = []
    for liking, kind in product(likings, KINDS):
        pairs = [
            (i, at[name])
            for i, genre in zip(liking, contexts.genres, strict=True)
            if (name := f"{kind}:{genre}") in at
        ]
        table = np.array(pairs, np.int64).reshape(-1, 2)
        found.append((table[:, 0], table[:, 1]))
    return found


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
        yield f"daypart:{context.hour // HOURS}"
    if context.weekday is not None and context.weekday >= SATURDAY:
        yield "weekend"


def products_of(text: str) -> tuple[str, ...]:
    """Return the context products that a text names, such as `device*genre,daypart*genre`; raises
    InvalidInput."""
    found = tuple(part for part in text.split(",") if part)
    for each in found:
        _parted(each)
    return found


def _parted(product: str) -> tuple[str, str]:
    """Return the two fields of a context product; raises InvalidInput."""
    left, star, right = product.partition("*")
    if not star or not {left, right} <= FIELDS:
        raise InvalidInput(
            f"context product {product!r} is not FIELD*FIELD; fields are {sorted(FIELDS)}"
        )
    return left, right


def _pairs(columns: list[str], product: str) -> list[tuple[int, int]]:
    left, right = _parted(product)
    kinds = [name.partition(":")[0] for name in columns]
    return [
        (i, j)
        for i, first in enumerate(kinds)
        for j, second in enumerate(kinds)
        if first == left and second == right and (i < j if left == right else i != j)
    ]
