"""Who chooses in a stream: ours, and what others would install instead.

All know the same features (`streams.Features`): the members' viewing in the encoder's log-lifts,
what the variants are tagged with, and how much the member likes the genre that each emphasises.
Packages whose arms have no features get a bandit per title, with the member's affinities to its
variants as context: with all of the member's columns LinUCB captured less.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import numpy as np
import vowpalwabbit

from artwork_bandit.domain import Floats, Ints, ReplayBlock
from artwork_bandit.operations.planning import priors_for
from artwork_bandit.operations.worker import GROWN, GROWN_A_LITTLE
from artwork_bandit.policies import vowpal_text
from artwork_bandit.policies.block import Actions, InMemory
from artwork_bandit.policies.policy import Policy, Uniform
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import train as training
from artwork_bandit.training.change import FEWEST_LEARNED, looked_for
from artwork_bandit.training.start import Start
from simulations.streams import Stream

SLOT = SLOTS["artwork"]


class Contender(Protocol):
    """A policy that learns from the stream."""

    every: int
    """Decisions that it makes before it is told what they earned."""

    def choose(self, rows: Ints) -> Floats:
        """Return [rows, width], the probabilities it chose with, then learn from what it earned."""


class Ours:
    """Cells, default shares, and retraining when the worker would, without the gate."""

    every = 1_000

    def __init__(self, s: Stream, seed: int) -> None:
        self._s, self._seed = s, seed
        self._policy: Policy = Uniform()
        self._settings: list[dict[str, Any]] = []
        self._made: list[tuple[Start, int]] = []
        """Models, and rows that they learned from since a change; those since the last."""
        self._changed_at: int | None = None
        self._learned, self._looked = 0, 0
        """Rows that there were, since a change, at the last training and at the last look."""
        self._chosen = np.zeros(len(s), np.int64)
        self._propensity, self._reward = np.zeros(len(s)), np.zeros(len(s))

    def choose(self, rows: Ints) -> Floats:
        s = self._s
        nothing = np.zeros(len(rows))
        asked = s.block(rows, nothing.astype(np.int64), nothing, nothing)
        pmf = Actions.of(asked, s.lookup).pmf(self._policy, asked).reshape(-1, s.width)
        pmf[s.cell[rows] == "explore"] = 1 / s.width
        pmf[s.cell[rows] == "baseline"] = np.eye(s.width)[0]
        chosen, reward = s.draw(rows, pmf)
        self._chosen[rows], self._reward[rows] = chosen, reward
        self._propensity[rows] = pmf[np.arange(len(rows)), chosen]
        self._perhaps_train(np.arange(rows[-1] + 1))
        return pmf

    def _perhaps_train(self, seen: Ints) -> None:
        columns = (c[seen] for c in (self._chosen, self._propensity, self._reward))
        block = self._s.block(seen, *columns)
        rows = self._since_change(block)
        grown = rows >= (1 + GROWN) * self._learned
        if not grown and rows < (1 + GROWN_A_LITTLE) * self._looked:
            return
        self._looked = rows
        if self._look(block) or grown:
            self._train(block)

    def _since_change(self, block: ReplayBlock) -> int:
        return int((block.occurred_at >= (self._changed_at or 0)).sum())

    def _look(self, block: ReplayBlock) -> bool:
        """Look for a change; tell whether there is one."""
        # Not by the newest: as behind the gate, some rows came since it learned.
        if len(self._made) < 2:
            return False
        model, learned = self._made[-2]
        if self._changed_at is not None and learned < FEWEST_LEARNED:
            return False
        change = looked_for([block], self._s.lookup, model, SLOT.reward.bounds)
        if change is not None:
            self._changed_at, self._made = change.at, []
        return change is not None

    def _train(self, block: ReplayBlock) -> None:
        how = training.Settings(
            priors=lambda n: priors_for("auto", self._settings, n, self._changed_at), watched=True,
            changed_at=self._changed_at, seed=self._seed,
        )  # fmt: skip
        made = training.train(InMemory([block]), self._s.lookup, SLOT, how)
        tuned = None if made.tuned is None else made.rows_since
        self._settings.insert(
            0, {
                "tuned_on_rows": tuned, "priors": msgspec.to_builtins(made.priors),
                "changed_at": self._changed_at,
            },
        )  # fmt: skip
        self._learned = self._looked = self._since_change(block)
        self._made.append((Start.of(made.bundle), self._learned))
        self._policy = made.bundle.policy(1)


class Affinity:
    """The variant whose genre the member likes most; nothing is learned."""

    every = 5_000

    def __init__(self, s: Stream, seed: int) -> None:
        self._s = s

    def choose(self, rows: Ints) -> Floats:
        liked = self._s.features.affinities(self._s.member[rows], self._s.title[rows])
        return np.eye(self._s.width)[liked[:, :, :2].sum(axis=2).argmax(axis=1)]


class Thompson:
    """A Beta posterior per variant, drawn from at each decision."""

    every = 1_000

    def __init__(self, s: Stream, seed: int) -> None:
        self._s, self._rng = s, np.random.default_rng([seed, 5])
        shape = (len(s.variants), s.width)
        mean, rows = 0.08, 20.0  # an average title's rate, in rows it is worth
        self._won, self._lost = np.full(shape, mean * rows), np.full(shape, (1 - mean) * rows)

    def choose(self, rows: Ints) -> Floats:
        title = self._s.title[rows]
        drawn = self._rng.beta(self._won[title], self._lost[title])
        pmf = np.eye(self._s.width)[drawn.argmax(axis=1)]
        chosen, reward = self._s.draw(rows, pmf)
        np.add.at(self._won, (title, chosen), reward)
        np.add.at(self._lost, (title, chosen), 1 - reward)
        return pmf


class VowpalWabbit:
    """VW's own bandit as it comes: learns from each decision before the next."""

    every = 5_000  # it learns from each decision by itself
    ARGUMENTS = "--cb_explore_adf --squarecb --cb_type mtr -q gv --quiet"

    def __init__(self, s: Stream, seed: int) -> None:
        self._s = s
        self._workspace = vowpalwabbit.Workspace(f"{self.ARGUMENTS} --random_seed {seed}")
        features = s.features
        self._shared = [f"shared |g{t}" for t in vowpal_text.columns_texts(features.contexts)]
        texts = vowpal_text.columns_texts(features.variants)
        self._variants = [f"|v{t} |o {i}:0.1" for i, t in enumerate(texts)]

    def choose(self, rows: Ints) -> Floats:
        s, width = self._s, self._s.width
        pmf = np.empty((len(rows), width))
        liked = s.features.affinities(s.member[rows], s.title[rows])
        for i, row in enumerate(rows):
            first = s.title[row] * width
            affinity = vowpal_text.columns_texts(liked[i])
            actions = [f"{self._variants[first + j]} |a{affinity[j]}" for j in range(width)]
            lines = [self._shared[s.member[row]], *actions]
            pmf[i] = self._workspace.predict(lines)
            chosen, reward = s.draw(rows[i : i + 1], pmf[i : i + 1])
            at = int(chosen[0])
            lines[at + 1] = f"0:{-reward[0]:g}:{pmf[i, at]:.7f} {lines[at + 1]}"
            self._workspace.learn(lines)
        return pmf


