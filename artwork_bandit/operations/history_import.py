"""Viewing events from before, out of a file or MovieLens: stored, and added to profiles."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import gzip
import itertools
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from artwork_bandit.domain import Event, EventType, Title, stable_hash
from artwork_bandit.errors import InvalidInput
from artwork_bandit.operations.catalog_forms import Name, Short, Text, explained
from artwork_bandit.operations.imports import AHEAD, MOST_ROWS, Changes
from artwork_bandit.store import catalog, merges, profiles
from artwork_bandit.store import events as event_store
from artwork_bandit.store.engine import Connection, Store
from artwork_bandit.store.pace import Pace

NEEDED = frozenset({"member_id", "title_id", "type", "occurred_at"})
VIEWING = tuple(kind.value for kind in EventType if kind is not EventType.MERGE)
TEXTS = {"event_id": Name, "member_id": Name, "title_id": Name, "device": Short, "query": Text}
MORE = ("query", "device", "local_time")
"""What else tells one row without an event_id from another."""
HISTORY_FORM = (
    "a history has columns member_id, title_id, type, occurred_at (with zone), and may have "
    "event_id, seconds_watched, duration_seconds, query, device, local_time"
)
_YEAR = re.compile(r"\((\d{4})\)\s*$")
MOVIELENS_MINUTES = 100.0
"""Assumed length of a film in MovieLens, which gives none."""


def read_history(path: Path, changes: Changes) -> Iterator[Event]:
    """Yield the viewing events of a CSV or Parquet file; broken rows are counted in `changes`.

    Columns: member_id, title_id, type, occurred_at (with zone), and optionally event_id,
    seconds_watched, duration_seconds, query, device, local_time (as on the member's clock).
    Raises InvalidInput for a file that cannot be read, is empty, or lacks one of the first four.
    """
    rows = _records(path)
    first = next(rows, None)
    if first is None:
        raise InvalidInput(f"{path.name} has no rows; {HISTORY_FORM}")
    if missing := sorted(NEEDED - {*first}):
        raise InvalidInput(f"{path.name} has no column {', '.join(missing)}; {HISTORY_FORM}")
    for number, row in enumerate(itertools.chain([first], rows), start=1):
        try:
            yield _history_event(path, number, row)
        except (ValueError, TypeError, OverflowError) as error:
            changes.reject(f"{path.name}, row {number}", error)


def _history_event(path: Path, number: int, row: Mapping[str, Any]) -> Event:
    """Return one row as an event; raises ValueError, TypeError or OverflowError saying what is
    wrong."""
    if None in row:
        raise ValueError("has more cells than there are columns; quote cells that hold commas")
    cells = {k: v for k, v in row.items() if v not in ("", None)}
    if missing := NEEDED - set(cells):
        raise ValueError(f"lacks {sorted(missing)}")
    occurred_at = _instant("occurred_at", cells["occurred_at"])
    if occurred_at.tzinfo is None:
        raise ValueError("occurred_at has no time zone")
    occurred_at = occurred_at.astimezone(dt.UTC)  # or the same written elsewhere is another event
    local_time = cells.get("local_time")
    local_time = None if local_time is None else _instant("local_time", local_time)
    seconds: dict[str, Any] = {
        name: _seconds(name, cells[name])
        for name in ("seconds_watched", "duration_seconds")
        if name in cells
    }
    for name, form in TEXTS.items():
        try:
            msgspec.convert(str(cells.get(name, "none")), form)
        except msgspec.ValidationError as error:
            raise ValueError(f"{name}: {explained(error)}") from error
    if cells["type"] not in VIEWING:
        raise ValueError(f"type is {str(cells['type'])[:40]!r}; it is one of {', '.join(VIEWING)}")
    kind = EventType(cells["type"])
    # Of plays of one day, which is all that some exports say of when, each counts.
    more = {name: cells[name] for name in MORE if name in cells} | seconds
    content = (cells["member_id"], cells["title_id"], kind, occurred_at.isoformat())
    told = (*content, *(f"{name}={more[name]}" for name in sorted(more)))
    fallback_id = f"history:{stable_hash(*map(str, told)):016x}"
    return Event(
        event_id=str(cells.get("event_id", fallback_id)),
        type=kind,
        occurred_at=occurred_at,
        member_id=str(cells["member_id"]),
        title_id=str(cells["title_id"]),
        query=None if "query" not in cells else str(cells["query"]),
        device=None if "device" not in cells else str(cells["device"]),
        hour=None if local_time is None else local_time.hour,
        weekday=None if local_time is None else local_time.weekday(),
        source="history",
        unjoined="history",
        **seconds,
    )


def _seconds(name: str, value: Any) -> float:
    """Return seconds of a file; raises ValueError for what are none."""
    found = math.nan
    with contextlib.suppress(ValueError, TypeError):
        found = float(value)
    if not 0 <= found < 1e7:
        raise ValueError(f"{name} is {value!r:.40}, no number of seconds from 0 to 10,000,000")
    return found


def _instant(name: str, value: Any) -> dt.datetime:
    """Return a time of a file; raises ValueError for what is none."""
    found = value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            found = dt.datetime.fromisoformat(value)
    if not isinstance(found, dt.datetime):
        raise ValueError(f"{name} is {found!r:.40}, no time such as 2026-11-23T20:15:00Z")
    return found


def import_history(
    store: Store, events: Iterable[Event], half_life: dt.timedelta, now: dt.datetime,
    *, dry_run: bool, changes: Changes, genres: Mapping[str, tuple[str, ...]] | None = None,
) -> Changes:  # fmt: skip
    """Store viewing events and add them to profiles, in batches; known event ids are left out.

    `genres` are those of titles that a dry run has not stored.
    """
    members: set[str] = set()
    with store.read() as connection:
        known_genres = {t.title_id: t.genres for t in catalog.list_titles(connection)}
    known_genres |= dict(genres or {})
    pace = store.pace(MOST_ROWS)
    for batch in _batches(_sound(events, known_genres, now, changes), pace):
        first = {e.event_id: e for e in reversed(batch)}  # the file may have it again
        if dry_run:
            with store.read() as connection:
                new = set(first) - event_store.existing(connection, first)
                others = _others(connection, batch, first, new, changes)
        else:
            with pace.timed(), store.write() as connection:
                merges.share(connection)
                whole = event_store.with_lengths(connection, list(first.values()))
                new = event_store.insert(connection, whole, now)
                told = [event for event in whole if event.event_id in new]
                profiles.learn(connection, told, known_genres, half_life)
                others = _others(connection, batch, first, new, changes)
            pace.rest()
        members.update(e.member_id for e in first.values() if e.member_id and e.event_id in new)
        changes.events_new += len(new)
        changes.events_known += len(batch) - len(new) - others
    changes.members = len(members)
    return changes


def _others(
    connection: Connection, batch: list[Event], first: Mapping[str, Event], new: set[str],
    changes: Changes,
) -> int:  # fmt: skip
    """Return how many events of a batch have the id of another event, and count them as rejected;
    `first` are the batch's events by id, `new` the ids that nothing stored had."""
    again = [e for e in batch if e.event_id not in new or e is not first[e.event_id]]
    if not again:
        return 0
    known = dict(first) | event_store.stored(connection, {e.event_id for e in again} - new)
    senders = {e.sender_id for e in (*again, *(known[e.event_id] for e in again))}
    members = merges.members_of(connection, {s for s in senders if s is not None})
    others = [e for e in again if event_store.is_other(e, known[e.event_id], members)]
    for event in others:
        changes.reject(
            _what(event), f"event_id {event.event_id[:40]!r} is that of another event (of "
            "another type, title or member): give every event an id of its own, or none",
        )  # fmt: skip
    return len(others)


def read_movielens(folder: Path, now: dt.datetime) -> tuple[list[Title], Iterator[Event]]:
    """Return the titles of a MovieLens folder and its ratings as viewing events.

    A rating of 3 or more is a film seen to the end, 2 or less one abandoned after a tenth, between
    them half. Ratings are decades old: each member's history is moved in time so that it ends now.
    """
    with _movielens(path := _one_of(folder, "movies.csv")):
        titles = [
            Title(
                title_id=f"ml-{row['movieId']}",
                name=_YEAR.sub("", row["title"]).strip() or row["title"],
                genres=tuple(g for g in row["genres"].split("|") if g != "(no genres listed)"),
                kind="movie",
                release_year=int(year[1]) if (year := _YEAR.search(row["title"])) else None,
                duration_seconds=MOVIELENS_MINUTES * 60,
            )
            for row in _csv(path)
        ]  # fmt: skip
    return titles, _movielens_events(_one_of(folder, "ratings.csv"), now)


def _movielens_events(path: Path, now: dt.datetime) -> Iterator[Event]:
    last: dict[str, int] = {}  # read twice: tens of millions of ratings need not be kept
    with _movielens(path):
        for row in _csv(path):
            if not math.isfinite(float(row["rating"])) or not row["movieId"]:
                raise ValueError(f"{row['rating']} for {row['movieId']!r}")
            last[row["userId"]] = max(last.get(row["userId"], 0), int(row["timestamp"]))
    for row in _csv(path):
        rating, age = float(row["rating"]), last[row["userId"]] - int(row["timestamp"])
        share = 1.0 if rating >= 3 else 0.1 if rating <= 2 else 0.5
        yield Event(
            event_id=f"movielens:{row['userId']}:{row['movieId']}",
            type=EventType.PLAY,
            occurred_at=now - dt.timedelta(seconds=age),
            member_id=f"ml-{row['userId']}",
            title_id=f"ml-{row['movieId']}",
            seconds_watched=share * MOVIELENS_MINUTES * 60,
            duration_seconds=MOVIELENS_MINUTES * 60,
            source="history",
            unjoined="history",
        )


def _sound(
    events: Iterable[Event], genres: Mapping[str, tuple[str, ...]], now: dt.datetime,
    changes: Changes,
) -> Iterator[Event]:  # fmt: skip
    for event in events:
        # As it stands in the file, in which it is to be found.
        what = _what(event)
        if event.title_id not in genres:
            changes.reject(what, "no such title in the catalogue")
        elif event.occurred_at > now + AHEAD:
            changes.reject(what, f"{event.occurred_at:%Y-%m-%d %H:%M}Z is in the future")
        else:
            # Whoever watched it told of it: nobody signs in within a history.
            yield event if event.sender_id else replace(event, sender_id=event.member_id)


def _what(event: Event) -> str:
    return f"{event.type} of {event.title_id!r} by {event.member_id!r}"


def _batches(events: Iterator[Event], pace: Pace) -> Iterator[list[Event]]:
    while batch := list(itertools.islice(events, pace.size)):
        yield batch


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet

        try:
            for batch in pa.parquet.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            raise InvalidInput(f"{path} is not a readable Parquet file: {error}") from error
    else:
        yield from _csv(path)


def _csv(path: Path) -> Iterator[dict[str, str]]:
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise InvalidInput(f"{path} has two columns {', '.join(twice)}")
            yield from reader
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


@contextlib.contextmanager
def _movielens(path: Path) -> Iterator[None]:
    """Say in words that a file is none of MovieLens."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"{path} is no file of MovieLens: every line of movies.csv has movieId, title and "
            "genres, of ratings.csv userId, movieId, rating and timestamp "
            f"({type(error).__name__}: {error})"
        ) from error


def _one_of(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise InvalidInput(f"{folder} has no {name} or {name}.gz; give a MovieLens folder")
