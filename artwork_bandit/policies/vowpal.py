"""Vowpal Wabbit's text format.

The model is a logistic regression of the reward on what was shown (the direct method of
contextual bandits; Beygelzimer and Langford 2009) with a normal prior per group of features: what
VW's L-BFGS finds is the maximum a posteriori of a hierarchical model, so that a variant's own
effect, seen a dozen times, stays near what its features say. Scores are explored by our own closed
forms. Why not `--cb_adf`, and why not one pass of adaptive steps: both captured less of what can
be gained at every size of log (`simulations.learning` prints all). Propensities have their place in
evaluation and in the gate, which do not trust this model.

Priors are namespace weights: a feature x in a namespace of weight s has an effect of standard
deviation s per unit of x under `--l2 1`. The level of a title is given to VW as the example's base,
so that few passes suffice.

Nothing here loads VW. Only numbers that this module formats reach it, as `|namespace column:value`;
a name from outside never does, and neither does a number that is not finite (VW accepts both
silently, and learns nonsense).

Where a model is gone on from, examples start from its scores, and each feature is multiplied with
the posterior standard deviation of its effect instead (`policies.precision`); what is crossed with
contexts, and with factors for a variant's own sake, is then written apart, as `u` and `p`.

Namespaces: `t` title, `k` all titles, `g` context columns, `v` variant columns, `o` the variant's
own effect, `f` the member's taste factors, `a`, `b` ... affinities, one per kind of emphasis (and
as many of habits), `w` the share of the very title that the member has watched. `g` and `w`
interact with `v`, and `f` with `o`; `x` one of the genres that this very variant may emphasise
(`policies.doubtful`); each taste factor, in a namespace of its own (`A`, `B` ...), so
that each has its own prior, interacts with `y`, what a variant shows beside genres, of which
affinities tell. Genres and taste factors are not in `g`. Genres are not crossed: four times as many
columns as the factors have, nearly collinear, of which affinity says the most; crossing them too
lost more than it found at every size of log. Where a log says that a taste has come to mean
something else, genres `h` are crossed with emphasis `e` (`training.tuning` tries it), or these
crosses are written one by one, as `z`, each with a prior of its own (`training.sparse`).
For a fixed variant the raw prediction is linear in the context, so unit contexts against unit
variants recover every weight, to VW's float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec
import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.policies.doubtful import Doubtful
from artwork_bandit.policies.encoding import (
    ContextEncoder,
    Pairs,
    VariantEncoder,
    affinity_pairs,
)
from artwork_bandit.policies.features import GENRE
from artwork_bandit.policies.precision import Information, Spreads
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.vowpal_text import columns_texts, require_finite

UNCROSSED = 0.1
"""Weight of a namespace that interacts with nothing."""
TASTES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Namespaces of taste factors."""
OWN_SHARE = 0.8
"""Spread of what a taste factor says of a variant itself, beside that of what it says of what
variants show: the best of three at 100,000 and 300,000 rows of `simulations.learning --world B`."""
AFFINITIES = "abcdij"
"""Namespaces of the kinds of affinity."""


class Narrowed(msgspec.Struct, frozen=True):
    """What priors are multiplied with of effects that rows tell far more of than they do, for
    L-BFGS's sake (`training.conditioning`)."""

    level: float = 1.0
    """Of the level of all titles, beyond their own means; that prior is 1."""
    title: float = 1.0
    affinity: list[float] = []
    """Per kind of affinity; 1 if empty."""


