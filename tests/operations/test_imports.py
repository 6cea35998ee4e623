"""What comes from other systems: history counts once, and a log does not pass for our own."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from artwork_bandit.domain import Context, Contexts, Title, Variant, VariantStatus
from artwork_bandit.errors import InvalidInput
from artwork_bandit.evaluation.evidence import Method
from artwork_bandit.operations import audience
from artwork_bandit.operations.catalog_import import import_catalog, import_catalog_file
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.guard import demote_if_worse
from artwork_bandit.operations.history_import import (
    import_history,
    read_history,
    read_movielens,
)
from artwork_bandit.operations.imports import Changes
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.judge import judge
from artwork_bandit.operations.log_import import import_log
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.slots.slot import GRADED
from artwork_bandit.store import (
    aggregates,
    catalog,
    cells,
    migrate,
    parquet,
    profiles,
    replay,
    resumming,
)
from artwork_bandit.store import imported as imported_logs
from artwork_bandit.store.engine import Store
from artwork_bandit.store.window import Window
from tests.samples import NOW, fill, patch
from tests.simulated import Simulation
from tests.test_cli import log_table

ARTWORK = SLOTS["artwork"]
HALF_LIFE = dt.timedelta(days=30)
HEAD = "event_id,member_id,title_id,type,occurred_at\n"


def imported(store: Store, path: Path) -> Changes:
    changes = Changes()
    return import_history(
        store, read_history(path, changes), HALF_LIFE, NOW, dry_run=False, changes=changes
    )


def weights(store: Store, *members: str) -> list[dict[str, float]]:
    with store.read() as connection:
        found = profiles.get_many(connection, members)
    return [{g: round(w, 9) for g, w in found[m].at(NOW, HALF_LIFE).items()} for m in members]


def test_a_row_that_a_file_has_twice_counts_once(store: Store, tmp_path: Path) -> None:
    fill(store, 2)
    path = tmp_path / "history.csv"
    at, elsewhere = NOW - dt.timedelta(days=3), dt.timezone(dt.timedelta(hours=5))
    rows = [
        *[f"same,twice,t0,play,{at:%Y-%m-%dT%H:%M:%S}Z"] * 3, f"one,once,t0,play,{at.isoformat()}",
        # Without an id it is what it says, wherever its clock was.
        *(f",zones,t0,play,{when.isoformat()}" for when in (at, at.astimezone(elsewhere))),
    ]  # fmt: skip
    path.write_text(HEAD + "\n".join(rows), "utf-8")
    found = imported(store, path)
    assert (found.events_new, found.events_known) == (3, 3)
    twice, once, zones = weights(store, "twice", "once", "zones")
    assert twice == once == zones != {}
    assert imported(store, path).events_new == 0
    assert weights(store, "twice") == [once]


@pytest.mark.parametrize("dry_run", [False, True])
def test_rows_with_the_id_of_another_are_named_and_not_passed_over(
    store: Store, tmp_path: Path, dry_run: bool
) -> None:
    """Some exports number each member's rows from 1."""
    fill(store, 2)
    path = tmp_path / "history.csv"
    at = f"{NOW - dt.timedelta(days=3):%Y-%m-%dT%H:%M:%S}Z"
    rows = [f"{i},{m},t{i},play,{at}\n" for m in ("u1", "u2") for i in (0, 1)]
    path.write_text(HEAD + "".join(rows) + rows[0], "utf-8")
    if not dry_run:
        path.write_text(HEAD + rows[0], "utf-8")
        assert imported(store, path).events_new == 1
        path.write_text(HEAD + "".join(rows) + rows[0], "utf-8")
    changes = Changes()
    import_history(
        store, read_history(path, changes), HALF_LIFE, NOW, dry_run=dry_run, changes=changes
    )
    new, known = (2, 1) if dry_run else (1, 2)
    assert (changes.events_new, changes.events_known, changes.rejected) == (new, known, 2)
    assert changes.members == 1
    assert changes.problems[0].startswith("play of 't0' by 'u2': event_id '0' is that of another")
    with store.read() as connection:
        assert not profiles.get(connection, "u2").genres


