"""Rewards under another rule: the log read again is the log that would have been settled."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from artwork_bandit.errors import InvalidInput, NotFound
from artwork_bandit.evaluation.verdict import Check, Verdict
from artwork_bandit.operations import held_out, log_import
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.operations.rules import slot_of
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS, Outcomes, RewardRule, Slot
from artwork_bandit.slots.slot import CLICKS, GRADED
from artwork_bandit.store import parquet, registry, replay, rules
from artwork_bandit.store.engine import Store
from artwork_bandit.store.window import Window
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]
OWN = slot_of(Settings(), "artwork")


def rewards_of(store: Store, rule: RewardRule | None) -> dict[str, float]:
    found = {}
    for block in replay.blocks(store, Window(rule=rule), 300):
        found |= dict(zip(block.decision_ids.tolist(), block.reward.tolist(), strict=True))
    return found


def test_the_log_read_under_a_rule_is_the_log_settled_under_it(simulation: Simulation) -> None:
    simulation.idle = 0.2
    simulation.visits(150)
    store, settings, now = simulation.service.store, simulation.settings, simulation.later()
    join_rewards(store, OWN.under(GRADED), settings, now)
    settled = rewards_of(store, None)
    assert rewards_of(store, GRADED) == settled
    own, clicks = rewards_of(store, OWN.reward), rewards_of(store, CLICKS)
    assert own.keys() == clicks.keys() == settled.keys()
    assert set(own.values()) == {0.0, 1.0}
    assert 0 < sum(own.values()) < sum(clicks.values())  # not every click was worth it
    assert own != settled
    simulation.visits(50)
    join_rewards(store, OWN, settings, simulation.later())  # the rule has changed meanwhile
    mixed = rewards_of(store, OWN.reward)
    assert len(mixed) > len(own)
    assert {k: mixed[k] for k in own} == own


def test_the_log_says_what_was_clicked_whatever_the_rule(simulation: Simulation) -> None:
    simulation.visits(150)
    store = simulation.service.store
    join_rewards(store, OWN, simulation.settings, simulation.later())
    (block,) = replay.blocks(store, Window(rule=CLICKS))
    assert block.clicked is not None
    assert 0 < block.clicked.sum() < len(block)
    assert block.clicked.tolist() == block.reward.tolist()
    (own,) = replay.blocks(store, Window(rule=OWN.reward))
    assert own.clicked is not None
    assert own.clicked.tolist() == block.clicked.tolist()


def test_a_model_says_which_rule_it_was_trained_under(simulation: Simulation) -> None:
    simulation.visits(300)
    store = simulation.service.store
    rule = slot_of(simulation.settings, "artwork", "graded-1")
    version = retrain(store, rule, simulation.settings, simulation.later()).version
    with store.read() as connection:
        assert registry.get(connection, version).settings["reward_rule"] == "graded-1"


def test_a_model_of_a_rule_that_is_not_in_force_goes_live_by_hand_only(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(300)
    rule = slot_of(settings, "artwork", "graded-1")
    for verdict in ("live", "challenger"):
        monkeypatch.setattr(held_out, "gate", lambda *_, v=verdict: (v, "for the test", {}))
        outcome = retrain(store, rule, settings, simulation.later())
        assert outcome.verdict == "candidate"
        assert "'artwork-1' is in force: only `models promote`" in outcome.reason
    with store.read() as connection:
        assert registry.live(connection, "artwork") is None
        assert registry.challenger(connection, "artwork") is None
    in_force = replace(settings, reward_rule="graded-1")
    assert retrain(store, rule, in_force, simulation.later()).verdict == "challenger"


@pytest.mark.parametrize("named", ["graded-1", "of another house"])
def test_a_file_s_rewards_are_of_the_rule_it_names(
    simulation: Simulation, tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(300)
    now = simulation.later()
    join_rewards(store, OWN, settings, now)
    path = tmp_path / "log.parquet"
    parquet.write(path, replay.blocks(store, Window()), replace(OWN.reward, version=named))
    monkeypatch.setattr(held_out, "gate", lambda *_: ("live", "for the test", {}))
    outcome = retrain(store, OWN, settings, now, log=path)
    assert outcome.verdict == "candidate"
    assert f"rule {named!r}, and 'artwork-1' is in force" in outcome.reason
    with store.read() as connection:
        assert registry.get(connection, outcome.version).settings["reward_rule"] == named
    with pytest.raises(InvalidInput, match=f"{named}.*artwork-1 is in force: export it under"):
        log_import.import_log(store, path, settings, now, dry_run=False)
    if named == "graded-1":
        in_force = replace(settings, reward_rule=named)
        rows = parquet.write(path, replay.blocks(store, Window()), GRADED)
        found = log_import.import_log(store, path, in_force, now, dry_run=False)
        assert found.duplicates == rows


def outcomes(**more: list[float]) -> Outcomes:
    counts = ("clicks", "plays", "rewatches", "abandons", "thumbs_up", "thumbs_down")
    n = len(next(iter(more.values())))
    columns = {name: np.array(more.get(name, [0] * n)) for name in counts}
    seconds, share = (
        np.array(more.get(name, [np.nan] * n)) for name in ("seconds_watched", "watched_share")
    )
    return Outcomes(**columns, seconds_watched=seconds, watched_share=share)


def test_what_outcomes_are_worth() -> None:
    happened = outcomes(
        clicks=[1, 1, 1, 0, 1], plays=[0, 1, 1, 1, 1], abandons=[0, 1, 0, 0, 0],
        thumbs_up=[0, 0, 1, 0, 0], thumbs_down=[0, 0, 0, 0, 1],
        watched_share=[np.nan, 0.1, 0.9, np.nan, 1.0],
        seconds_watched=[np.nan, 60, 3000, np.nan, 60],
    )  # fmt: skip
    assert OWN.reward.rewards(happened).tolist() == [0, 0, 1, 1, 0]
    assert CLICKS.rewards(happened).tolist() == [1, 1, 1, 0, 1]
    assert GRADED.rewards(happened) == pytest.approx([0.05, 0, 1, 0.6, 0])


def test_a_rule_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text('version = "ours-3"\nquality = 0.8\nthumbs_up = 0.2\n')
    found: Slot = slot_of(Settings(reward_rule=str(path)), "trailer")
    assert found.reward == RewardRule(version="ours-3", quality=0.8, thumbs_up=0.2)
    assert slot_of(Settings(reward_rule="artwork-1"), "trailer").reward.version == "trailer-1"
    each = Settings(reward_rule=f"artwork = {path}, trailer=clicks-1")
    assert [slot_of(each, s).reward.version for s in SLOTS] == ["ours-3", "clicks-1"]
    one = Settings(reward_rule="trailer=graded-1")
    assert [slot_of(one, s).reward.version for s in SLOTS] == ["artwork-1", "graded-1"]
    named = tmp_path / "a=b.toml"
    named.write_text('version = "ours-4"\n')
    assert slot_of(Settings(reward_rule=str(named)), "artwork").reward.version == "ours-4"
    with pytest.raises(InvalidInput, match="'trailer-1' is unknown"):
        slot_of(Settings(reward_rule="artwork=trailer-1"), "artwork")
    for wrong, said in (("posters=a", "posters"), ("trailer=a,trailer=b", "twice"),
                        ("trailer=", "not SLOT=RULE")):  # fmt: skip
        with pytest.raises((InvalidInput, NotFound), match=said):
            slot_of(Settings(reward_rule=wrong), "trailer")
    for text, said in (
        ("version = 3", "version"),
        ('version = "a"\nlikes = 1.0', "unknown"),
        ('version = "a"\nbounds = [1.0, 0.0]', "bounds"),
        ('version = "a"\nclick = nan', "click"),
        ('version = "graded-1"', "its own"),
        ('version = "a"\nquality = 3600', r"rewards are cut at 1: write bounds = \[0, 3600\]"),
        ('version = "a"\nbounds = [0.0, 0.5]', "quality is worth 1, and rewards are cut at 0.5"),
        ("not toml", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidInput, match=said):
            slot_of(Settings(), "artwork", str(path))
    with pytest.raises(InvalidInput, match="known are"):
        slot_of(Settings(), "artwork", "unheard-of")


def test_a_rule_that_a_model_learned_and_was_changed_since_is_refused(
    simulation: Simulation,
) -> None:
    """Though no unit was settled under it."""
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    join_rewards(store, OWN, settings, simulation.later())
    rule = replace(OWN.reward, version="ours-1", thumbs_up=1.0)
    made = retrain(store, OWN.under(rule), settings, simulation.later())
    retrain(store, OWN.under(rule), settings, simulation.later())
    with pytest.raises(InvalidInput, match=f"than when model {made.version + 1} learned under it"):
        retrain(store, OWN.under(replace(rule, quality=0.9)), settings, simulation.later())


def test_what_a_file_s_rewards_were_paid_for_is_not_made_up(
    simulation: Simulation, tmp_path: Path
) -> None:
    """And keeps nobody from learning under that rule."""
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    join_rewards(store, OWN, settings, simulation.later())
    rule = replace(OWN.reward, version="watched-1", quality=0.0, watched=2400.0)
    log = tmp_path / "log.parquet"
    parquet.write(log, replay.blocks(store, Window(slot="artwork", rule=rule)), rule)
    made = retrain(store, OWN, settings, simulation.later(), log=log)
    with store.read() as connection:
        told = registry.get(connection, made.version).settings
    assert (told["reward_rule"], told["reward_formula"]) == ("watched-1", None)
    made = retrain(store, OWN.under(rule), settings, simulation.later())
    with store.write() as connection:
        told = registry.get(connection, made.version).settings
        assert told["reward_formula"]["watched"] == 2400.0
        # A release before made up what a file's rule pays.
        wrong = dict(told) | {"log": str(log), "reward_formula": {"version": "watched-1"}}
        registry.register(
            connection, slot="artwork", data=registry.load(connection, made.version).encode(),
            window=(None, None), rows=1, settings=wrong, now=simulation.now,
        )  # fmt: skip
    retrain(store, OWN.under(rule), settings, simulation.later())


def test_rewards_of_two_attribution_windows_are_told_apart(
    simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    store, settings = simulation.service.store, simulation.settings
    rule, longer = ARTWORK.reward, replace(settings, attribution_window_seconds=7_200.0)

    def windows(since: dt.datetime | None = None, until: dt.datetime | None = None) -> list[float]:
        with store.read() as connection:
            return [each for _, each in rules.windows(connection, "artwork", since, until)]

    def told(since: dt.datetime | None = None) -> list[Check]:
        checks = ReplaySource.of(store, None, "artwork", since, rule=rule).checks()
        return [check for check in checks if check.name == "attribution_windows"]

    begun = simulation.now
    for _ in range(2):
        simulation.visits(50)
        join_rewards(store, ARTWORK, settings, simulation.later())
    first = settings.attribution_window_seconds or ARTWORK.attribution_window.total_seconds()
    assert windows() == [first]
    assert told() == []
    assert "attribution_window_changed" not in caplog.text
    with store.read() as connection:
        since = rules.since(connection, "artwork", rule)
    simulation.now += dt.timedelta(hours=1)
    between = simulation.now
    simulation.visits(50)
    join_rewards(store, ARTWORK, longer, simulation.now + dt.timedelta(hours=3))
    assert windows() == [first, 7_200.0]
    assert windows(since=between) == [7_200.0]
    assert windows(until=begun + dt.timedelta(seconds=1)) == [first]
    (check,) = told()
    assert (check.status, check.value) == (Verdict.CAUTION, 2)
    assert "what followed counted for 7,200 s of what was shown since" in check.message
    assert f"before that for {first:,.4g} s" in check.message
    assert told(since=between) == []
    assert "attribution_window_changed" in caplog.text
    with store.read() as connection:  # the rule is in force as long as it was
        assert rules.since(connection, "artwork", rule) == since
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE rules SET window_seconds = NULL")  # a release before
    assert windows() == []
    assert told() == []
    simulation.now += dt.timedelta(hours=1)
    begun = simulation.now
    simulation.visits(50)
    join_rewards(store, ARTWORK, longer, simulation.now + dt.timedelta(hours=3))
    with store.read() as connection:  # what was before stays unknown
        ((at, seconds),) = rules.windows(connection, "artwork", None, None)
    assert begun - dt.timedelta(hours=2) < at < begun
    assert seconds == 7_200


def test_a_rule_that_was_changed_and_kept_its_version_is_refused(simulation: Simulation) -> None:
    store, settings = simulation.service.store, simulation.settings
    rule = replace(OWN.reward, version="ours-1", quality=1.0)
    changed = replace(rule, quality=0.5)
    simulation.visits(30)
    assert join_rewards(store, OWN.under(rule), settings, simulation.later()) > 0
    simulation.visits(30)
    with store.write() as connection:  # a file may say 1200, where the default is 1200.0
        connection.exec_driver_sql(
            "UPDATE rules SET formula = replace(formula, '1200.0', '1200') WHERE rule = 'ours-1'"
        )
        connection.exec_driver_sql(  # and a release before may not have known of a field
            "UPDATE rules SET formula = replace(formula, '\"rewatch\":0.0,', '')"
        )
        rules.require_same(connection, "artwork", rule)
    with pytest.raises(InvalidInput, match=r"'ours-1' pays otherwise .* version of its own"):
        join_rewards(store, OWN.under(changed), settings, simulation.later())
    for read in (lambda log: log.blocks(), lambda log: log.again(with_contexts=False).__enter__()):
        with pytest.raises(InvalidInput, match="'ours-1' pays otherwise"):
            list(read(ReplaySource.of(store, None, "artwork", rule=changed)))
    other = replace(changed, version="ours-2")
    assert join_rewards(store, OWN.under(other), settings, simulation.later()) > 0
    assert set(rewards_of(store, other).values()) == {0.0, 0.5}
    simulation.visits(30)
    assert join_rewards(store, OWN.under(rule), settings, simulation.later()) > 0
