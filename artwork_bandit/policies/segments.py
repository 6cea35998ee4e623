"""Parts of a log that are judged by themselves: whose decisions, or under what circumstances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from artwork_bandit.domain import HOURS, Context, Contexts, ReplayBlock
from artwork_bandit.errors import InvalidInput

FIELDS = ("taste", "device", "country", "language", "surface", "daypart", "watched", "cell")
COMMUNITY = "community"
"""Named by a model's communities, which have to be given."""
POSITION = "position"
"""The place of a decision's title in its request, which ids of the service's own decisions end in;
of a log's rows only."""
PLACES = (1, 2, 3, 4, 8, 16, 40)
"""Last places of the parts of a page that are told apart."""
MOST = 40
"""Segments told apart: those of most rows; the others are one, `other`."""
UNKNOWN, OTHER = "unknown", "other"


Communities = Callable[[Sequence[Context]], list[str]]
"""From contexts to the names of their communities."""


class Segments:
    """Names each row's segment."""

    def __init__(
        self, by: str, told: Iterable[str] | None = None, communities: Communities | None = None
    ) -> None:
        """`by` is one of FIELDS or POSITION, or COMMUNITY with `communities`; raises InvalidInput
        for another. With `told`, whatever is not among these names is `other`."""
        if by not in (*FIELDS, POSITION) and (by != COMMUNITY or communities is None):
            known = ", ".join([*FIELDS, POSITION, COMMUNITY])
            raise InvalidInput(f"segments by {by[:40]!r} are unknown; use one of {known}")
        self.by = by
        self._communities = communities
        self._told = None if told is None else frozenset(told)

    def of(self, block: ReplayBlock) -> list[str]:
        """Return the name of each row's segment."""
        if self.by == POSITION:
            return [self._kept(_place(each)) for each in block.decision_ids.tolist()]
        titles = [s.title_id for s in block.action_sets]
        of_row = [titles[i] for i in block.set_of_row.tolist()]
        return self.names(block.contexts, of_row, block.cells.tolist())

    def names(
        self, contexts: Contexts, title_ids: Sequence[str], cells: Sequence[str | None]
    ) -> list[str]:
        """Return the names of rows' segments; raises InvalidInput for POSITION."""
        if self.by == POSITION:
            raise InvalidInput("segments by 'position' are of whole logs: `evaluate --by position`")
        if self.by in ("watched", "cell"):
            rows = zip(contexts, title_ids, cells, strict=True)
            return [self._kept(self._name(*row)) for row in rows]
        distinct, of_row = contexts.used()
        if self._communities is not None:
            names = self._communities(distinct)
        else:
            names = [self._name(context, "", None) for context in distinct]
        kept = [self._kept(name) for name in names]
        return [kept[i] for i in of_row.tolist()]

    def _kept(self, name: str) -> str:
        return name if self._told is None or name in self._told else OTHER

    def _name(self, context: Context, title_id: str, cell: str | None) -> str:
        match self.by:
            case "taste":
                liked = [(w, g) for g, w in context.genres.items() if w > 0]
                return max(liked)[1] if liked else "no history"
            case "daypart":
                hour = context.hour
                return UNKNOWN if hour is None else _part_of_day(hour)
            case "watched":
                return "title watched before" if title_id in context.played else "title not watched"
            case "cell":
                return cell or UNKNOWN
        return str(getattr(context, self.by) or UNKNOWN)


def _place(decision_id: str) -> str:
    """Return the part of a page that a decision was made for.

    >>> _place("request.0"), _place("request.5"), _place("request.99"), _place("elsewhere")
    ('1', '5 to 8', '41 and on', 'unknown')
    """
    _, dot, text = decision_id.rpartition(".")
    if not dot or not (text.isascii() and text.isdigit()):
        return UNKNOWN
    place = int(text) + 1
    for before, last in zip((0, *PLACES), PLACES, strict=False):
        if place <= last:
            return f"{last}" if last == before + 1 else f"{before + 1} to {last}"
    return f"{PLACES[-1] + 1} and on"


def _part_of_day(hour: int) -> str:
    begin = hour // HOURS * HOURS
    return f"{begin:02d}-{begin + HOURS:02d} h"


def largest(rows: Mapping[str, int]) -> list[str]:
    """Return the names to tell apart, from the rows of each."""
    return [name for name, _ in sorted(rows.items(), key=lambda r: (-r[1], r[0]))[:MOST]]
