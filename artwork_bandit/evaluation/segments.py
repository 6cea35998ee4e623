"""Parts of a log that are judged by themselves: whose decisions, or under what circumstances."""

from __future__ import annotations

from artwork_bandit.domain import Context, ReplayBlock
from artwork_bandit.errors import InvalidInput

FIELDS = ("taste", "device", "country", "language", "surface", "daypart", "watched", "cell")
MOST = 40
"""Segments told apart, in the order in which the log first names them; later ones are `other`."""
UNKNOWN, OTHER = "unknown", "other"


class Segments:
    """Names each row's segment."""

    def __init__(self, by: str) -> None:
        """`by` is one of FIELDS; raises InvalidInput for another."""
        if by not in FIELDS:
            raise InvalidInput(
                f"segments by {by[:40]!r} are unknown; use one of {', '.join(FIELDS)}"
            )
        self.by = by
        self.names: dict[str, int] = {}

    def of(self, block: ReplayBlock) -> list[str]:
        """Return the name of each row's segment."""
        names = [self._name(block, i, context) for i, context in enumerate(block.contexts)]
        for name in names:
            if len(self.names) < MOST:
                self.names.setdefault(name, len(self.names))
        return [name if name in self.names else OTHER for name in names]

    def _name(self, block: ReplayBlock, i: int, context: Context) -> str:
        match self.by:
            case "taste":
                liked = [(w, g) for g, w in context.genres.items() if w > 0]
                return max(liked)[1] if liked else "no history"
            case "daypart":
                hour = context.hour
                return UNKNOWN if hour is None else f"{hour // 4 * 4:02d}-{hour // 4 * 4 + 4:02d} h"
            case "watched":
                title = block.action_sets[block.set_of_row[i]].title_id
                return "title watched before" if title in context.played else "title not watched"
            case "cell":
                return str(block.cells[i] or UNKNOWN)
        return str(getattr(context, self.by) or UNKNOWN)
