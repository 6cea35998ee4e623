"""Changes by hand: recorded, undone, and refused where undoing would undo somebody else's."""

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from artwork_bandit.domain import CellShare, Variant, VariantStatus
from artwork_bandit.errors import BrokenModel, Conflict, InvalidInput, NotFound
from artwork_bandit.operations.editing import Editor, fingerprint
from artwork_bandit.policies.cells import BUCKETS
from artwork_bandit.store import catalog, cells, changes, notes, pauses, registry, summaries
from artwork_bandit.store.engine import Store
from tests.policies.test_compiled import made
from tests.samples import NOW, fill, small_catalog

HOUR = dt.timedelta(hours=1)


def edit(store: Store, what: str, *arguments: object, who: str = "Ann", **more: object):  # type: ignore[no-untyped-def]
    with store.write() as connection:
        return getattr(Editor(connection=connection, author=who, now=NOW), what)(*arguments, **more)


def variant(store: Store, variant_id: str = "t0-a1") -> Variant:
    with store.read() as connection:
        return catalog.get_variant(connection, variant_id[:2], variant_id)


def test_a_change_is_recorded_with_what_was_before_and_undone(store: Store) -> None:
    fill(store)
    before = variant(store)
    fields = {"status": VariantStatus.PAUSED, "ends_at": NOW + HOUR, "countries": ("US",),
              "features": {"genre": "TV Horror", "faces": [1, 2]}}  # fmt: skip
    change = edit(store, "patch_variant", "t0", "t0-a1", fields)
    with store.read() as connection:
        found = changes.get(connection, change)
        assert catalog.by_ids(connection, ["t0-a1"])[0].revision == 2
        assert "t0" in summaries.stale(connection, "artwork", 9)
    assert (found.author, found.action, found.title_id) == ("Ann", "changed", "t0")
    assert found.before == {
        "status": "active", "ends_at": None, "countries": None,
        "features": {"genre": "TV Dramas", "composition": "pair"},
    }  # fmt: skip
    undone = edit(store, "undo", change, who="Bob")
    after = variant(store)
    assert (after.status, after.ends_at, after.countries, after.features) == (
        before.status, None, None, before.features,
    )  # fmt: skip
    with store.read() as connection:
        listed = changes.latest(connection, title_id="t0")
    assert [(c.change_id, c.undoes, c.undone) for c in listed] == [
        (undone, change, False), (change, None, True),
    ]  # fmt: skip
    with pytest.raises(Conflict, match="undone already"):
        edit(store, "undo", change)
    edit(store, "undo", undone)  # and back again
    assert variant(store).status is VariantStatus.PAUSED
    assert variant(store).ends_at == NOW + HOUR


def test_the_same_again_is_no_change(store: Store) -> None:
    fill(store)
    assert edit(store, "patch_variant", "t0", "t0-a1", {"status": VariantStatus.ACTIVE}) is None
    with store.read() as connection:
        assert changes.latest(connection) == []


def test_what_was_added_is_retired_when_undone(store: Store) -> None:
    fill(store)
    made = Variant(variant_id="t0-new", title_id="t0", slot="artwork", uri="/new.svg")
    change = edit(store, "put_variant", made)
    edit(store, "undo", change)
    assert variant(store, "t0-new").status is VariantStatus.RETIRED


def test_a_later_change_of_the_same_field_has_to_be_undone_first(store: Store) -> None:
    fill(store)
    first = edit(store, "patch_variant", "t0", "t0-a1", {"name": "one"})
    other = edit(store, "patch_variant", "t0", "t0-a1", {"status": VariantStatus.PAUSED})
    second = edit(store, "patch_variant", "t0", "t0-a1", {"name": "two"})
    with pytest.raises(Conflict, match="undo the later change first"):
        edit(store, "undo", first)
    edit(store, "undo", other)  # another field: nobody's business
    edit(store, "undo", second)
    edit(store, "undo", first)
    assert variant(store).name is None


def test_a_new_default_and_its_undoing(store: Store) -> None:
    fill(store)
    change = edit(store, "patch_variant", "t0", "t0-a2", {"is_default": True})
    assert variant(store, "t0-a2").is_default
    assert not variant(store, "t0-a0").is_default
    undone = edit(store, "undo", change)
    assert not variant(store, "t0-a2").is_default
    assert variant(store, "t0-a0").is_default  # a title is never left without one
    edit(store, "undo", undone)
    assert variant(store, "t0-a2").is_default
    made = Variant(variant_id="t0-n", title_id="t0", slot="artwork", uri="/n.svg", is_default=True)
    edit(store, "undo", edit(store, "put_variant", made))
    assert variant(store, "t0-a2").is_default


