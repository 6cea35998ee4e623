"""What is thought of effects before a log was read, how fast what it says ages, and how far clicks
stand for what they come to."""

from __future__ import annotations

import msgspec


class Priors(msgspec.Struct, frozen=True):
    """Standard deviations of effects, in logits; 0 leaves a group of effects out. And how fast what
    was learned ages, and what clicks stand for."""

    title: float = 0.5
    """Of a title's level, beyond its own mean."""
    variant: float = 0.1
    """Of one variant column, for everybody."""
    own: float = 0.13
    """Of a variant's own effect, beyond what its features say."""
    affinity: float = 0.5
    """Of one unit of log-lift of the genre a variant emphasises."""
    cross: float = 0.01
    """Of one unit of a context column that is no taste factor, on one variant column."""
    taste: float = 0.01
    """Of one standard deviation of a taste factor, on one variant column."""
    title_tastes: list[float] = []
    """The same of each factor of titles watched, in their order; `taste` beyond the list's end."""
    own_cross: float = 0.03
    """Of one standard deviation of a taste factor on one variant."""
    own_genre: float = 0.25
    """Of one unit of log-lift of a genre, beyond the mean over the title's, on one variant that no
    trusted tag tells of (`policies.doubtful`)."""
    watched: float = 0.1
    """Of a title watched to the end, on one variant column."""
    genre_cross: float = 0.0
    """Of one unit of log-lift of one genre, on variants that emphasise another."""
    ageing: float = 1.0
    """What the half-life of rows is divided by."""
    surrogate: float = 0.5
    """Share of a clicked row's label that is what clicks on its variant come to, in the place of
    what it came to itself (`training.surrogates`); 0 asks outcomes alone."""

    @property
    def stands_for(self) -> float:
        """`surrogate`, or 0 where rows age faster than clicks were counted: what clicks came to is
        old news there."""
        return self.surrogate if self.ageing == 1.0 else 0.0


AFTER_CHANGE = Priors(genre_cross=0.1)
"""Where what was learned before has ceased to be true: that members like what they watch is not
taken for granted."""
