"""How wide priors of some dozen effects each are: what makes the log likeliest.

Of most groups of effects the loss on later rows tells too little: a factor of tastes that says
nothing of pictures costs what noise it adds, and the one that does say something says it in five
effects. But these effects say together how large they are. The standard deviation of their prior is
the one that makes the log likeliest, by expectation and maximisation (MacKay 1992, "Bayesian
interpolation"; Tipping 2001, "Sparse Bayesian learning"),

    spread'^2 = (sum of  effect^2 + its posterior variance,  + default^2) / (number of effects + 1)

where the default counts as one effect more. The groups: each taste factor on what variants show,
variant columns for everybody, and the title watched on them.
"""

from __future__ import annotations

import msgspec
import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.policies.precision import Information
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.vowpal import Form

STEPS = 3
"""Of expectation and maximisation."""
LEAST, MOST = 0.2, 50.0
"""Times the default of a taste factor's."""


def likelier(
    default: float, spreads: Floats | float, effects: Floats, information: Floats
) -> Floats:
    """Return standard deviations [n] under which effects [n, k] make the log likelier.

    `spreads` [n] or one for all are those under which the effects were found, `information` is what
    rows told of each effect, in 1 / logits^2; `default` counts as one effect.
    """
    variance = 1.0 / (1.0 / np.square(spreads).reshape(-1, 1) + information)
    squares = (np.square(effects) + variance).sum(axis=1) + default**2
    found: Floats = np.sqrt(squares / (effects.shape[1] + 1))
    return found


def likelier_priors(form: Form, start: Priors, weights: Floats, known: Information) -> Priors:
    """Return priors that make the log likelier than those of `form`, under which it gave logit
    weights [1 + context columns, 1 + variant columns] and told so much.

    `start` has the defaults.
    """
    now, found = form.priors, {}
    described = weights[:, 1 : 1 + form.described]
    if now.variant > 0 and form.described:
        more = likelier(start.variant, now.variant, described[:1], known.variant[None])
        found["variant"] = float(more[0])
    if form.crosses_watched and form.watched is not None:
        effects = described[1 + form.watched][None]
        found["watched"] = float(likelier(start.watched, now.watched, effects, known.watched)[0])
    if form.crosses_tastes:
        at = np.flatnonzero(np.isin(form.crossed, form.factors))
        effects = described[1:][form.factors][:, form.shown]
        told = known.cross[at][:, form.shown]
        more = likelier(start.cross, form.taste_priors, effects, told) / start.cross
        tastes = np.clip(more, LEAST, MOST).round(2).tolist()
        return msgspec.structs.replace(now, tastes=tastes, **_rounded(found))
    return msgspec.structs.replace(now, **_rounded(found))


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.3g}") for name, value in values.items()}