def test_a_form_that_is_out_of_date_is_refused(store: Store) -> None:
    fill(store)
    seen = fingerprint(variant(store))
    edit(store, "patch_variant", "t0", "t0-a1", {"status": VariantStatus.PAUSED}, None, seen)
    with pytest.raises(Conflict, match="changed by somebody else"):
        edit(store, "patch_variant", "t0", "t0-a1", {"name": "x"}, None, seen)
    assert variant(store).status is VariantStatus.PAUSED


def test_many_who_change_the_same_title_at_once_wait_for_each_other(postgres_url: str) -> None:
    store = Store(postgres_url)
    fill(store)
    titles, _ = small_catalog(1)
    stop, done, errors = time.monotonic() + 2, Counter(), []

    def until_stopped(name: str, work: Callable[[int], object]) -> None:
        try:
            while time.monotonic() < stop:
                work(done[name])
                done[name] += 1
        except Exception as error:
            errors.append((name, error))

    def other_genres(i: int) -> None:
        with store.write() as connection:
            genres = ("TV Horror", f"Genre {i % 2}")
            catalog.put_titles(connection, [replace(titles[0], genres=genres)], NOW)

    work = {
        "names": lambda i: edit(store, "patch_variant", "t0", "t0-a1", {"name": f"name {i}"}),
        "genres": other_genres,
        "default one": lambda i: edit(
            store, "patch_variant", "t0", "t0-a2", {"is_default": i % 2 == 0}
        ),
        "default two": lambda i: edit(
            store, "patch_variant", "t0", "t0-a3", {"is_default": i % 2 == 0}
        ),
        "pauses": lambda i: edit(store, "pause_exploration", "t0", i % 2 == 0),
    }
    threads = [threading.Thread(target=until_stopped, args=each) for each in work.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert errors == []
    assert min(done[name] for name in work) >= 3


def test_exploration_and_notes(store: Store) -> None:
    fill(store)
    change = edit(store, "pause_exploration", "t1", True)
    assert edit(store, "pause_exploration", "t1", True) is None
    edit(store, "undo", change)
    with store.read() as connection:
        assert not catalog.get_title(connection, "t1").exploration_paused
    written = edit(store, "write_note", "artwork", "t1", 20_000, " a premiere ")
    everywhere = edit(store, "write_note", "artwork", None, 19_999, "an outage")
    with store.read() as connection:
        assert [n.text for n in notes.of_title(connection, "artwork", "t1")] == [
            "an outage", "a premiere",
        ]  # fmt: skip
        assert [n.text for n in notes.of_title(connection, "artwork", "t0")] == ["an outage"]
    removed = edit(store, "undo", written)
    edit(store, "undo", everywhere)
    restored = edit(store, "undo", removed)
    with store.read() as connection:
        assert [n.text for n in notes.of_title(connection, "artwork", "t1")] == ["a premiere"]
    edit(store, "undo", restored)
    with store.read() as connection:
        assert notes.of_title(connection, "artwork", "t1") == []
    with pytest.raises(InvalidInput, match="1 to 200"):
        edit(store, "write_note", "artwork", "t1", 20_000, "  ")
    with pytest.raises(NotFound):
        edit(store, "write_note", "artwork", "nope", 20_000, "x")


def model(store: Store, status: str = "candidate") -> int:
    with store.write() as connection:
        return registry.register(
            connection, slot="artwork", data=made().encode(), window=(None, None), rows=1,
            settings={}, now=NOW, status=status, reason="judged",
        )  # fmt: skip


def test_models_are_promoted_rolled_back_and_both_undone(store: Store) -> None:
    fill(store)
    first, second = model(store), model(store)

    def live() -> int | None:
        with store.read() as connection:
            found = registry.live(connection, "artwork")
        return None if found is None else found.version

    one = edit(store, "promote", first)
    two = edit(store, "promote", second)
    with pytest.raises(Conflict, match="live already"):
        edit(store, "promote", second)
    with pytest.raises(Conflict, match="another model is live"):
        edit(store, "undo", one)
    edit(store, "undo", two)
    assert live() == first
    edit(store, "challenge", second)
    with pytest.raises(Conflict, match=f"model {first} is live by now"):
        edit(store, "roll_back", "artwork", seen=second)
    back = edit(store, "roll_back", "artwork", seen=first)
    assert live() is None
    edit(store, "undo", back)
    assert live() == first
    with store.read() as connection:  # who was let go with the roll-back
        assert registry.challenger(connection, "artwork").version == second
    with store.read() as connection:
        assert registry.last_promotion(connection, "artwork").reason.endswith("by Ann")
        assert registry.get(connection, first).reason == "judged"
    with pytest.raises(NotFound):
        edit(store, "undo", 999)
    with store.write() as connection:
        broken = registry.register(
            connection, slot="artwork", data=b"x", window=(None, None), rows=1, settings={},
            now=NOW,
        )  # fmt: skip
    with pytest.raises(BrokenModel):
        edit(store, "promote", broken)
    assert live() == first


def test_undoing_a_promotion_gives_the_models_their_places_back(store: Store) -> None:
    fill(store)
    live, rejected, challenger = model(store), model(store, "rejected"), model(store)
    edit(store, "promote", live)
    with store.write() as connection:
        registry.challenge(connection, challenger, NOW)
    change = edit(store, "promote", rejected)
    with store.read() as connection:
        assert registry.challenger(connection, "artwork") is None
    edit(store, "undo", change)
    with store.read() as connection:
        assert registry.live(connection, "artwork").version == live
        assert registry.challenger(connection, "artwork").version == challenger
        found = registry.get(connection, rejected)
    assert (found.status, found.reason) == ("rejected", "judged")


def test_of_two_who_set_the_cells_together_the_later_knows_of_the_first(store: Store) -> None:
    fill(store)
    shares = [{"live": 1.0}, {"challenger": 1.0}]
    made: list[int | None] = []
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=NOW)
        other = threading.Thread(target=lambda: made.append(edit(store, "set_cells", shares[1])))
        made.append(editor.set_cells(shares[0]))
        other.start()
        other.join(timeout=0.5)  # it waits
    other.join(timeout=30)
    assert {c.name: c.buckets for c in _cells(store)} == {"challenger": BUCKETS}
    with store.read() as connection:
        _, later = (changes.get(connection, change) for change in made)
    assert later.before == {"live": 1.0}


