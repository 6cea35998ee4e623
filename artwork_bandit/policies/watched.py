"""How much of a title its viewer has watched already: what is known of a member and a title, where
everything else in a context holds for all titles of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.policies.flattened import flatten


def watched_shares(
    played: Sequence[Mapping[str, float]], titles: Mapping[str, int], context_of: Ints, of: Ints
) -> Floats:
    """Return, per decision, the watched share of its title, in [0, 1].

    Decision i was asked in a context where `played[context_of[i]]` had been watched, of the title
    that has the number `of[i]` among `titles`.

    >>> at = np.array([0, 0, 1]), np.array([1, 0, 1])
    >>> watched_shares([{"b": 0.5, "z": 1.0}, {"b": 1.0}], {"a": 0, "b": 1}, *at).tolist()
    [0.5, 0.0, 1.0]
    """
    there = flatten(played, titles).numbered
    if not len(there.rows):
        return np.zeros(len(of))
    n = len(titles)  # once: a catalogue that is read anew adds to them
    keys = there.rows * n + there.numbers
    order = np.argsort(keys)
    wanted = context_of * n + of
    at = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    found: Floats = np.where(keys[order[at]] == wanted, there.values[order[at]], 0.0)
    return found
