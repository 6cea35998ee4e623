"""Variants: immutable revisions, eligibility in place, one default, ids of one title."""

import datetime as dt
from dataclasses import replace

import pytest

from artwork_bandit.domain import Title, Variant, VariantStatus
from artwork_bandit.errors import Conflict, InvalidInput, NotFound
from artwork_bandit.store import catalog, generations
from artwork_bandit.store.engine import Store
from tests.samples import NOW, fill, patch


def test_new_content_is_a_new_revision_and_the_old_one_stays(store: Store) -> None:
    before = fill(store)[0]
    changed = replace(before, features={"genre": "Docuseries"})
    with store.write() as connection:
        catalog.put_variants(connection, [changed], NOW)
    with store.read() as connection:
        after = catalog.get_variant(connection, before.title_id, before.variant_id)
        old = catalog.revisions(connection, [before.revision_id])[before.revision_id]
    assert after.revision == 2
    assert after.revision_id != before.revision_id
    assert old.features == before.features


def test_other_genres_of_a_title_are_new_revisions_of_its_variants(store: Store) -> None:
    before = fill(store)[0]
    with store.write() as connection:
        title = catalog.get_title(connection, before.title_id)
        assert before.title_genres == title.genres
        catalog.put_titles(connection, [replace(title, name="another name")], NOW)
        assert catalog.get_variant(connection, title.title_id, before.variant_id) == before
        catalog.put_titles(connection, [replace(title, genres=("Docuseries",))], NOW)
    with store.read() as connection:
        after = catalog.get_variant(connection, before.title_id, before.variant_id)
        old = catalog.revisions(connection, [before.revision_id])[before.revision_id]
        generation = catalog.newest_change(connection)
        assert catalog.list_variants(connection, changed_after=generation - 1)
    assert (after.revision, after.title_genres) == (2, ("Docuseries",))
    assert (old.revision, old.title_genres) == (1, before.title_genres)


def test_eligibility_changes_without_a_revision(store: Store) -> None:
    before = fill(store)[1]
    changes = {"status": VariantStatus.PAUSED, "countries": ("US", "DE")}
    with store.write() as connection:
        patch(connection, before.title_id, before.variant_id, changes, NOW)
    with store.read() as connection:
        after = catalog.get_variant(connection, before.title_id, before.variant_id)
    assert after == replace(before, status=VariantStatus.PAUSED, countries=("US", "DE"))


def test_a_new_default_takes_the_place_of_the_old(store: Store) -> None:
    variants = fill(store)
    with store.write() as connection:
        patch(connection, "t0", "t0-a2", {"is_default": True}, NOW)
    with store.read() as connection:
        found = catalog.list_variants(connection, "t0")
    assert [v.variant_id for v in found if v.is_default] == ["t0-a2"]
    assert len(variants) == 12


def test_changes_move_the_generation(store: Store) -> None:
    fill(store)
    with store.read() as connection:
        before = generations.read(connection)["catalog"]
    with store.write() as connection:
        patch(connection, "t0", "t0-a2", {"is_default": True}, NOW)
    with store.read() as connection:
        assert generations.read(connection)["catalog"] > before


def test_variants_that_are_put_again_as_they_are_change_nothing(store: Store) -> None:
    """Every server would read them again."""
    with store.write() as connection:
        titles = [Title(title_id="t0", name="T", genres=("a",))]
        catalog.put_titles(connection, titles, NOW)
        made = [
            Variant(variant_id=f"t0-a{i}", title_id="t0", slot="artwork", uri=f"/{i}",
                    is_default=i == 0)
            for i in range(3)
        ]  # fmt: skip
        catalog.put_variants(connection, made, NOW)
        before = generations.read(connection)["catalog"]
        again = [made[0], replace(made[1], features={"faces": 2}), made[2]]
        catalog.put_variants(connection, again, NOW)
        changed = catalog.list_variants(connection, changed_after=before)
    assert [v.variant_id for v in changed] == ["t0-a1"]


def test_rules_are_kept(store: Store) -> None:
    first = fill(store)[0]
    with pytest.raises(NotFound), store.write() as connection:
        catalog.put_variants(connection, [replace(first, variant_id="n", title_id="no")], NOW)
    with pytest.raises(Conflict, match="belongs to title"), store.write() as connection:
        catalog.put_variants(connection, [replace(first, title_id="t1")], NOW)
    dates = {"starts_at": NOW, "ends_at": NOW - dt.timedelta(days=1)}
    with pytest.raises(InvalidInput, match="starts_at"), store.write() as connection:
        patch(connection, "t0", first.variant_id, dates, NOW)
