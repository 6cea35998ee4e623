"""Going on from a trained model: what it knows is the prior of what newer rows say.

Its encoders, audiences and priors stay; its scores, and how surely each effect is known, stand for
all rows it has learned from, which are not read again. What it knows fades as rows' weights do.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.policies.bundle import Bundle, Learned
from artwork_bandit.policies.linear import LinearModel
from artwork_bandit.policies.precision import NAMES, Information, kept
from artwork_bandit.policies.vowpal import Form

_DAY = dt.timedelta(days=1) / dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Start:
    """A model that is gone on from."""

    model: LinearModel
    """Its scores are logits."""
    learned: Learned
    information: Information

    @staticmethod
    def of(bundle: Bundle) -> Start:
        """Return the start that a model is; raises NotEnoughData if it does not say enough."""
        if (learned := bundle.learned) is None:
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
            learned=learned,
            information=Information(**{n: learned.information[n].array() for n in NAMES}),
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
        stays[1 + np.array(form.crossed, np.int64), described] = kept(p.cross, known.cross, share)
        if form.watched is not None:
            stays[1 + form.watched, described] = kept(p.watched, known.watched, share)
        of_kind = kept(p.affinity, known.affinity, share)
        for (contexts, variants), stay in zip(form.pairs, of_kind, strict=True):
            stays[1 + contexts, 1 + variants] = stay
        own = kept(p.own, known.own, share)[:, None]
        if model.own_columns:
            own = np.hstack([own, kept(p.own_cross, known.own_cross, share)])
        return Start(
            model=replace(
                model, weights=model.weights * stays, own_effects=model.own_effects * own
            ),
            learned=self.learned, information=known.aged(share),
        )  # fmt: skip

    def sums(self) -> dict[str, list[float]]:
        """Return, per title, its rows so far and the sum of their rewards on [0, 1]."""
        known = self.learned
        rows, earned = known.title_rows.array().tolist(), known.title_earned.array().tolist()
        found = zip(rows, earned, strict=True)
        return {title: list(sums) for title, sums in zip(known.titles, found, strict=True)}
