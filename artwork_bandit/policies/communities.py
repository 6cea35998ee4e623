"""Which taste community members belong to, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artwork_bandit.domain import Context
from artwork_bandit.policies.encoding import ContextEncoder

NAMED_BY = 2
"""Genres that name a community: those that lead to it most."""
NO_HISTORY = "no history"


class Communities:
    """Names members' communities; picklable, and the same everywhere."""

    def __init__(self, encoder: ContextEncoder) -> None:
        """`encoder` is a model's that has communities."""
        self._encoder = encoder
        columns = encoder.columns
        self._columns = [i for i, name in enumerate(columns) if name.startswith("community:")]
        made = encoder.audiences
        if made is None or not self._columns:
            raise ValueError("the model has no communities")
        towards = np.array(made.genres) @ np.array(made.communities).T
        genres = columns[: len(encoder.genres)]
        self.names = [
            f"{i + 1}: {', '.join(_plain(genres[g]) for g in np.argsort(-of)[:NAMED_BY])}"
            for i, of in enumerate(towards.T)
        ]

    @staticmethod
    def of(encoder: ContextEncoder) -> Communities | None:
        """Return a model's communities, None if it has learned none."""
        made = encoder.audiences
        return Communities(encoder) if made is not None and made.communities else None

    def __call__(self, contexts: Sequence[Context]) -> list[str]:
        """Return the name of each context's community."""
        encoded = self._encoder.encode(contexts)[:, self._columns]
        return [
            self.names[i] if context.genres or context.played else NO_HISTORY
            for context, i in zip(contexts, encoded.argmax(axis=1).tolist(), strict=True)
        ]


def _plain(column: str) -> str:
    return column.partition(":")[2] or column
