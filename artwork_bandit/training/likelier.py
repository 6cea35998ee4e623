"""How wide priors of some dozen effects each are: what makes the log likeliest.

Of most groups of effects the loss on later rows tells too little: a factor of tastes that says
nothing of pictures costs what noise it adds, and the one that does say something says it in five
effects. But these effects say together how large they are. The standard deviation of their prior is
the one that makes the log likeliest, found by repeating (MacKay 1992, "Bayesian interpolation";
Tipping 2001, "Sparse Bayesian learning", equation 18)

    spread'^2 = (sum of effect^2 + default^2) / (sum of told / (told + 1 / spread^2) + 1)

where an effect counts by how far the rows determine it, told being what they tell of it, and the
default as one effect. The groups: the title watched on variant columns; and on what variants show
the factors of genres together (which of them is the first differs from log to log) and each factor
of titles watched.
"""

from __future__ import annotations

import msgspec
import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.policies.precision import Information
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.vowpal import Form

STEPS = 3
"""From the defaults; what a log says surely is reached in these."""


def likelier(default: float, spread: float, effects: Floats, information: Floats) -> float:
    """Return a standard deviation under which effects make the log likelier.

    `spread` is the one under which the effects were found, `information` is what rows told of each,
    in 1 / logits^2; `default` counts as one effect.
    """
    determined = information / (information + 1.0 / spread**2)
    squares = np.square(effects).sum() + default**2
    return float(np.sqrt(squares / (determined.sum() + 1.0)))


def acting(form: Form) -> list[int]:
    """Return the context columns whose effects `likelier_priors` asks for."""
    return form.factors + ([] if form.watched is None else [form.watched])


def likelier_priors(form: Form, start: Priors, weights: Floats, known: Information) -> Priors:
    """Return priors that make the log likelier than those of `form`, under which it gave logit
    weights [1 + acting columns, 1 + variant columns] and told so much.

    `start` has the defaults.
    """
    now, described = form.priors, weights[1:, 1 : 1 + form.described]
    if form.crosses_watched:
        watched = likelier(start.watched, now.watched, described[-1], known.watched)
        now = msgspec.structs.replace(now, watched=_rounded(watched))
    return _with_tastes(form, start, now, described, known) if form.crosses_tastes else now


def _with_tastes(
    form: Form, start: Priors, now: Priors, effects: Floats, known: Information
) -> Priors:
    """Return priors with those of taste factors, whose effects [factors, described] these are."""
    at = np.flatnonzero(np.isin(form.crossed, form.factors))
    told, effects = known.cross[at][:, form.shown], effects[: len(at)][:, form.shown]
    spreads = form.taste_priors
    each = [
        _rounded(likelier(start.taste, float(spreads[i]), effects[i], told[i]))
        for i in form.title_factors
    ]
    genres = np.setdiff1d(np.arange(len(at)), form.title_factors)
    taste = now.taste
    if len(genres):
        taste = _rounded(likelier(start.taste, taste, effects[genres], told[genres]))
    return msgspec.structs.replace(now, taste=taste, title_tastes=each)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
