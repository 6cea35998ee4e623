"""Titles and variants. A change of content is a new revision; eligibility changes in place.

A revision holds all that a model sees of a variant, the genres of its title included: other genres
of a title are new revisions of its variants, so that a logged decision can be made again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from artwork_bandit.domain import Title, Variant, VariantStatus
from artwork_bandit.errors import Conflict, InvalidInput, NotFound
from artwork_bandit.store import generations, summaries
from artwork_bandit.store.engine import Connection, chunks, upsert
from artwork_bandit.store.tables import changes, titles, variant_revisions, variants

_VARIANT_COLUMNS = (
    variants, variant_revisions.c.revision_id, variant_revisions.c.name, variant_revisions.c.uri,
    variant_revisions.c.features, variant_revisions.c.title_genres,
)  # fmt: skip
_CURRENT = variants.join(
    variant_revisions,
    sa.and_(
        variants.c.variant_id == variant_revisions.c.variant_id,
        variants.c.revision == variant_revisions.c.revision,
    ),
)
ELIGIBILITY = ("status", "starts_at", "ends_at", "countries", "languages", "maturity", "is_default")
"""Fields of a variant that change without a new revision."""


def lock(connection: Connection) -> int:
    """Let no other writer change the catalogue until this transaction has ended; return the
    generation it makes.

    The first statement of whoever writes, so that nobody waits for each other, and what is read
    after it is the latest.
    """
    return generations.bump(connection, "catalog")


def put_titles(connection: Connection, values: Iterable[Title], now: dt.datetime) -> None:
    """Insert or replace titles; `exploration_paused` stays as it is (`pause_exploration`)."""
    put(connection, values, (), now)


def put(
    connection: Connection, values: Iterable[Title], of_titles: Iterable[Variant],
    now: dt.datetime,
) -> None:  # fmt: skip
    """Put titles and variants, also of other titles (`put_titles`, `put_variants`), all at once."""
    lock(connection)
    other = {v.variant_id: v for v in _put_titles(connection, list(values), now)}
    given = {v.variant_id: v for v in of_titles}
    if wanted := list((other | given).values()):
        put_variants(connection, wanted, now)


def _put_titles(connection: Connection, values: list[Title], now: dt.datetime) -> list[Variant]:
    """Insert or replace titles; return the variants that have other genres now."""
    rows = [
        {
            "title_id": t.title_id, "name": t.name, "genres": list(t.genres), "kind": t.kind,
            "release_year": t.release_year, "maturity": t.maturity,
            "duration_seconds": t.duration_seconds, "updated_at": now,
        }
        for t in values
    ]  # fmt: skip
    upsert(connection, titles, rows, "title_id")
    # Against the revisions, not the titles: a server of a release before changes only these.
    genres = {t.title_id: t.genres for t in values}
    other: set[str] = set()
    for some in chunks(sorted(genres)):
        query = sa.select(variants.c.title_id, variant_revisions.c.title_genres)
        query = query.select_from(_CURRENT).where(variants.c.title_id.in_(some))
        for row in connection.execute(query):
            if tuple(row.title_genres or ()) != genres[row.title_id]:
                other.add(row.title_id)
    return [v for title_id in sorted(other) for v in list_variants(connection, title_id)]


def pause_exploration(
    connection: Connection, title_id: str, paused: bool, now: dt.datetime
) -> Title:
    """Stop (or start again) all random draws for one title; raises NotFound."""
    lock(connection)
    values = {"exploration_paused": paused, "updated_at": now}
    connection.execute(sa.update(titles).where(titles.c.title_id == title_id).values(values))
    generations.bump(connection, "titles")
    return get_title(connection, title_id)


def paused_titles(connection: Connection) -> frozenset[str]:
    """Return the titles whose exploration is paused."""
    query = sa.select(titles.c.title_id).where(titles.c.exploration_paused)
    return frozenset(connection.execute(query).scalars())


def require_order(variant: Variant) -> None:
    """Raise InvalidInput if a variant's dates are not in order."""
    if variant.starts_at and variant.ends_at and variant.starts_at >= variant.ends_at:
        raise InvalidInput(f"variant {variant.variant_id!r}: starts_at is not before ends_at")


