"""A log made by the real service in a simulated world, for tests that need one."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Context, Event, EventType, Title, Variant
from artwork_bandit.operations.audience import World, WorldSettings, invent_tastes
from artwork_bandit.policies.policy import Policy
from artwork_bandit.serving.batcher import Job
from artwork_bandit.serving.chooser import Question
from artwork_bandit.serving.ingest import Incoming
from artwork_bandit.serving.service import Asking, Chosen, Service
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import cells, secrets
from artwork_bandit.store.engine import Store
from tests.samples import NOW, fill, small_catalog

WINDOW = dt.timedelta(seconds=5)
"""Shorter than the time between two visits: a unit's reward is of one look of known chance."""
SETTINGS = {"attribution_window_seconds": WINDOW.total_seconds(), "reload_seconds": 3600}
STEP = dt.timedelta(seconds=10)
TOGETHER = 50
"""Visits that are sent together: a commit for each would be most of the time of a test."""


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
    idle: float = 0.0
    """Share of looks that end in a click and nothing else."""

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
        """Let members come one after another, each looking at every title; what so many of them
        did reaches the service together."""
        for first in range(0, count, TOGETHER):
            self._visits(min(TOGETHER, count - first))
        self.service.state.refresh()

    def _visits(self, count: int) -> None:
        ids = tuple(t.title_id for t in self.titles)
        jobs: list[tuple[int, Job[Asking, Chosen]]] = []
        for _ in range(count):
            self.now += STEP
            member = int(self.rng.integers(len(self.world.members)))
            name = self.world.members[member]
            question = Question(
                request_id=uuid.UUID(bytes=self.rng.bytes(16)).hex, member_id=name,
                slot=SLOTS["artwork"], title_ids=ids,
                context=Context(genres={g: 50 * s for g, s in self.tastes[name].items()}),
            )  # fmt: skip
            asking = self.service.asking(question, genres_given=True, now=self.now, own_id=False)
            jobs.append((member, Job(asking)))
            self.service.begin(jobs[-1][1])
        batch: list[Incoming] = []
        for member, job in jobs:
            answer = self.service.finish(job.asked, job.wait(30))
            rows = [self.world.row_of[c.variant_id] for c in answer.decisions.choices]
            played = self.rng.random(len(rows)) < self.world.probabilities(member, rows)
            clicked = self.rng.random(len(rows)) < self.idle if self.idle else played
            for i, decision in enumerate(answer.decision_ids):
                followed = ["click", "play"] if played[i] else ["click"] if clicked[i] else []
                for kind in ("impression", *followed):
                    event = Event(
                        event_id=uuid.UUID(bytes=self.rng.bytes(16)).hex, type=EventType(kind),
                        occurred_at=job.asked.now,
                    )  # fmt: skip
                    batch.append(Incoming(index=len(batch), event=event, decision_id=decision))
        assert not self.service.take_in(batch, self.now).rejected

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
        sizes = np.array([len(r) for r in by_title])
        world_rows = [self.world.row_of[catalog.variants[r].variant_id] for r in rows]
        total = 0.0
        for first in range(0, len(self.world.members), TOGETHER):
            members = range(first, min(first + TOGETHER, len(self.world.members)))
            tastes = [self.tastes[self.world.members[i]] for i in members]
            contexts = [Context(genres={g: 50 * s for g, s in taste.items()}) for taste in tastes]
            offsets = np.concatenate([[0], np.cumsum(np.tile(sizes, len(members)))])
            of_page = np.repeat(np.arange(len(members)), len(sizes))
            pmf = bound.pmf(contexts, of_page, np.tile(rows, len(members)), offsets)
            chance = [self.world.probabilities(i, world_rows) for i in members]
            total += float(pmf @ np.concatenate(chance))
        return total / len(by_title) / len(self.world.members)