class PerTitle:
    """One bandit of another package for each title; learns every round.

    Its context: the member's affinity for each of the title's variants, or all columns.
    """

    def __init__(
        self, s: Stream, seed: int, make: Callable[[int, int], Any], every: int,
        columns: str = "affinity",
    ) -> None:  # fmt: skip
        self.every = every
        self._s, self._seed = s, seed
        self._make = make
        self._columns = columns
        self._bandits: dict[int, Any] = {}

    def choose(self, rows: Ints) -> Floats:
        s = self._s
        pmf = np.full((len(rows), s.width), 1 / s.width)
        if self._columns == "all":
            known = s.features.contexts[s.member[rows]]
        else:
            known = s.features.affinities(s.member[rows], s.title[rows])[:, :, :2].sum(axis=2)
        contexts = np.concatenate([known, np.ones((len(rows), 1))], axis=1)
        for title, bandit in self._bandits.items():
            some = np.flatnonzero(s.title[rows] == title)
            if len(some):
                arms = np.ravel(bandit.predict(contexts[some])).astype(np.int64)
                pmf[some] = np.eye(s.width)[arms]
        chosen, reward = s.draw(rows, pmf)
        for title in np.unique(s.title[rows]).tolist():
            some = s.title[rows] == title
            if title not in self._bandits:
                self._bandits[title] = self._make(s.width, self._seed + title)
            seen = contexts[some], chosen[some], reward[some]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._bandits[title].learn(*seen)
        return pmf