def put_variants(connection: Connection, values: Iterable[Variant], now: dt.datetime) -> None:
    """Insert variants, or bring existing ones to the given content and eligibility.

    Raises NotFound for an unknown title, Conflict if an id belongs to another title or slot,
    InvalidInput if its dates are not in order. A new default takes the place of the old one.
    """
    generation = lock(connection)
    wanted = list({v.variant_id: v for v in values}.values())
    wanted = _one_default_each(wanted)
    ids = [v.variant_id for v in wanted]
    existing = {v.variant_id: v for v in by_ids(connection, ids)}
    untold_yet = _untold(connection, existing.values())
    genres = title_genres(connection, {v.title_id for v in wanted})
    new_rows, changed_rows = [], []
    revision_rows: list[dict[str, Any]] = []
    told_rows: list[dict[str, Any]] = []
    touched: set[tuple[str, str]] = set()
    position = connection.execute(sa.select(sa.func.max(variants.c.position))).scalar() or 0
    for variant in wanted:
        require_order(variant)
        if variant.title_id not in genres:
            raise NotFound(f"title {variant.title_id!r} does not exist; PUT it first")
        before = existing.get(variant.variant_id)
        revision = 1
        if before is not None:
            _require_same_place(before, variant)
            same = same_content(before, variant)
            same &= before.title_genres == genres[variant.title_id]
            revision = before.revision + (not same and before.variant_id not in untold_yet)
            if same and _same_eligibility(before, variant):
                continue  # else every server would read it again
        touched.add((variant.slot, variant.title_id))
        row = {
            "variant_id": variant.variant_id, "revision": revision, "updated_at": now,
            "changed": generation,
        }  # fmt: skip
        row |= {name: getattr(variant, name) for name in ELIGIBILITY}
        row["status"] = variant.status.value
        if before is None:
            position += 1
            row |= {"title_id": variant.title_id, "slot": variant.slot, "position": position}
            new_rows.append(row)
        else:
            changed_rows.append(row | {"key": variant.variant_id})
        if before is None or not same:
            told = {
                "variant_id": variant.variant_id, "revision": revision, "name": variant.name,
                "uri": variant.uri, "features": dict(variant.features),
                "title_genres": list(genres[variant.title_id]), "created_at": now,
            }  # fmt: skip
            new = before is None or revision > before.revision
            (revision_rows if new else told_rows).append(told)
    _clear_other_defaults(connection, wanted, generation, now)
    if new_rows:
        connection.execute(sa.insert(variants), new_rows)
    if changed_rows:
        settable: dict[str, Any] = {
            name: sa.bindparam(name) for name in (*ELIGIBILITY, "revision", "updated_at", "changed")
        }
        by_key = variants.c.variant_id == sa.bindparam("key")
        for row in changed_rows:
            del row["variant_id"]
        connection.execute(sa.update(variants).where(by_key).values(settable), changed_rows)
    if revision_rows:
        connection.execute(sa.insert(variant_revisions), revision_rows)
    if told_rows:
        key = ("variant_id", "revision")
        which = [variant_revisions.c[name] == sa.bindparam(f"key_{name}") for name in key]
        told_of: dict[str, Any] = {
            name: sa.bindparam(name) for name in told_rows[0] if name not in key
        }
        rows = [{f"key_{n}" if n in key else n: v for n, v in r.items()} for r in told_rows]
        connection.execute(sa.update(variant_revisions).where(*which).values(told_of), rows)
    summaries.mark(connection, touched)


def _untold(connection: Connection, found: Iterable[Variant]) -> set[str]:
    """Return the variants of which nobody has said yet what they show, nor changed anything: only a
    log made elsewhere has named them, and nobody was shown them here. What a catalogue says of one
    then, holds for what that log shows: the one case where a revision is told, not made."""
    bare = {
        v.variant_id for v in found
        if v.status is VariantStatus.RETIRED and v.revision == 1
        and not (v.uri or v.features or v.name)
    }  # fmt: skip
    touched: set[str] = set()
    for some in chunks(sorted(bare)):
        query = sa.select(changes.c.variant_id).where(changes.c.variant_id.in_(some))
        touched.update(connection.execute(query).scalars())
    return bare - touched


