"""What a model would have shown to members who were served one fixed picture."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from artwork_bandit.errors import NotEnoughData, NotFound
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.rehearsal import rehearse
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.slots import SLOTS
from artwork_bandit.store.engine import Store
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def test_an_apprentice_tells_what_it_would_have_shown(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    shares = {"explore": 0.7, "baseline": 0.3}
    simulation = Simulation.begin(store, database_url, shares=shares)
    simulation.visits(400)
    version = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    simulation.visits(200)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    out = tmp_path / "rehearsed.parquet"
    source = ReplaySource.of(store, None, "artwork")
    found = rehearse(source, version, out)
    rows = pq.read_table(out).to_pylist()
    assert found.decisions == len(rows) == sum(t.decisions for t in found.titles)
    assert len(rows) > 500
    assert {r["served"].rpartition("-")[2] for r in rows} == {"a0"}  # the default
    for row in rows:
        assert 0 < row["served_probability"] <= row["likeliest_probability"] <= 1
        assert row["likeliest"].startswith(row["title_id"])
    assert len({r["likeliest"] for r in rows}) > len(found.titles)  # by member, not by title
    assert found.same == pytest.approx(sum(r["served_probability"] for r in rows) / len(rows))
    with pytest.raises(NotFound):
        rehearse(source, version + 99)


def test_where_everybody_was_drawn_for_nothing_can_be_rehearsed(
    simulation: Simulation, tmp_path: Path
) -> None:
    simulation.visits(200)
    store = simulation.service.store
    version = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    with pytest.raises(NotEnoughData, match="cells set"):
        rehearse(ReplaySource.of(store, None, "artwork"), version, tmp_path / "none.parquet")
    assert not list(tmp_path.glob("none*"))
