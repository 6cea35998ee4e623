"""Members' profiles, one row each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from artwork_bandit.domain import Event, instant
from artwork_bandit.policies.profile import (
    Play,
    Profile,
    Sign,
    Viewing,
    sign_of,
    signs_of_viewing,
    viewing_of,
)
from artwork_bandit.store import events as event_store
from artwork_bandit.store import merges
from artwork_bandit.store.engine import Connection, chunks, driver_cursor, insert_ignoring, upsert
from artwork_bandit.store.tables import profiles

_POSTGRESQL = (
    "SELECT member_id, as_of, genres, played, habits FROM profiles WHERE member_id = ANY(%s)"
)
_SQLITE = (
    "SELECT member_id, as_of, genres, played, habits FROM profiles "
    "WHERE member_id IN (SELECT value FROM json_each(?))"
)
_genres = msgspec.json.Decoder(dict[str, float])
_played = msgspec.json.Decoder(dict[str, Play])
_habits = msgspec.json.Decoder(dict[str, dict[str, float]])

Signs = Mapping[str, list[Sign]]
"""member -> what events say."""


def get(connection: Connection, member_id: str) -> Profile:
    """Return the member's profile, an empty one if there is none."""
    return get_many(connection, [member_id]).get(member_id, Profile())


def first(connection: Connection, most: int) -> dict[str, Profile]:
    """Return some profiles, by member id."""
    query = sa.select(profiles).order_by(profiles.c.member_id).limit(most)
    return {
        row.member_id: _profile(row.as_of, row.genres, row.played, row.habits)
        for row in connection.execute(query)
    }


def get_many(
    connection: Connection, member_ids: Iterable[str], *, for_update: bool = False
) -> dict[str, Profile]:
    """Return the profiles there are; `for_update` keeps other writers out until commit."""
    found: dict[str, Profile] = {}
    for some in chunks(sorted(set(member_ids))):
        query = sa.select(profiles).where(profiles.c.member_id.in_(some))
        query = query.order_by(profiles.c.member_id)  # one locking order: no deadlocks
        if for_update:
            query = query.with_for_update()
        for row in connection.execute(query):
            found[row.member_id] = _profile(row.as_of, row.genres, row.played, row.habits)
    return found


def read(connection: Connection, member_ids: Iterable[str]) -> dict[str, Profile]:
    """Return the profiles there are: `get_many` for the request path, one ready statement."""
    wanted = list(set(member_ids))
    with driver_cursor(connection) as cursor:
        if connection.dialect.name == "postgresql":
            cursor.execute(_POSTGRESQL, (wanted,))
        else:
            cursor.execute(_SQLITE, (msgspec.json.encode(wanted).decode(),))
        return {
            member: _profile(instant(as_of), genres, played, habits)
            for member, as_of, genres, played, habits in cursor.fetchall()
        }


def learn(
    connection: Connection, events: Iterable[Event], genres: Mapping[str, Iterable[str]],
    half_life: dt.timedelta,
) -> None:  # fmt: skip
    """Add what new events say to their members' profiles, in any order and from any number of
    writers: to those of the members whom visitors turned out to be. Whoever calls has stored the
    events in this transaction, and shares `merges`; titles have these genres."""
    telling = [
        event for event in events
        if event.member_id and event.title_id
        and (viewing_of(event) or sign_of(event, genres.get(event.title_id, ())))
    ]  # fmt: skip
    merged = merges.members_of(connection, {e.member_id for e in telling if e.member_id})
    of_member: dict[str, list[Event]] = {}
    for event in telling:
        member = event.member_id or ""
        of_member.setdefault(merged.get(member, member), []).append(event)

    def told() -> Signs:
        # Of viewings that others tell of at this moment nobody knows before they have ended.
        viewings = {viewing for e in telling if (viewing := viewing_of(e)) is not None}
        stored = event_store.of_viewings(connection, viewings)
        return {member: _signs(some, stored, genres) for member, some in of_member.items()}

    add(connection, of_member, told, half_life)


def _signs(
    events: Sequence[Event], stored: Mapping[Viewing, Sequence[Event]],
    genres: Mapping[str, Iterable[str]],
) -> list[Sign]:  # fmt: skip
    """Return what new events say: each by itself, and what the viewings are by now, beside what
    they were."""
    found, new = [], {event.event_id for event in events}
    for event in events:
        if (sign := sign_of(event, genres.get(event.title_id or "", ()))) is not None:
            found.append(sign)
    for viewing in sorted({v for event in events if (v := viewing_of(event)) is not None}):
        now, of = stored[viewing], genres.get(viewing.title_id, ())
        before = [event for event in now if event.event_id not in new]
        found += signs_of_viewing(now, of)
        found += [sign.taken_back() for sign in signs_of_viewing(before, of)]
    return found


def add(
    connection: Connection, wanted: Iterable[str], told: Callable[[], Signs],
    half_life: dt.timedelta,
) -> None:  # fmt: skip
    """Add signs to members' profiles; they are asked for when nobody else can add any."""
    members = sorted(wanted)
    if connection.dialect.name == "postgresql":
        # Rows must exist to be locked.
        blank = {"as_of": dt.datetime(1970, 1, 1, tzinfo=dt.UTC), "genres": "{}"}
        insert_ignoring(connection, profiles, [{"member_id": m} | blank for m in members])
    before, signs = get_many(connection, members, for_update=True), told()
    changed = {m: before.get(m, Profile()).add(signs[m], half_life) for m in members if signs[m]}
    rows = [_row(member, profile) for member, profile in changed.items()]
    upsert(connection, profiles, rows, "member_id")


def merge(connection: Connection, visitor: str, member: str, half_life: dt.timedelta) -> None:
    """Make what is known of a visitor the member's; nothing of the visitor is left."""
    found = get_many(connection, [visitor, member], for_update=True)
    if visitor not in found:
        return
    after = found.get(member, Profile()).merged(found[visitor], half_life)
    upsert(connection, profiles, [_row(member, after)], "member_id")
    connection.execute(sa.delete(profiles).where(profiles.c.member_id == visitor))


def _row(member: str, profile: Profile) -> dict[str, Any]:
    genres, played, habits = (
        msgspec.json.encode(told, order="sorted").decode()
        for told in (profile.genres, profile.played, profile.habits)
    )
    return {
        "member_id": member, "as_of": profile.as_of, "genres": genres, "played": played,
        "habits": habits,
    }  # fmt: skip


def _profile(
    as_of: dt.datetime, genres: str | bytes, played: str | bytes, habits: str | bytes
) -> Profile:
    return Profile(
        as_of=as_of, genres=_genres.decode(genres), played=_played.decode(played),
        habits=_habits.decode(habits),
    )  # fmt: skip