def get_title(connection: Connection, title_id: str) -> Title:
    row = connection.execute(sa.select(titles).where(titles.c.title_id == title_id)).first()
    if row is None:
        raise NotFound(f"title {title_id!r} does not exist")
    return _title(row)


def get_variant(connection: Connection, title_id: str, variant_id: str) -> Variant:
    found = [v for v in by_ids(connection, [variant_id]) if v.title_id == title_id]
    if not found:
        raise NotFound(f"title {title_id!r} has no variant {variant_id!r}")
    return found[0]


def list_titles(connection: Connection, after: str = "", limit: int | None = None) -> list[Title]:
    """Return titles in order of id, those after `after`."""
    query = sa.select(titles).where(titles.c.title_id > after).order_by(titles.c.title_id)
    return [_title(row) for row in connection.execute(query.limit(limit))]


def known_titles(connection: Connection, title_ids: Iterable[str]) -> set[str]:
    """Return those of the ids that exist."""
    found: set[str] = set()
    for some in chunks(sorted(title_ids)):
        query = sa.select(titles.c.title_id).where(titles.c.title_id.in_(some))
        found.update(connection.execute(query).scalars())
    return found


def title_genres(connection: Connection, title_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the genres of those of the ids that exist."""
    found: dict[str, tuple[str, ...]] = {}
    for some in chunks(sorted(title_ids)):
        query = sa.select(titles.c.title_id, titles.c.genres).where(titles.c.title_id.in_(some))
        found.update((row.title_id, tuple(row.genres)) for row in connection.execute(query))
    return found


def title_lengths(connection: Connection, title_ids: Iterable[str]) -> dict[str, float]:
    """Return how long those of the ids are whose length is known, seconds."""
    found: dict[str, float] = {}
    for some in chunks(sorted(title_ids)):
        query = sa.select(titles.c.title_id, titles.c.duration_seconds).where(
            titles.c.title_id.in_(some), titles.c.duration_seconds > 0
        )
        found.update((row.title_id, row.duration_seconds) for row in connection.execute(query))
    return found


def list_variants(
    connection: Connection, title_id: str | None = None, slot: str | None = None,
    changed_after: int | None = None,
) -> list[Variant]:  # fmt: skip
    """Return the variants (of one title, of one slot), the oldest first within a title.

    With `changed_after` only those that a later generation of the catalogue has changed.
    """
    query = sa.select(*_VARIANT_COLUMNS).select_from(_CURRENT)
    if title_id is not None:
        query = query.where(variants.c.title_id == title_id)
    if slot is not None:
        query = query.where(variants.c.slot == slot)
    if changed_after is not None:
        query = query.where(variants.c.changed > changed_after)
    query = query.order_by(variants.c.title_id, variants.c.slot, variants.c.position)
    return [_variant(row) for row in connection.execute(query)]


def of_titles(connection: Connection, title_ids: Iterable[str]) -> dict[str, list[Variant]]:
    """Return the variants of some titles in all slots, the oldest first."""
    found: dict[str, list[Variant]] = {}
    for some in chunks(sorted(title_ids)):
        query = sa.select(*_VARIANT_COLUMNS).select_from(_CURRENT)
        query = query.where(variants.c.title_id.in_(some))
        query = query.order_by(variants.c.title_id, variants.c.slot, variants.c.position)
        for row in connection.execute(query):
            found.setdefault(row.title_id, []).append(_variant(row))
    return found


def newest_change(connection: Connection) -> int:
    """Return the last generation of the catalogue that changed a variant."""
    return connection.execute(sa.select(sa.func.max(variants.c.changed))).scalar() or 0


def by_ids(connection: Connection, variant_ids: Iterable[str]) -> list[Variant]:
    """Return those of the variants that exist."""
    found: list[Variant] = []
    for some in chunks(sorted(set(variant_ids))):
        query = sa.select(*_VARIANT_COLUMNS).select_from(_CURRENT)
        query = query.where(variants.c.variant_id.in_(some)).order_by(variants.c.variant_id)
        found += [_variant(row) for row in connection.execute(query)]
    return found


def revisions(connection: Connection, revision_ids: Iterable[int]) -> dict[int, Variant]:
    """Return variants as they were at the given revisions, by revision id."""
    query = sa.select(
        variants, variant_revisions.c.revision_id, variant_revisions.c.name,
        variant_revisions.c.uri, variant_revisions.c.features,
        variant_revisions.c.title_genres,
        variant_revisions.c.revision.label("own_revision"),
    ).join_from(variant_revisions, variants)  # fmt: skip
    found: dict[int, Variant] = {}
    for some in chunks(sorted(set(revision_ids))):
        for row in connection.execute(query.where(variant_revisions.c.revision_id.in_(some))):
            found[row.revision_id] = replace(_variant(row), revision=row.own_revision)
    return found


def earlier_pictures(connection: Connection, values: Iterable[Variant]) -> frozenset[int]:
    """Return the revisions of these variants that had another picture than they have now."""
    uri = {v.variant_id: v.uri for v in values}
    columns = (variant_revisions.c.revision_id, variant_revisions.c.variant_id)
    found: set[int] = set()
    for some in chunks(sorted(uri)):
        query = sa.select(*columns, variant_revisions.c.uri)
        query = query.where(variant_revisions.c.variant_id.in_(some))
        rows = connection.execute(query)
        found.update(row.revision_id for row in rows if row.uri != uri[row.variant_id])
    return frozenset(found)


def same_content(a: Variant, b: Variant) -> bool:
    """Tell whether two variants differ in eligibility at most."""
    return (a.name, a.uri, dict(a.features)) == (b.name, b.uri, dict(b.features))


def _same_eligibility(a: Variant, b: Variant) -> bool:
    return all(getattr(a, name) == getattr(b, name) for name in ELIGIBILITY)


def _one_default_each(wanted: list[Variant]) -> list[Variant]:
    """Return the variants with at most one default per title and slot: the last one named."""
    default = {(v.title_id, v.slot): v.variant_id for v in wanted if v.is_default}
    return [
        replace(v, is_default=v.is_default and default[v.title_id, v.slot] == v.variant_id)
        for v in wanted
    ]


def _require_same_place(before: Variant, after: Variant) -> None:
    if (before.title_id, before.slot) != (after.title_id, after.slot):
        raise Conflict(
            f"variant {after.variant_id!r} belongs to title {before.title_id!r}, slot "
            f"{before.slot!r}; ids are unique in the catalogue, choose another"
        )


def _clear_other_defaults(
    connection: Connection, wanted: list[Variant], generation: int, now: dt.datetime
) -> None:
    for variant in wanted:
        if variant.is_default:
            connection.execute(
                sa.update(variants)
                .where(
                    variants.c.title_id == variant.title_id, variants.c.slot == variant.slot,
                    variants.c.variant_id != variant.variant_id, variants.c.is_default,
                )
                .values(is_default=False, updated_at=now, changed=generation)
            )  # fmt: skip


def _title(row: Any) -> Title:
    return Title(
        title_id=row.title_id, name=row.name, genres=tuple(row.genres), kind=row.kind,
        release_year=row.release_year, maturity=row.maturity,
        duration_seconds=row.duration_seconds, exploration_paused=row.exploration_paused,
    )  # fmt: skip


def _variant(row: Any) -> Variant:
    return Variant(
        variant_id=row.variant_id, title_id=row.title_id, slot=row.slot, uri=row.uri,
        name=row.name, features=row.features, title_genres=tuple(row.title_genres or ()),
        revision_id=row.revision_id, revision=row.revision,
        status=VariantStatus(row.status), starts_at=row.starts_at, ends_at=row.ends_at,
        countries=None if row.countries is None else tuple(row.countries),
        languages=None if row.languages is None else tuple(row.languages),
        maturity=row.maturity, is_default=row.is_default,
    )  # fmt: skip