def test_cells_pauses_and_challengers_are_recorded_and_undone(store: Store) -> None:
    fill(store)
    first, second = model(store), model(store)
    before = {c.name: c.buckets for c in _cells(store)}
    shares = {"explore": 0.2, "baseline": 0.1, "live": 0.7}
    set_at = edit(store, "set_cells", shares)
    assert edit(store, "set_cells", shares) is None
    with store.read() as connection:
        assert changes.last(connection, "cells set").changed_at == NOW
        assert changes.last(connection, "never done") is None
    edit(store, "undo", set_at)
    assert {c.name: c.buckets for c in _cells(store)} == before
    with pytest.raises(InvalidInput):
        edit(store, "set_cells", {"explore": 2.0})

    paused = edit(store, "switch", "artwork", True, "a bad day")
    assert edit(store, "switch", "artwork", True, "still") is None
    edit(store, "undo", paused)
    with store.read() as connection:
        assert not pauses.read(connection)

    edit(store, "promote", first)
    with pytest.raises(Conflict, match="itself"):
        edit(store, "challenge", first)
    named = edit(store, "challenge", second)
    assert edit(store, "challenge", second) is None
    edit(store, "undo", named)
    with store.read() as connection:
        assert registry.challenger(connection, "artwork") is None
    with pytest.raises(Conflict, match="undone already"):
        edit(store, "undo", named)
    edit(store, "challenge", second)
    third = model(store)
    again = edit(store, "challenge", third)
    edit(store, "undo", again)
    with store.read() as connection:
        challenger = registry.challenger(connection, "artwork")
        actions = [c.action for c in changes.latest(connection)]
    assert challenger is not None
    assert challenger.version == second
    assert actions.count("challenger named") == 5


def test_undoing_that_a_challenger_was_named_ends_no_later_test(store: Store) -> None:
    fill(store)
    first, second, third = (model(store) for _ in range(3))
    edit(store, "challenge", first)
    named = edit(store, "challenge", second)
    edit(store, "challenge", third, who="Bob")
    with pytest.raises(Conflict, match="another model challenges by now"):
        edit(store, "undo", named)
    with store.read() as connection:
        found = registry.challenger(connection, "artwork")
    assert found is not None
    assert found.version == third


def _cells(store: Store) -> tuple[CellShare, ...]:
    with store.read() as connection:
        return cells.read(connection)
