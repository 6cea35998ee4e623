"""A log made by the real service in a simulated world, for tests that need one."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Context, Event, EventType, Title, Variant
from artwork_bandit.operations.audience import World, WorldSettings, invent_tastes
from artwork_bandit.policies.policy import Policy
from artwork_bandit.serving.chooser import Question
from artwork_bandit.serving.ingest import Incoming
from artwork_bandit.serving.service import Service
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import cells, secrets
from artwork_bandit.store.engine import Store
from tests.samples import NOW, fill, small_catalog

WINDOW = dt.timedelta(seconds=5)
"""Shorter than the time between two visits: a unit's reward is of one look of known chance."""
SETTINGS = {"attribution_window_seconds": WINDOW.total_seconds(), "reload_seconds": 3600}
STEP = dt.timedelta(seconds=10)


@dataclass(slots=True)
class Simulation:
    """A service, a world, and a clock that only moves when somebody visits."""

    service: Service
    settings: Settings
    world: World
    titles: list[Title]
    tastes: dict[str, dict[str, float]]
    rng: np.random.Generator
    now: dt.datetime = NOW

    @staticmethod
    def begin(
        store: Store, url: str, *, titles: int = 6, members: int = 3000, seed: int = 1,
        shares: dict[str, float] | None = None,
    ) -> Simulation:  # fmt: skip
        for name in ("draw", "cell", "decision"):
            secrets.put(store, name, f"{name}-{seed}".encode())  # the same run every time
        variants: list[Variant] = fill(store, titles)
        rng = np.random.default_rng(seed)
        made, _ = small_catalog(titles)
        tastes = invent_tastes(made, members, rng)
        how = WorldSettings(base=-1.2, base_sd=0.4, quality_sd=0.3, beta=1.0)
        world = World(variants, tastes, how, rng)
        settings = Settings(database_url=url, **SETTINGS)
        with store.write() as connection:
            cells.set_shares(connection, shares or {"explore": 1.0})
        return Simulation(
            service=Service(store, settings), settings=settings, world=world, titles=made,
            tastes=tastes, rng=rng,
        )  # fmt: skip

    def visits(self, count: int) -> None:
        """Let members come one after another, each looking at every title."""
        ids = tuple(t.title_id for t in self.titles)
        for _ in range(count):
            self.now += STEP
            member = int(self.rng.integers(len(self.world.members)))
            name = self.world.members[member]
            question = Question(
                request_id=uuid.UUID(bytes=self.rng.bytes(16)).hex, member_id=name,
                slot=SLOTS["artwork"], title_ids=ids,
                context=Context(genres={g: 50 * s for g, s in self.tastes[name].items()}),
            )  # fmt: skip
            answer = self.service.answer(question, genres_given=True, now=self.now)
            shown = answer.decisions.choices
            rows = [self.world.row_of[c.variant_id] for c in shown]
            played = self.rng.random(len(rows)) < self.world.probabilities(member, rows)
            batch: list[Incoming] = []
            for decision, plays in zip(answer.decision_ids, played.tolist(), strict=True):
                for kind in ["impression", *(["click", "play"] if plays else [])]:
                    event = Event(
                        event_id=uuid.UUID(bytes=self.rng.bytes(16)).hex, type=EventType(kind),
                        occurred_at=self.now,
                    )  # fmt: skip
                    batch.append(Incoming(index=len(batch), event=event, decision_id=decision))
            assert not self.service.take_in(batch, self.now).rejected
        self.service.state.refresh()

    def later(self) -> dt.datetime:
        """Return a time when every window has closed."""
        return self.now + WINDOW + STEP

    def true_value(self, policy: Policy) -> float:
        """Return the policy's value over members and titles, each equally often."""
        catalog = self.service.state.current.catalogs["artwork"]
        bound = policy.bind(catalog.columns)
        by_title = [
            np.flatnonzero([v.title_id == t.title_id for v in catalog.variants])
            for t in self.titles
        ]
        rows = np.concatenate(by_title)
        offsets = np.cumsum([0, *(len(r) for r in by_title)])
        of_page = np.zeros(len(by_title), np.int64)
        total = 0.0
        for i, name in enumerate(self.world.members):
            context = Context(genres={g: 50 * s for g, s in self.tastes[name].items()})
            pmf = bound.pmf([context], of_page, rows, offsets)
            world_rows = [self.world.row_of[catalog.variants[r].variant_id] for r in rows]
            total += float(pmf @ self.world.probabilities(i, world_rows))
        return total / len(self.titles) / len(self.world.members)