class Form(msgspec.Struct, frozen=True, dict=True):
    """How examples are written: whatever has to be the same in training and in probing."""

    priors: Priors
    pairs: list[Pairs]
    """Context and variant columns of each affinity (`encoding.affinity_pairs`)."""
    described: int
    """Number of variant columns that are features of their own, before those of emphasis."""
    crossed: list[int]
    """Context columns that act on variant columns."""
    factors: list[int]
    """Those of them that are taste factors, and act on each variant in its own way."""
    shown: list[int]
    """Variant columns that taste factors act on: all described but those of genres."""
    genres: int
    """Number of context columns of genres, which come first."""
    title_factors: list[int] = []
    """Which of the factors are of titles watched."""
    watched: int | None = None
    """Context column of the title watched, if there is one."""
    tries_genres: bool = False
    """Whether genres and emphasis are written though they are not crossed."""
    doubtful: Doubtful | None = None
    """Genres that this log's variants may emphasise, where no trusted tag says which."""
    genre_spreads: Floats | None = None
    """[genres, emphasis columns]: standard deviations of their crosses, if each has its own."""
    narrowed: Narrowed = Narrowed()
    spreads: Spreads | None = None
    """Where a model is gone on from: what stands in the namespaces' weights' place."""

    @staticmethod
    def of(
        priors: Priors, contexts: ContextEncoder, variants: VariantEncoder,
        doubtful: Doubtful | None = None,
    ) -> Form:  # fmt: skip
        return Form(
            priors=priors,
            pairs=affinity_pairs(contexts, variants),
            described=variants.described,
            crossed=list(range(len(contexts.genres), contexts.habit_columns.start)),
            factors=contexts.factors[: len(TASTES)],
            shown=[i for i, name in enumerate(variants.columns[: variants.described])
                   if not name.startswith(f"{GENRE}=")],
            genres=len(contexts.genres),
            title_factors=[] if contexts.audiences is None else contexts.audiences.title_factors,
            watched=contexts.watched_column,
            doubtful=doubtful,
        )  # fmt: skip

    def going_on(self, known: Information) -> Form:
        """Return how what came after is written, where so much is known."""
        at = np.flatnonzero(np.isin(self.crossed, self.factors))
        shown = np.array(self.shown, np.int64)
        crosses = self.cross_priors, self.own_cross_priors
        spreads = Spreads.of(self.priors, known, *crosses, at, shown)
        return msgspec.structs.replace(self, spreads=spreads)

    @cached_property
    def plain(self) -> list[int]:
        """Crossed context columns that are no taste factors."""
        factors = set(self.factors)
        return [i for i in self.crossed if i not in factors]

    @cached_property
    def taste_priors(self) -> Floats:
        """Standard deviations of the crosses of each taste factor."""
        found = np.full(len(self.factors), self.priors.taste)
        known = self.priors.title_tastes[: len(self.title_factors)]
        found[self.title_factors[: len(known)]] = known
        return found

    @cached_property
    def own_cross_priors(self) -> Floats:
        """Standard deviations of what each taste factor says of each variant beside what it says of
        what variants show: wider where that says much."""
        if not self.priors.own_cross:
            return np.zeros(len(self.factors))
        found: Floats = np.maximum(self.priors.own_cross, OWN_SHARE * self.taste_priors)
        return found

    @property
    def cross_priors(self) -> Floats:
        """Standard deviations of crosses [crossed, described]; 0 where nothing is crossed."""
        found = np.full((len(self.crossed), self.described), self.priors.cross)
        at = np.flatnonzero(np.isin(self.crossed, self.factors))
        found[at] = 0.0
        found[np.ix_(at, np.array(self.shown, np.int64))] = self.taste_priors[:, None]
        return found

    @property
    def interactions(self) -> str:
        """VW's arguments."""
        v, o = ("v", "o") if self.spreads is None else ("u", "p")
        named = (
            (f"-q g{v}", self.crosses), (f"-q f{o}", self.own_crosses),
            ("-q he", self.genre_crosses and self.genre_spreads is None),
            (f"-q w{v}", self.crosses_watched),
            *((f"-q {name}y", self.crosses_tastes) for name in self.tastes),
        )  # fmt: skip
        without = "" if self.priors.own_genre else "x"
        ignored = f"--ignore_linear gfhewupy{without}{self.tastes}"
        return " ".join((*(text for text, wanted in named if wanted), ignored))

    @property
    def tastes(self) -> str:
        """The namespaces of the taste factors."""
        return TASTES[: len(self.factors)]

    @property
    def crosses(self) -> bool:
        return self.priors.cross > 0 and self.priors.variant > 0 and bool(self.plain)

    @property
    def crosses_tastes(self) -> bool:
        return self.priors.taste > 0 and bool(self.factors) and bool(self.shown)

    @property
    def own_crosses(self) -> bool:
        return self.priors.own_cross > 0 and self.priors.own > 0 and bool(self.factors)

    @property
    def own_genres(self) -> Doubtful | None:
        """The doubtful variants, if there are any and their genres have a prior."""
        return self.doubtful if self.priors.own_genre and self.doubtful else None

    @property
    def own_columns(self) -> list[int]:
        """Context columns that act on each variant in its own way."""
        genres = [] if self.own_genres is None else self.own_genres.genres
        return [*(self.factors if self.own_crosses else []), *genres]

    @property
    def crosses_watched(self) -> bool:
        return self.priors.watched > 0 and self.priors.variant > 0 and self.watched is not None

    @property
    def genre_crosses(self) -> bool:
        return self.priors.genre_cross > 0 and self.genres > 0

    @property
    def with_genres(self) -> bool:
        return self.genre_spreads is None and (self.genre_crosses or self.tries_genres)

    @cached_property
    def heads(self) -> dict[str, str]:
        """Namespace -> how it begins in a line, its weight included."""
        p, title = self.priors, self.priors.title * self.narrowed.title
        weights = {
            "t": title, "k": self.narrowed.level, "v": p.variant, "o": p.own,
            "g": p.cross / p.variant if self.crosses else UNCROSSED,
            "f": p.own_cross / p.own if self.own_crosses else UNCROSSED,
            "h": p.genre_cross if self.genre_crosses else UNCROSSED, "e": 1.0,
            "w": p.watched / p.variant if self.crosses_watched else UNCROSSED, "y": 1.0,
            "x": p.own_genre or UNCROSSED, "z": 1.0,
        }  # fmt: skip
        for name, prior in zip(self.tastes, self.taste_priors.tolist(), strict=True):
            weights[name] = prior if self.crosses_tastes else UNCROSSED
        shares = self.narrowed.affinity or [1.0] * len(self.pairs)
        for name, share in zip(AFFINITIES, shares, strict=False):
            weights[name] = p.affinity * share
        if self.spreads is not None:
            weights = dict.fromkeys((*weights, "u", "p"), 1.0)
            weights |= {"t": title, "k": self.narrowed.level}
        return {name: f"|{name}:{weight:.7g}" for name, weight in weights.items()}

    def context_texts(self, contexts: Floats) -> list[str]:
        """Return what does not depend on the variant, for each row [n, columns]."""
        crossed, factors = contexts[:, self.plain], contexts[:, self.factors]
        genres, tastes = contexts[:, : self.genres], factors
        if (s := self.spreads) is not None:
            crossed, factors, tastes = crossed * s.crossed, factors * s.factors, tastes * s.tastes
            genres = genres * s.genres if self.genre_crosses else genres
        elif self.own_crosses:
            factors = factors * (self.own_cross_priors / self.priors.own_cross)
        g, f = self.heads["g"], self.heads["f"]
        found = [f"{g}{text}" for text in columns_texts(crossed)]
        if self.factors:
            more = columns_texts(factors)
            found = [f"{text} {f}{also}" for text, also in zip(found, more, strict=True)]
            if self.crosses_tastes:
                for name, taste in zip(self.tastes, tastes.T, strict=True):
                    found = _and(found, self.heads[name], columns_texts(taste[:, None]))
        if self.with_genres:
            found = _and(found, self.heads["h"], columns_texts(genres))
        if self.watched is not None:
            more = self.watched_texts(contexts[:, self.watched])
            found = [f"{text}{also}" for text, also in zip(found, more, strict=True)]
        return found

    def watched_texts(self, shares: Floats) -> list[str]:
        """Return what is to be added where a share of the title was watched."""
        head = self.heads["w"]
        shares = shares if self.spreads is None else shares * self.spreads.watched
        return [f" {head}{text}" if text else "" for text in columns_texts(shares[:, None])]

    def variant_texts(self, variants: Floats, owns: Sequence[int | None]) -> list[str]:
        """Return what does not depend on the context; `owns` are the variants' numbers."""
        described, emphasis = variants[:, : self.described], variants[:, self.described :]
        s, v = self.spreads, self.heads["v"]
        linear = described if s is None else described * s.variant
        texts = columns_texts(linear)
        found = [f"{v}{t}{self.own_text(n)}" for t, n in zip(texts, owns, strict=True)]
        if s is not None:
            found = _and(found, self.heads["u"], columns_texts(described * s.crossed_by))
        if self.crosses_tastes:
            shown = described[:, self.shown]
            shown = shown if s is None else shown * s.tastes_by
            found = _and(found, self.heads["y"], columns_texts(shown))
        if self.with_genres:
            emphasis = emphasis if s is None or not self.genre_crosses else emphasis * s.genres_by
            found = _and(found, self.heads["e"], columns_texts(emphasis))
        return found

    def own_text(self, number: int | None) -> str:
        """Return the effects of a variant's own; none where it has no number."""
        if number is None:
            return ""
        if (s := self.spreads) is None:
            return f" {self.heads['o']} {number}"
        own, factors = s.own[number], s.factors_by[number]
        return f" {self.heads['o']} {number}:{own:.7g} {self.heads['p']} {number}:{factors:.7g}"

    def own_genre_texts(self, contexts: Floats, numbers: Sequence[int]) -> list[str]:
        """Return what is to be added for the genres that the variants of these numbers may
        emphasise, for each row [n, columns] and its variant."""
        found = [""] * len(numbers)
        if self.own_genres is None:
            return found
        rows, features, values = self.own_genres.beyond(contexts, np.asarray(numbers, np.int64))
        if self.spreads is not None:
            values = values * self.spreads.own_genre[numbers][rows]
        require_finite(values)
        head = f" {self.heads['x']}"
        parts = zip(rows.tolist(), features.tolist(), values.tolist(), strict=True)
        for row, feature, value in parts:
            if value:
                found[row] = f"{found[row] or head} {feature}:{value:.7g}"
        return found

    def pair_texts(self) -> list[str]:
        """Return one unit of each genre of each doubtful variant, alone."""
        assert self.doubtful is not None, "whoever asks has some"
        units = (
            np.ones(len(self.doubtful.sizes)) if self.spreads is None else self.spreads.own_genre
        )
        of_pairs = np.repeat(units, self.doubtful.sizes).tolist()
        return [f"{self.heads['x']} {i}:{unit:.7g}" for i, unit in enumerate(of_pairs)]

    def cross_texts(self, contexts: Floats, variants: Floats) -> list[str]:
        """Return the crosses of genres with emphasis that are written one by one, for each row of
        both; nothing where they have one prior."""
        found = [""] * len(contexts)
        if self.genre_spreads is None:
            return found
        emphasis = variants[:, self.described :]
        rows, columns = np.nonzero(emphasis)
        values = contexts[rows, : self.genres] * self.genre_spreads[:, columns].T
        values *= emphasis[rows, columns][:, None]
        require_finite(values)
        head, begins = f" {self.heads['z']}", (columns * self.genres).tolist()
        for row, begin, some in zip(rows.tolist(), begins, values.tolist(), strict=True):
            text = "".join(f" {begin + g}:{value:.6g}" for g, value in enumerate(some) if value)
            found[row] = f"{found[row] or head}{text}" if text else found[row]
        return found

    def cross_text(self, genre: int, emphasis: int) -> str:
        """Return one unit of a cross of a genre with a column of emphasis, alone."""
        if self.genre_spreads is None:
            return f"{self.heads['h']} {genre}:1 {self.heads['e']} {emphasis}:1"
        spread = self.genre_spreads[genre, emphasis]
        return f"{self.heads['z']} {emphasis * self.genres + genre}:{spread:.6g}"

    def affinities(self, contexts: Floats, variants: Floats) -> Floats:
        """Return [n, kinds]: per row of both, how much the member likes what it may emphasise."""
        found: Floats = np.stack(
            [np.einsum("ij,ij->i", variants[:, v], contexts[:, c]) for c, v in self.pairs], axis=-1
        )
        return found

    def affinity_texts(self, affinities: Floats) -> list[str]:
        if self.spreads is not None:
            affinities = affinities * self.spreads.affinity
        # A namespace without features at the end of a line is malformed for VW.
        found = [""] * len(affinities)
        for name, kind in zip(AFFINITIES, affinities.T, strict=False):
            found = _and(found, self.heads[name], columns_texts(kind[:, None]))
        return found

    def title_text(self, number: int) -> str:
        return f"{self.heads['t']} {number} {self.heads['k']} 0"

    def line(self, context: Floats, variant: Floats, own: int | None) -> str:
        """Return one example without label and title."""
        context, variant = context[None], variant[None]
        affinity = self.affinity_texts(self.affinities(context, variant))
        parts = (self.context_texts(context), self.variant_texts(variant, [own]), affinity)
        genres = [""] if own is None else self.own_genre_texts(context, [own])
        crosses = self.cross_texts(context, variant)
        return " ".join(part[0] for part in parts) + genres[0] + crosses[0]


def _and(texts: list[str], head: str, more: list[str]) -> list[str]:
    """Return the texts with one namespace more where it has features."""
    return [f"{t} {head}{m}" if m else t for t, m in zip(texts, more, strict=True)]
