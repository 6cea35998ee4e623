"""Bulk import of the catalogue. It can say first what it would change."""

from __future__ import annotations

import codecs
import contextlib
import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from artwork_bandit.domain import Title, Variant
from artwork_bandit.errors import Conflict, InvalidInput
from artwork_bandit.operations.catalog_forms import CatalogLine, explained
from artwork_bandit.operations.imports import Changes
from artwork_bandit.store import catalog, generations
from artwork_bandit.store.engine import Store

TITLE, VARIANT = "title", "variant"

TRIES = 5
"""To import a catalogue that others change meanwhile."""


class _Overtaken(Exception):
    """Somebody changed the catalogue meanwhile."""


def import_catalog_file(store: Store, path: Path, now: dt.datetime, *, dry_run: bool) -> Changes:
    """Bring the catalogue to what a JSON Lines file says (`read_catalog`); what somebody changes by
    hand meanwhile stays changed. Raises Conflict if others change it again and again."""
    text = _text(path)
    for _ in range(TRIES):
        changes = Changes()
        with store.read() as connection:
            state = generations.read(connection).get("catalog", 0)
            present = {v.variant_id: v for v in catalog.list_variants(connection)}
        titles, variants = read_catalog(path.name, text, present, changes)
        with contextlib.suppress(_Overtaken):
            return import_catalog(
                store, titles, variants, now, dry_run=dry_run, changes=changes, of=state
            )
    raise Conflict("others keep changing the catalogue; import the file again when they are done")


def import_catalog(
    store: Store, titles: Iterable[Title], variants: Iterable[Variant], now: dt.datetime,
    *, dry_run: bool, changes: Changes | None = None, of: int | None = None,
) -> Changes:  # fmt: skip
    """Bring the catalogue to the given titles and variants; nothing is removed. They were made for
    generation `of` of the catalogue, if that matters."""
    changes = changes or Changes()
    titles, variants = list(titles), list(variants)
    with store.read() as connection:
        known = {t.title_id: t for t in catalog.list_titles(connection)}
        present = {
            v.variant_id: v for v in catalog.by_ids(connection, [v.variant_id for v in variants])
        }
    for title in titles:
        before = known.get(title.title_id)
        changes.titles_new += before is None
        changes.titles_same += before == title
        changes.titles_changed += before is not None and before != title
    homes = set(known) | {t.title_id for t in titles}
    sound = []
    for variant in variants:
        old = present.get(variant.variant_id)
        if variant.title_id not in homes:
            changes.reject(f"variant {variant.variant_id}", f"no title {variant.title_id!r}")
            continue
        if old is not None and (old.title_id, old.slot) != (variant.title_id, variant.slot):
            changes.reject(f"variant {variant.variant_id}", f"is {old.title_id!r}'s {old.slot}")
            continue
        sound.append(variant)
        if old is None:
            changes.variants_new += 1
        elif not catalog.same_content(old, variant):
            changes.variants_revised += 1
        elif all(getattr(old, n) == getattr(variant, n) for n in catalog.ELIGIBILITY):
            changes.variants_same += 1
        else:
            changes.variants_changed += 1
    if not dry_run:
        with store.write() as connection:
            if of is not None and catalog.lock(connection) != of + 1:
                raise _Overtaken
            catalog.put(connection, titles, sound, now)
    return changes


def _text(path: Path) -> bytes:
    """Return a file's bytes, which a pipe gives once; raises InvalidInput."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def read_catalog(
    name: str, text: bytes, present: Mapping[str, Variant], changes: Changes
) -> tuple[list[Title], list[Variant]]:
    """Return the titles and variants of a JSON Lines file of that name; broken lines are counted.

    `present` are the catalogue's variants by id, which keep their status where a line gives none.
    Raises InvalidInput if no line is JSON.
    """
    decoder = msgspec.json.Decoder(CatalogLine)
    titles: list[Title] = []
    variants: list[Variant] = []
    lines = enumerate(text.removeprefix(codecs.BOM_UTF8).splitlines(), start=1)
    numbered = [(number, line) for number, line in lines if line.strip()]
    line_of: dict[tuple[str, str], int] = {}
    if numbered and not any(_is_object(line) for _, line in numbered):
        raise InvalidInput(
            f"{name} is not JSON Lines: each title must be one line, "
            '{"title_id": …, "name": …, "genres": […], "variants": […]}'
        )
    for number, line in numbered:
        try:
            form = decoder.decode(line)
            own = [
                v.to_domain(form.title_id, v.variant_id, present.get(v.variant_id))
                for v in form.variants
            ]
            _require_no_doubt(own)
            _require_first(form.title_id, own, line_of)
        except (msgspec.DecodeError, UnicodeDecodeError, InvalidInput) as error:
            changes.reject(f"{name}, line {number}", explained(error))
            continue
        titles.append(form.to_domain(form.title_id))
        variants += own
        line_of[TITLE, form.title_id] = number
        line_of |= {(VARIANT, v.variant_id): number for v in own}
    return titles, variants


def _require_first(
    title_id: str, variants: Iterable[Variant], line_of: Mapping[tuple[str, str], int]
) -> None:
    """Raise InvalidInput if a line before has the title or one of the variants: whichever was read
    last would take the place of the other."""
    for kind, name in [(TITLE, title_id), *((VARIANT, v.variant_id) for v in variants)]:
        if (number := line_of.get((kind, name))) is not None:
            raise InvalidInput(
                f"{kind} {name!r} is in line {number} already: "
                + ("a title is one line" if kind == TITLE else "no two titles share a variant_id")
            )


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _require_no_doubt(variants: Iterable[Variant]) -> None:
    """Raise InvalidInput if dates are not in order, an id is given twice, or a slot has two
    defaults: the line does not say which is meant."""
    found: dict[str, str] = {}
    ids: set[str] = set()
    for variant in variants:
        catalog.require_order(variant)
        if variant.variant_id in ids:
            raise InvalidInput(f"variant {variant.variant_id!r} is given twice")
        ids.add(variant.variant_id)
        if not variant.is_default:
            continue
        if (first := found.setdefault(variant.slot, variant.variant_id)) != variant.variant_id:
            raise InvalidInput(
                f"{first} and {variant.variant_id} are both is_default in slot "
                f"{variant.slot!r}; one is"
            )
