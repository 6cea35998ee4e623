"""Counts against propensities."""

from dataclasses import replace

import numpy as np

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
