"""What trained models are worth on a log whose true chances are known."""

from __future__ import annotations

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.policies.block import Actions, InMemory
from artwork_bandit.policies.exploration import Exploration
from artwork_bandit.policies.policy import BoundScorer, ModelPolicy
from artwork_bandit.training import train as training
from simulations.learning import AS_TRAINED, SLOT
from simulations.worlds import UniformLog

GREEDY = Exploration(form="greedy", strength=0.0, explored_share=1e-9)


def pmf_of(log: UniformLog, trained: training.Trained, *, greedy: bool) -> Floats:
    """Return [rows, width], the live or the greedy policy's pmf on a log."""
    policy = trained.bundle.policy(1)
    if greedy:
        policy = ModelPolicy(trained.bundle.model, GREEDY)
    return Actions.of(log.block, log.lookup).pmf(policy, log.block).reshape(table(log).shape)


def table(log: UniformLog) -> Floats:
    """Return the truth [rows, width]; all titles of these worlds have as many variants."""
    found: Floats = log.truth.reshape(len(log.block), -1)
    return found


def learned(log: UniformLog) -> training.Trained:
    return training.train(InMemory([log.block]), log.lookup, SLOT, AS_TRAINED)


def greedy_rate(log: UniformLog, trained: training.Trained) -> float:
    return float((pmf_of(log, trained, greedy=True) * table(log)).sum(axis=1).mean())


def scores_of(log: UniformLog, trained: training.Trained) -> Floats:
    """Return [rows, width], the model's scores."""
    block, everywhere = log.block, Actions.of(log.block, log.lookup)
    scores = BoundScorer.of(trained.bundle.model, everywhere.columns)
    of_row = np.arange(len(block))
    found = scores.scores(block.contexts, of_row, everywhere.rows, everywhere.offsets)
    return found.reshape(table(log).shape)
