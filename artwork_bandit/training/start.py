"""Going on from a trained model: what it knows is the prior of what newer rows say.

Its encoders, audiences and priors stay; its scores, and how surely each effect is known, stand for
all rows it has learned from, which are not read again. What it knows fades as rows' weights do.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.policies.bundle import Bundle, Learned
from artwork_bandit.policies.linear import LinearModel
from artwork_bandit.policies.precision import Information, kept
from artwork_bandit.policies.rendezvous import UInt64s
from artwork_bandit.policies.vowpal import Form

_DAY = dt.timedelta(days=1) / dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Start:
    """A model that is gone on from."""

    model: LinearModel
    """Its scores are logits."""
    affinity: Floats
    """Effects of the kinds of affinity, which the model's weights have added to crosses."""
    learned: Learned
    information: Information
    """Of the model's own keys, or those that it was put `among`."""
    own_means: Floats
    """Of the same keys, logits that own effects fall back to."""

    @staticmethod
    def of(bundle: Bundle) -> Start:
        """Return the start that a model is; raises NotEnoughData if it does not say enough."""
        if (learned := bundle.learned) is None or learned.affinity is None:
            raise NotEnoughData(
                "the model was trained by an earlier release, which kept too little of what it "
                "had learned to go on from; train on the whole log once"
            )
        model = bundle.model
        return Start(
            model=replace(
                model, weights=model.weights / learned.per_logit,
                own_effects=model.own_effects / learned.per_logit,
            ),
            affinity=learned.affinity.array(), learned=learned,
            information=Information(
                # Which models of earlier releases know nothing of.
                **{"own_genre": np.zeros(len(model.own_keys))}
                | {name: known.array() for name, known in learned.information.items()}
            ),
            own_means=np.zeros(len(model.own_keys)) if learned.own_means is None
            else learned.own_means.array(),
        )  # fmt: skip

    def aged(self, last: int) -> Start:
        """Return what is left of it once the newest row is of microsecond `last`."""
        model, known, p = self.model, self.information, self.learned.priors
        days = max(last - self.learned.last, 0) / _DAY
        share = float(np.exp2(-days / self.learned.half_life_days))
        form = Form.of(p, model.context_encoder, model.variant_encoder)
        stays: Floats = np.ones_like(model.weights)
        described = slice(1, 1 + form.described)
        stays[0, described] = kept(p.variant, known.variant, share)
        stays[1 + np.array(form.crossed, np.int64), described] = kept(
            form.cross_priors, known.cross, share
        )  # fmt: skip
        if form.watched is not None:
            stays[1 + form.watched, described] = kept(p.watched, known.watched, share)
        if form.genre_crosses:
            crosses = kept(p.genre_cross, known.genre_cross, share)
            stays[1 : 1 + form.genres, 1 + form.described :] = crosses
        affinity = self.affinity * kept(p.affinity, known.affinity, share)
        weights = model.weights.copy()
        for (contexts, variants), liked in zip(form.pairs, self.affinity, strict=True):
            weights[1 + contexts, 1 + variants] -= liked
        weights *= stays
        for (contexts, variants), liked in zip(form.pairs, affinity, strict=True):
            weights[1 + contexts, 1 + variants] += liked
        own = np.empty_like(model.own_effects)
        own[:, 0] = kept(p.own, known.own, share)
        factors = np.isin(model.own_columns, form.factors)
        own[:, 1:][:, ~factors] = kept(p.own_genre, known.own_genre, share)[:, None]
        if factors.any():
            own[:, 1:][:, factors] = kept(form.own_cross_priors, known.own_cross, share)
        own_effects = model.own_effects * own
        own_effects[:, 0] += (1 - own[:, 0]) * self.own_means
        weight, squared = self.learned.weight, self.learned.squared
        if not squared:  # a model of an earlier release
            weight = squared = self.learned.effective_rows
        learned = msgspec.structs.replace(
            self.learned, weight=share * weight, squared=share**2 * squared
        )
        return replace(
            self, model=replace(model, weights=weights, own_effects=own_effects),
            affinity=affinity, information=known.aged(share), learned=learned,
        )  # fmt: skip

    def trusting(self, keys: UInt64s) -> Start:
        """Return it without what it has learned these variants to emphasise: tags say so now."""
        if not (genres := self.model.own_genres):
            return self
        at = np.flatnonzero(np.isin(self.model.own_keys, keys))
        own, known = self.model.own_effects.copy(), self.information.own_genre.copy()
        own[np.ix_(at, 1 + np.array(genres))] = known[at] = 0.0
        return replace(
            self, model=replace(self.model, own_effects=own),
            information=replace(self.information, own_genre=known),
        )  # fmt: skip

    def among(self, keys: UInt64s) -> Start:
        """Return it with what is known of these variants, all of the model's own among them."""
        at = np.searchsorted(keys, self.model.own_keys)
        means = np.zeros(len(keys))
        means[at] = self.own_means
        return replace(
            self, information=self.information.renumbered(at, len(keys)), own_means=means
        )

    def sums(self) -> dict[str, list[float]]:
        """Return, per title, its rows so far and the sum of their rewards on [0, 1]."""
        known = self.learned
        rows, earned = known.title_rows.array().tolist(), known.title_earned.array().tolist()
        found = zip(rows, earned, strict=True)
        return {title: list(sums) for title, sums in zip(known.titles, found, strict=True)}