def test_rows_of_one_day_are_rows_though_they_lack_ids(store: Store, tmp_path: Path) -> None:
    """Exports may say the day alone: a viewing is told by the row that tells of most of it."""
    fill(store, 1)
    path = tmp_path / "history.csv"
    day = f"{NOW - dt.timedelta(days=3):%Y-%m-%d}T00:00:00Z"
    rows = [f"m,t0,play,{day},{seconds},3000" for seconds in (60, 3000, 3000, 600)]
    head = "member_id,title_id,type,occurred_at,seconds_watched,duration_seconds\n"
    path.write_text(head + "\n".join(rows) + "\n", "utf-8")
    changes = imported(store, path)
    assert (changes.events_new, changes.events_known) == (3, 1)  # one is there twice
    (found,) = weights(store, "m")
    assert all(w == pytest.approx(2 ** (-3 / 30), abs=0.02) for w in found.values())
    again = imported(store, path)
    assert (again.events_new, again.events_known) == (0, 4)


def test_a_history_of_any_make_tells_of_tastes(store: Store) -> None:
    """Whoever made it: its events need not say who sent them."""
    titles = [
        Title(title_id=name, name=name, genres=(genre,), kind="movie", duration_seconds=5400)
        for name, genre in (("t0", "drama"), ("t1", "comedy"))
    ]
    import_catalog(store, titles, [], NOW, dry_run=False)
    tastes = {"one": {"drama": 1.0}, "other": {"comedy": 1.0}}
    history = audience.invent_history(titles, tastes, 2, NOW, np.random.default_rng(1))
    import_history(store, history, HALF_LIFE, NOW, dry_run=False, changes=Changes())
    assert [set(found) for found in weights(store, "one", "other")] == [{"drama"}, {"comedy"}]


def test_rows_that_cannot_be_read_are_named_and_cost_no_other(store: Store, tmp_path: Path) -> None:
    fill(store, 2)
    columns = {
        "member_id": ["m"] * 4, "title_id": ["t0"] * 4, "type": ["play"] * 4,
        "occurred_at": [dt.date(2020, 1, 1)] * 4,
    }  # fmt: skip
    path = tmp_path / "dates.parquet"
    pa.parquet.write_table(pa.table(columns), path)
    found = imported(store, path)
    assert (found.rejected, found.events_new) == (4, 0)
    assert "occurred_at is datetime.date(2020, 1, 1), no time such as" in found.problems[0]
    times = [dt.datetime(2020, 1, day, tzinfo=dt.UTC) for day in (1, 2, 3)]
    columns = {
        "member_id": ["m"] * 3, "title_id": ["t0"] * 3, "type": ["play"] * 3, "occurred_at": times,
    }  # fmt: skip
    odd = {"seconds_watched": [[1.0], None, None], "local_time": [None, 5, None]}
    for name, values in odd.items():
        pa.parquet.write_table(pa.table(columns | {name: values}), path)
        found = imported(store, path)
        assert (found.rejected, found.events_new + found.events_known) == (1, 2)
    assert "local_time is 5, no time" in found.problems[0]
    parted = tmp_path / "parted.csv"
    head = HEAD.strip() + ",seconds_watched\n"
    row = ",m,t0,play,2020-02-0{}T00:00:00Z,{}\n"
    parted.write_text(
        head + row.format(1, "2,700") + row.format(2, "abc") + row.format(3, "2700"), "utf-8"
    )
    found = imported(store, parted)
    assert (found.rejected, found.events_new) == (2, 1)
    assert "parted.csv, row 1: has more cells than there are columns" in found.problems[0]
    assert "seconds_watched is 'abc', no number of seconds" in found.problems[1]
    parted.write_text("type," + HEAD, "utf-8")
    with pytest.raises(InvalidInput, match="has two columns type"):
        imported(store, parted)
    early = tmp_path / "early.csv"
    early.write_text(
        HEAD + "e,m,t0,play,0001-01-01T00:00:00+14:00\nf,m,t0,play,2020-01-04T00:00:00Z\n", "utf-8"
    )
    found = imported(store, early)
    assert (found.rejected, found.events_new) == (1, 1)


