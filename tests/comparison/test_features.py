"""What features are worth, across titles."""

import numpy as np
import pytest

from artwork_bandit.comparison.features import FEWEST_TITLES, across_titles


def world(rng: np.random.Generator, titles: int, worth: float) -> tuple[dict, dict]:
    effects, described = {}, {}
    for t in range(titles):
        faces = [True, False, True, False]
        described |= {f"{t}-{v}": {"faces": f, "tags": ["a", f"only {t}"]}
                      for v, f in enumerate(faces)}  # fmt: skip
        lifts = rng.normal(0, 0.1, 4) + worth * np.array(faces)
        n = rng.uniform(100, 1000, 4)
        effects[str(t)] = {f"{t}-{v}": (float(lifts[v]), float(n[v])) for v in range(4)}
    return effects, described


def test_a_feature_that_works_is_found_with_its_size() -> None:
    rows = across_titles(*world(np.random.default_rng(1), 60, 0.2))
    found = {(r.feature, r.value): r for r in rows}
    assert set(found) == {("faces", "true"), ("faces", "false")}  # all have tag a; others are rare
    with_faces = found["faces", "true"]
    assert with_faces.titles == 60
    assert with_faces.lower < 0.2 < with_faces.upper
    assert with_faces.lower > 0.1
    assert found["faces", "false"].lift == pytest.approx(-with_faces.lift)


def test_intervals_hold_for_all_rows_together() -> None:
    missed = 0
    for seed in range(400):
        rows = across_titles(*world(np.random.default_rng(seed), 20, 0.0))
        missed += any(r.lower > 0 or r.upper < 0 for r in rows)
    assert missed / 400 < 0.08


def test_few_titles_say_nothing() -> None:
    assert across_titles(*world(np.random.default_rng(1), FEWEST_TITLES - 1, 0.5)) == []