class Mabwiser:
    """A MABWiser bandit as `PerTitle` uses it."""

    def __init__(self, policy: Any, width: int, seed: int) -> None:
        from mabwiser.mab import MAB

        self._bandit = MAB(list(range(width)), policy, seed=seed)
        self._fitted = False

    def learn(self, contexts: Floats, chosen: Ints, reward: Floats) -> None:
        fit = self._bandit.partial_fit if self._fitted else self._bandit.fit
        fit(chosen, reward, contexts)
        self._fitted = True

    def predict(self, contexts: Floats) -> Any:
        return self._bandit.predict(contexts)


class ContextualBandits:
    """A bandit of contextualbandits as `PerTitle` uses it: it is fitted to all it has seen."""

    def __init__(self, make: Callable[..., Any], width: int, seed: int) -> None:
        self._bandit = make(width, random_state=seed, njobs=1)
        self._seen: list[tuple[Floats, Ints, Floats]] = []

    def learn(self, contexts: Floats, chosen: Ints, reward: Floats) -> None:
        self._seen.append((contexts, chosen, reward))
        self._bandit.fit(*(np.concatenate(column) for column in zip(*self._seen, strict=True)))

    def predict(self, contexts: Floats) -> Any:
        return self._bandit.predict(contexts)


def _contextualbandits(name: str) -> Callable[[Stream, int], Contender]:
    def make(s: Stream, seed: int) -> Contender:
        from contextualbandits import online

        policy = getattr(online, name)
        return PerTitle(s, seed, lambda width, own: ContextualBandits(policy, width, own), 5_000)

    return make


def _mabwiser(name: str) -> Callable[[Stream, int], Contender]:
    def make(s: Stream, seed: int) -> Contender:
        from mabwiser.mab import LearningPolicy

        policy = getattr(LearningPolicy, name)(alpha=ALPHA[name])
        return PerTitle(s, seed, lambda width, own: Mabwiser(policy, width, own), 1_000)

    return make


ALPHA = {"LinUCB": 0.1, "LinTS": 0.1}
"""Not MABWiser's default, 1, with which they captured half to two thirds as much in the world of
seed 1; with 0.03 and 0.01 LinTS captured a little less, LinUCB a little more."""
PACKAGES = ("MABWiser", "contextualbandits")
"""Whose contenders, named after them, take part where they are installed."""
CONTENDERS: dict[str, Callable[[Stream, int], Contender]] = {
    "artwork-bandit, live cell": Ours,
    "affinity, no training": Affinity,
    "Thompson sampling per title": Thompson,
    "VW --cb_explore_adf --squarecb": VowpalWabbit,
    "MABWiser LinUCB per title": _mabwiser("LinUCB"),
    "MABWiser LinTS per title": _mabwiser("LinTS"),
    "contextualbandits LogisticTS per title": _contextualbandits("LogisticTS"),
    "contextualbandits LogisticUCB per title": _contextualbandits("LogisticUCB"),
}