def log_of(simulation: Simulation, path: Path) -> Path:
    """Write the rows of the simulation's store to a file."""
    store = simulation.service.store
    simulation.visits(700)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    parquet.write(path, replay.blocks(store, Window()))
    return path


def test_a_cell_that_no_database_can_keep_is_refused_before_the_first_row(
    simulation: Simulation, tmp_path: Path
) -> None:
    path = log_of(simulation, tmp_path / "log.parquet")
    (block,) = parquet.read(path)
    block.cells[-1] = "li\0ve"
    names = [np.array([f"{x}{i}" for i in range(len(block))], object) for x in "dm"]
    parquet.write(path, [replace(block, decision_ids=names[0], member_ids=names[1])])
    store = simulation.service.store
    with store.read() as connection:
        before = replay.count(connection, Window())
    with pytest.raises(InvalidInput, match="cell"):
        import_log(store, path, simulation.settings, simulation.later(), dry_run=False)
    with store.read() as connection:
        assert replay.count(connection, Window()) == before


@pytest.mark.parametrize(
    ("movies", "ratings"),
    [
        ("id,title,genres\n1,A,Comedy\n", "userId,movieId,rating,timestamp\n1,1,4,1\n"),
        ("movieId,title,genres\n1,A\n", "userId,movieId,rating,timestamp\n1,1,4,1\n"),
        ("movieId,title,genres\n1,A,Comedy\n", "userId,movieId,rating,timestamp\n1,1,4,x\n"),
        ("movieId,title,genres\n1,A,Comedy\n", "userId,movieId,rating\n1,1,4\n"),
        ("movieId,title,genres\n1,A,Comedy\n", "userId,movieId,rating,timestamp\n1,1,nan,1\n"),
    ],
)
def test_files_that_are_not_of_movielens_are_refused_in_words(
    tmp_path: Path, movies: str, ratings: str
) -> None:
    (tmp_path / "movies.csv").write_text(movies, "utf-8")
    (tmp_path / "ratings.csv").write_text(ratings, "utf-8")
    with pytest.raises(InvalidInput, match="is no file of MovieLens: every line of"):
        list(read_movielens(tmp_path, NOW)[1])


def test_a_file_that_was_cut_off_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "history.csv.gz"
    rows = f"m,t0,play,{NOW:%Y-%m-%dT%H:%M:%S}Z\n" * 1_000
    path.write_bytes(gzip.compress((HEAD[len("event_id,") :] + rows).encode())[:100])
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(read_history(path, Changes()))


def test_a_log_of_the_future_is_refused(simulation: Simulation, tmp_path: Path) -> None:
    path = log_of(simulation, tmp_path / "log.parquet")
    (block,) = parquet.read(path)
    at = block.occurred_at.copy()
    at[7] += 10**14
    later = tmp_path / "later.parquet"
    parquet.write(later, [replace(block, occurred_at=at)])
    store, settings = simulation.service.store, simulation.settings
    with pytest.raises(InvalidInput, match="in the future; a log is of what has happened"):
        import_log(store, later, settings, simulation.later(), dry_run=False)


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (Context(genres={"Drama": 1e308}), "-1000000.0|<= 1000000.0"),
        (Context(hour=99), "<= 23"),
        (Context(device="x" * 101), "length <= 100"),
        (Context(played={"t0": -2.0}), ">= 0"),
    ],
)
def test_contexts_that_no_client_could_send_are_refused(
    simulation: Simulation, tmp_path: Path, context: Context, said: str
) -> None:
    path = log_of(simulation, tmp_path / "log.parquet")
    (block,) = parquet.read(path)
    all_of = list(block.contexts)
    all_of[5] = context
    ids = np.array([f"x{i}" for i in range(len(block))], object)
    parquet.write(path, [replace(block, contexts=Contexts.of(all_of), decision_ids=ids)])
    store, settings = simulation.service.store, simulation.settings
    with pytest.raises(InvalidInput, match=f"decision 'x5': context: .*({said})"):
        import_log(store, path, settings, simulation.later(), dry_run=False)


