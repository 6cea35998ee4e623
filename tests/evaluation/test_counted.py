"""Counts against propensities."""

from dataclasses import replace

import numpy as np
import pytest

from artwork_bandit.domain import ReplayBlock
from artwork_bandit.evaluation.counted import Counted
from tests import taught


def test_a_log_of_titles_with_one_picture_leaves_nothing_to_chance() -> None:
    block = taught.log(600)
    sets = tuple(
        replace(s, variant_ids=s.variant_ids[:1], action_set_id=i)
        for i, s in enumerate(block.action_sets)
    )
    one = replace(
        block, action_sets=sets, chosen=np.zeros(600, np.int64), propensity=np.ones(600)
    )  # fmt: skip
    found = Counted()
    found.add(one, None, np.arange(600) % 64)
    assert found.log_evidence == 0.0


ALARM = -np.log(1e-6)


def drawn(seed: int, rows: int = 20_000) -> ReplayBlock:
    """A sound log of 30 titles, some pictures of which are shown far more often than others."""
    rng = np.random.default_rng(seed)
    block = taught.log(rows, seed, titles=30)
    sets = tuple(replace(s, default=i % 4) for i, s in enumerate(block.action_sets))
    by_title = 0.1 + 0.6 * rng.dirichlet(np.full(4, 0.5), 30)
    pmf = by_title[block.set_of_row]
    chosen = (rng.random((rows, 1)) > pmf.cumsum(axis=1)[:, :3]).sum(axis=1)
    return replace(
        block, action_sets=sets, chosen=chosen, propensity=pmf[np.arange(rows), chosen],
        logging_pmf=pmf.ravel(), member_ids=np.array([f"m{i % 5000}" for i in range(rows)], object),
    )  # fmt: skip


def evidence(block: ReplayBlock, *, with_pmf: bool = True) -> float:
    if not with_pmf:
        block = replace(block, logging_pmf=None)
    bucket = np.array([int(m[1:]) % 256 for m in block.member_ids.tolist()])
    half, found = np.arange(len(block)) < len(block) // 2, [Counted(), Counted()]
    for each, rows in zip(found, (half, ~half), strict=True):
        part, logged = block.take(rows), None
        if part.logging_pmf is not None and part.logging_pmf.min() <= 0:
            logged = part.logging_pmf > 0
        each.add(part, logged, bucket[rows])
    found[0] += found[1]
    return found[0].log_evidence


def ranks(block: ReplayBlock) -> np.ndarray:
    pmf = block.logging_pmf.reshape(-1, 4)
    order = np.argsort(np.argsort(-pmf, axis=1, kind="stable"), axis=1)
    return order[np.arange(len(block)), block.chosen]


def test_sound_logs_are_no_evidence() -> None:
    assert max(evidence(drawn(seed)) for seed in range(30)) < np.log(100)


@pytest.mark.parametrize("place", ["third", "least probable", "default"])
def test_what_is_lost_from_one_place_is_seen_in_a_catalogue_of_many_titles(place: str) -> None:
    block, rng = drawn(1), np.random.default_rng(7)
    default = np.array([s.default for s in block.action_sets])[block.set_of_row]
    at = {"third": block.chosen == 2, "least probable": ranks(block) == 3,
          "default": block.chosen == default}[place]  # fmt: skip
    lost = block.take(~at | (rng.random(len(block)) > 0.3))
    assert evidence(lost) > ALARM
    assert (evidence(lost, with_pmf=False) > ALARM) == (place != "least probable")


def test_what_is_never_to_be_shown_is_not_missed() -> None:
    block = drawn(2)
    pmf = block.logging_pmf.reshape(-1, 4).copy()
    pmf[:, 1] = 0.0
    pmf /= pmf.sum(axis=1, keepdims=True)
    kept = block.chosen != 1
    at = pmf[np.arange(len(block)), block.chosen]
    never = replace(block, logging_pmf=pmf.ravel(), propensity=np.where(kept, at, 1.0)).take(kept)
    assert evidence(never) < np.log(100)
    third = never.take((never.chosen != 2) | (np.random.default_rng(3).random(len(never)) > 0.3))
    assert evidence(third) > ALARM
