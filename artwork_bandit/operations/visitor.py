"""A client that drives the service over HTTP as a member's device would."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from artwork_bandit.client import Client, Unavailable
from artwork_bandit.errors import ArtworkBanditError
from artwork_bandit.operations.audience import World

DEVICES = ("tv", "phone", "tablet", "web")
CLICK_ANYWAY = 0.04
"""Probability that a member clicks, watches a little and leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a member was shown and did on one page."""

    member: int
    cell: str
    model_version: int | None
    rows: list[int]
    """The world's rows of the variants shown."""
    played: list[bool]
    """Whether each led to a quality play."""


class Visitor:
    """One connection; opens pages for members and reports what they did."""

    def __init__(self, host: str, port: int, world: World, rng: np.random.Generator) -> None:
        self._client = Client(f"http://{host}:{port}", timeout_seconds=30)
        self._world = world
        self._rng = rng

    def close(self) -> None:
        self._client.close()

    def visit(self, member: int, slot: str, title_ids: list[str]) -> Visit:
        """Open a page, look at all of it, act; return what happened."""
        rng, world = self._rng, self._world
        member_id = world.members[member]
        context = {
            "device": DEVICES[int(rng.integers(len(DEVICES)))],
            "surface": "homepage",
            "country": "US",
            "language": "en",
        }
        page = self._client.choose(member_id, title_ids, slot=slot, context=context)
        if page.cell is None:
            raise ArtworkBanditError("the service did not answer")
        choices = [c for c in page.pictures if c.variant_id is not None]
        rows = [world.row_of[c.variant_id] for c in choices if c.variant_id is not None]
        chance = world.probabilities(member, rows)
        played = rng.random(len(rows)) < chance
        clicked_anyway = rng.random(len(rows)) < CLICK_ANYWAY
        now = dt.datetime.now(dt.UTC).isoformat()
        events: list[dict[str, Any]] = []
        for choice, plays, only_clicks in zip(choices, played, clicked_anyway, strict=True):
            kinds: list[tuple[str, dict[str, float]]] = [("impression", {})]
            if plays:
                kinds += [("click", {}), ("play", _watched(0.9))]
            elif only_clicks:
                kinds += [("click", {}), ("play", _watched(0.05)), ("abandon", {})]
            events += [
                {"event_id": uuid.uuid4().hex, "type": kind, "occurred_at": now,
                 "decision_id": choice.decision_id, **more}
                for kind, more in kinds
            ]  # fmt: skip
        try:
            rejected = self._client.send(events).rejected
        except Unavailable as error:
            raise ArtworkBanditError(str(error)) from error
        if rejected:
            raise ArtworkBanditError(f"events were rejected: {rejected[:3]}")
        return Visit(
            member=member,
            cell=page.cell,
            model_version=page.model_version,
            rows=rows,
            played=played.tolist(),
        )


def _watched(share: float) -> dict[str, float]:
    return {"seconds_watched": 2700 * share, "duration_seconds": 2700}