@pytest.mark.parametrize("titles_first", [False, True])
def test_what_a_log_shows_is_known_once_a_catalogue_says_it(
    store: Store, tmp_path: Path, *, titles_first: bool
) -> None:
    """Whichever of both comes first; a later picture in its place is another."""
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(log_table(50), path)
    import_log(store, path, Settings(), NOW, dry_run=False)
    title = Title(title_id="t", name="T", genres=("Drama",))
    told = [
        Variant(variant_id=v, title_id="t", slot="artwork", uri=f"/{v}", features={"genre": v})
        for v in "abc"
    ]
    if titles_first:
        import_catalog(store, [title], [], NOW, dry_run=False)
    import_catalog(store, [title], told, NOW, dry_run=False)

    def shown() -> list[tuple[str, dict[str, object], tuple[str, ...] | None]]:
        source = ReplaySource.of(store, None, "artwork")
        (action_set,) = next(iter(source.blocks())).action_sets
        (found,) = source.lookup([action_set])
        return [(v.variant_id, dict(v.features), v.title_genres) for v in found]

    assert shown() == [(v, {"genre": v}, ("Drama",)) for v in "abc"]
    with store.read() as connection:
        now = catalog.list_variants(connection, "t")
        assert [(v.revision, v.status) for v in now] == [(1, VariantStatus.ACTIVE)] * 3
    replaced = [replace(v, uri=f"{v.uri}-2", features={"genre": "other"}) for v in told]
    import_catalog(store, [title], replaced, NOW, dry_run=False)
    assert shown() == [(v, {"genre": v}, ("Drama",)) for v in "abc"]


def test_what_was_shown_here_before_a_catalogue_says_what_it_is_stays_as_it_was(
    store: Store, tmp_path: Path
) -> None:
    """Decisions are derived again from the revision that they showed."""
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(log_table(50), path)
    import_log(store, path, Settings(), NOW, dry_run=False)
    for status in (VariantStatus.ACTIVE, VariantStatus.RETIRED):
        with store.write() as connection:
            was = catalog.get_variant(connection, "t", "a")
            Editor(connection=connection, author="Ann", now=NOW).put_variant(
                replace(was, status=status)
            )
    told = [
        Variant(variant_id=v, title_id="t", slot="artwork", uri=f"/{v}", features={"genre": v})
        for v in "abc"
    ]
    import_catalog(store, [Title(title_id="t", name="T")], told, NOW, dry_run=False)
    with store.read() as connection:
        found = catalog.list_variants(connection, "t")
        first = catalog.revisions(connection, [was.revision_id])[was.revision_id]
    assert [(v.variant_id, v.revision) for v in found] == [("a", 2), ("b", 1), ("c", 1)]
    assert (first.uri, dict(first.features)) == ("", {})


def meanwhile(monkeypatch: pytest.MonkeyPatch, done: Callable[[], object]) -> None:
    """Have something done between an import's look at the catalogue and its writing."""
    look = imported_logs._missing

    def looks(*arguments: Any) -> Any:
        found = look(*arguments)
        monkeypatch.setattr(imported_logs, "_missing", look)
        done()
        return found

    monkeypatch.setattr(imported_logs, "_missing", looks)


def test_a_log_that_is_imported_twice_at_once_is_taken_in_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(log_table(50), path)
    other: list[int] = []
    meanwhile(
        monkeypatch,
        lambda: other.append(import_log(store, path, Settings(), NOW, dry_run=False).rows),
    )
    done = import_log(store, path, Settings(), NOW, dry_run=False)
    assert (other, done.rows, done.duplicates) == ([50], 0, 50)
    assert ReplaySource.of(store, None, "artwork").rows() == 50


