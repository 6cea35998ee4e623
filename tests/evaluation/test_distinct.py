"""Hashes of names, and counting different ones."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from artwork_bandit.evaluation import distinct
from artwork_bandit.evaluation.distinct import Distinct, hashed

ODD = ["", "a", "b", "ab", "a\0", "\0", "aaaaaaaa", "aaaaaaaaa", "aaaaaaaab", "é" * 999, "日本"]


def test_different_names_have_different_hashes() -> None:
    names = [*ODD, *(f"m{i}" for i in range(100_000)), *(f"{i:032x}" for i in range(100_000))]
    assert len(np.unique(hashed(np.array(names, object)))) == len(names)


def test_a_hash_depends_on_the_name_alone() -> None:
    names = np.array([*ODD, "m-17"], object)
    together = hashed(names)
    assert [int(hashed(names[i : i + 1])[0]) for i in range(len(names))] == together.tolist()
    assert hashed(names[::-1]).tolist() == together[::-1].tolist()
    # Reports of other machines and releases must be of the same clusters.
    assert int(together[-1]) == 0xB7E745F851C60042
    assert len(hashed(names[:0])) == 0


def test_hashes_fill_their_bits_evenly() -> None:
    found = hashed(np.array([f"member-{i}" for i in range(100_000)], object))
    bits = (found[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.01
    counts = np.bincount((found % np.uint64(1024)).astype(np.int64), minlength=1024)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 1024 + 6 * np.sqrt(2 * 1024)


def test_what_was_spilled_is_counted_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "MOST_KEPT", 1_000)
    bag = Distinct()
    for start in (0, 500, 1_000, 1_500):
        bag.add(hashed(np.array([f"m{i}" for i in range(start, start + 900)], object)))
    assert (bag.total, bag.distinct) == (3_600, 2_400)
    again = pickle.loads(pickle.dumps(bag))
    again += bag
    assert (again.total, again.distinct) == (7_200, 2_400)
