"""Changes by hand: recorded, undone, and refused where undoing would undo somebody else's."""

import datetime as dt

import pytest

from artwork_bandit.domain import Variant, VariantStatus
from artwork_bandit.errors import BrokenModel, Conflict, InvalidInput, NotFound
from artwork_bandit.operations.editing import Editor
from artwork_bandit.store import catalog, changes, notes, registry, summaries
from artwork_bandit.store.engine import Store
from tests.policies.test_compiled import made
from tests.samples import NOW, fill

HOUR = dt.timedelta(hours=1)


def edit(store: Store, what: str, *arguments: object, who: str = "Ann"):  # type: ignore[no-untyped-def]
    with store.write() as connection:
        return getattr(Editor(connection=connection, author=who, now=NOW), what)(*arguments)


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
    edit(store, "undo", change)
    assert not variant(store, "t0-a2").is_default


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
    edit(store, "undo", removed)
    with store.read() as connection:
        assert [n.text for n in notes.of_title(connection, "artwork", "t1")] == ["a premiere"]
    with pytest.raises(InvalidInput, match="1 to 200"):
        edit(store, "write_note", "artwork", "t1", 20_000, "  ")
    with pytest.raises(NotFound):
        edit(store, "write_note", "artwork", "nope", 20_000, "x")


def model(store: Store) -> int:
    with store.write() as connection:
        return registry.register(
            connection, slot="artwork", data=made().encode(), window=(None, None), rows=1,
            settings={}, now=NOW,
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
    back = edit(store, "roll_back", "artwork")
    assert live() is None
    edit(store, "undo", back)
    assert live() == first
    with store.read() as connection:
        assert registry.get(connection, first).reason.endswith("by Ann")
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