def test_a_variant_that_somebody_adds_meanwhile_to_another_title_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(log_table(50), path)
    theirs = Variant(variant_id="a", title_id="u", slot="artwork", uri="/theirs.jpg")
    title = Title(title_id="u", name="U")
    meanwhile(monkeypatch, lambda: import_catalog(store, [title], [theirs], NOW, dry_run=False))
    with pytest.raises(InvalidInput, match="'a' is of title 'u' in slot 'artwork' and of 't'"):
        import_log(store, path, Settings(), NOW, dry_run=False)
    assert ReplaySource.of(store, None, "artwork").rows() == 0


def test_a_variant_that_somebody_adds_meanwhile_stays_as_they_want_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(log_table(50), path)
    theirs = Variant(
        variant_id="a", title_id="t", slot="artwork", uri="/theirs.jpg", is_default=True
    )
    title = Title(title_id="t", name="Their title")
    meanwhile(monkeypatch, lambda: import_catalog(store, [title], [theirs], NOW, dry_run=False))
    import_log(store, path, Settings(), NOW, dry_run=False)
    with store.read() as connection:
        stays = catalog.get_variant(connection, "t", "a")
        assert (stays.uri, stays.status) == ("/theirs.jpg", VariantStatus.ACTIVE)
        assert catalog.get_title(connection, "t").name == "Their title"
        assert catalog.get_variant(connection, "t", "b").status is VariantStatus.RETIRED


def test_imported_rewards_that_the_rule_in_force_never_gives_are_left_out(
    simulation: Simulation, tmp_path: Path
) -> None:
    path = log_of(simulation, tmp_path / "log.parquet")
    (block,) = parquet.read(path)
    names = [np.array([f"{x}{i}" for i in range(len(block))], object) for x in "dm"]
    reward = np.where(np.arange(len(block)) % 4, block.reward, -1.0)
    others = replace(block, decision_ids=names[0], member_ids=names[1], reward=reward)
    parquet.write(path, [others])
    wide = tmp_path / "wide.toml"
    wide.write_text('version = "wide-1"\nabandon = -1.0\nbounds = [-1.0, 1.0]\n')
    store, settings = simulation.service.store, simulation.settings
    with_wide = replace(settings, reward_rule=str(wide))
    import_log(store, path, with_wide, simulation.later(), dry_run=False)
    source = ReplaySource.of(store, None, "artwork", rule=ARTWORK.reward)
    report, _ = judge(source, ["uniform"])
    said = {check.name: check.message for check in report.checks}
    # All of them: those alone that earn less would say of their variants that they earn more.
    left_out = f"{len(block):,} imported rows are left out"
    assert said["imported_left_out"].startswith(left_out)
    assert report.rows == len(block)
    made = retrain(store, ARTWORK, settings, simulation.later())
    assert left_out in made.reason
    wider = (-1.0, 1.0)
    source = ReplaySource.of(store, None, "artwork", rule=ARTWORK.reward, bounds=wider)
    report, _ = judge(source, ["uniform"], method=Method(bounds=wider))
    assert report.rows == 2 * len(block)


def test_one_odd_context_keeps_nobody_from_training(simulation: Simulation, tmp_path: Path) -> None:
    """As an earlier release has taken it in, or as it stands in a file."""
    path = log_of(simulation, tmp_path / "log.parquet")
    (block,) = parquet.read(path)
    all_of = list(block.contexts)
    all_of[5] = Context(genres=dict.fromkeys(all_of[5].genres, 1e308), played={"t0": 1e308})
    odd = replace(block, contexts=Contexts.of(all_of))
    parquet.write(path, [odd])
    store, settings = simulation.service.store, simulation.settings
    made = retrain(store, ARTWORK, settings, simulation.later(), log=path)
    assert made.metrics["difference"] is not None


def test_cells_are_of_members_that_were_drawn_into_them_here(
    simulation: Simulation, tmp_path: Path
) -> None:
    """A log in which another system's baseline does splendidly lets no model go."""
    store, settings = simulation.service.store, simulation.settings
    with store.write() as connection:
        cells.set_shares(connection, {"explore": 0.5, "baseline": 0.5})
    path = log_of(simulation, tmp_path / "log.parquet")
    (block,) = parquet.read(path)
    splendid = replace(
        block, reward=np.ones(len(block)), cells=np.full(len(block), "baseline", object),
        decision_ids=np.array([f"x{i}" for i in range(len(block))], object),
        member_ids=np.array([f"y{i}" for i in range(len(block))], object),
    )  # fmt: skip
    retrain(store, ARTWORK, settings, simulation.later())
    with store.write() as connection:
        cells.set_shares(connection, {"explore": 0.1, "baseline": 0.4, "live": 0.5})
    simulation.service.state.refresh()
    simulation.now += dt.timedelta(days=30)
    simulation.visits(300)
    join_rewards(store, ARTWORK, settings, simulation.later())
    with store.read() as connection:
        before = aggregates.by_cell(connection, "artwork", None, None)
        members = aggregates.members_by_cell(connection, "artwork")
    at = np.full(len(block), int(simulation.now.timestamp() * 1e6))
    parquet.write(path, [replace(splendid, occurred_at=at)])
    found = import_log(store, path, settings, simulation.later(), dry_run=False)
    assert found.rows == len(block)
    with store.read() as connection:
        for since in (None, simulation.now - dt.timedelta(minutes=1)):
            after = aggregates.by_cell(connection, "artwork", since, None)
            assert after["imported"].units.sum() == len(block)
        whole = aggregates.by_cell(connection, "artwork", None, None)
        assert {c: n.units.sum() for c, n in before.items()} == {
            c: n.units.sum() for c, n in whole.items() if c != "imported"
        }
        assert aggregates.members_by_cell(connection, "artwork") == members
        assert resumming.wrong(connection) == 0
    assert demote_if_worse(store, ARTWORK, simulation.later()) is None


def test_what_looks_like_a_quality_play_hangs_on_the_rule(
    simulation: Simulation, tmp_path: Path
) -> None:
    path = log_of(simulation, tmp_path / "log.parquet")
    (block,) = parquet.read(path)
    reward = np.resize([0.05, 0.6, 0.0, 0.85], len(block))
    ids = np.array([f"x{i}" for i in range(len(block))], object)
    parquet.write(path, [replace(block, reward=reward, decision_ids=ids)], GRADED)
    store = simulation.service.store
    with store.read() as connection:
        before = aggregates.by_cell(connection, "artwork", None, None).get("imported")
    assert before is None
    settings = replace(simulation.settings, reward_rule="graded-1")
    import_log(store, path, settings, simulation.later(), dry_run=False)
    with store.read() as connection:
        after = aggregates.by_cell(connection, "artwork", None, None)["imported"]
    assert after.quality_plays.sum() == (reward >= 0.6).sum()


def test_what_a_log_named_first_is_served_once_a_catalogue_brings_it(
    simulation: Simulation, tmp_path: Path
) -> None:
    """But what somebody paused stays so."""
    path = log_of(simulation, tmp_path / "log.parquet")
    store = Store(f"sqlite:///{tmp_path}/new.db")
    migrate.migrate(store)
    settings, later = simulation.settings, simulation.later()
    found = import_log(store, path, settings, later, dry_run=False)
    with store.read() as connection:
        named = catalog.list_variants(connection)
    assert len(named) == found.new_variants > 0
    assert {v.status for v in named} == {VariantStatus.RETIRED}
    lines = [
        {"title_id": t, "name": t, "variants": [
            {"variant_id": v.variant_id, "uri": "/x.svg", "is_default": v.variant_id.endswith("a0")}
            for v in named if v.title_id == t
        ]}
        for t in sorted({v.title_id for v in named})
    ]  # fmt: skip
    file = tmp_path / "catalog.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):
        assert import_catalog_file(store, file, later, dry_run=False).rejected == 0
        with store.read() as connection:
            statuses = {v.variant_id: v.status for v in catalog.list_variants(connection)}
        paused = {v for v, s in statuses.items() if s is not VariantStatus.ACTIVE}
        assert paused <= {named[0].variant_id}
        with store.write() as connection:
            fields = {"status": VariantStatus.PAUSED}
            patch(connection, named[0].title_id, named[0].variant_id, fields, NOW)
    assert paused
    store.close()
