"""The frozen values every room speaks in.

ORM rows, HTTP bodies and files are turned into these at the edges; inside, the types are trusted.
Times are aware UTC datetimes, in columns (`*_at` arrays) int64 microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Objects = npt.NDArray[np.object_]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
HOURS, SATURDAY = 4, 5
"""Of a part of the day; and the first day of the weekend, Monday being 0."""
CLUSTERS = 65_536
"""Members are hashed into this many clusters, of one member each unless there are very many."""
MEMBER_BUCKETS = 256
"""Clusters are joined to this many buckets; clustered variances are sums over buckets."""

MATURITY_LEVELS: Mapping[str, int] = {
    "TV-Y": 0, "TV-Y7": 1, "TV-Y7-FV": 1, "TV-G": 2, "G": 2, "TV-PG": 3, "PG": 3,
    "TV-14": 4, "PG-13": 4, "TV-MA": 5, "R": 5, "NC-17": 6,
}  # fmt: skip
"""Maturity ratings and their order; a variant is eligible up to the level the request allows."""


class VariantStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    RETIRED = "retired"


class EventType(StrEnum):
    IMPRESSION = "impression"
    CLICK = "click"
    PLAY = "play"
    PAUSE = "pause"
    REWATCH = "rewatch"
    ABANDON = "abandon"
    SEARCH = "search"
    THUMBS_UP = "thumbs_up"
    THUMBS_DOWN = "thumbs_down"
    MERGE = "merge"
    """An anonymous visitor turned out to be a member; not behaviour, and kept apart (`merges`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """What members watch; it has variants."""

    title_id: str
    name: str
    genres: tuple[str, ...] = ()
    kind: str | None = None
    """`movie`, `show` or whatever the catalogue says."""
    release_year: int | None = None
    maturity: str | None = None
    duration_seconds: float | None = None
    """Length of the movie or of a typical episode, seconds."""
    exploration_paused: bool = False
    """Nobody is drawn at random for this title: the model's best, or the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One concrete option for a (title, slot), at one revision of its immutable content."""

    variant_id: str
    title_id: str
    slot: str
    uri: str
    name: str | None = None
    features: Mapping[str, Any] = field(default_factory=dict)
    """What the picture shows: strings, numbers, booleans or lists of strings."""
    title_genres: tuple[str, ...] = ()
    """The genres of its title when this revision was made."""
    revision_id: int = 0
    """Database key of (variant_id, revision); 0 before it is stored."""
    revision: int = 1
    """1 for the first content, then counting up."""
    status: VariantStatus = VariantStatus.ACTIVE
    starts_at: dt.datetime | None = None
    ends_at: dt.datetime | None = None
    countries: tuple[str, ...] | None = None
    """ISO 3166 codes where it may be shown; None is everywhere."""
    languages: tuple[str, ...] | None = None
    """Primary language subtags it may be shown to; None is all."""
    maturity: str | None = None
    is_default: bool = False
    """The picture shown by the baseline cell and whenever choosing fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known before choosing; stored with the request and encoded for the model."""

    device: str | None = None
    country: str | None = None
    language: str | None = None
    surface: str | None = None
    maturity: str | None = None
    hour: int | None = None
    """Local hour, 0-23."""
    weekday: int | None = None
    """Local day, Monday is 0."""
    genres: Mapping[str, float] = field(default_factory=dict)
    """Decayed viewing weight per genre, in plays."""
    played: Mapping[str, float] = field(default_factory=dict)
    """Titles watched last -> decayed watched share, in (0, 1]."""
    habits: Mapping[str, float] = field(default_factory=dict)
    """The same of what was watched at such hours, on such days and on such devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSet:
    """The ordered, immutable list of eligible variants a choice was made from."""

    action_set_id: int
    """63-bit hash of all the rest: the same list has the same id everywhere."""
    title_id: str
    slot: str
    revision_ids: tuple[int, ...]
    variant_ids: tuple[str, ...]
    default: int | None = None
    """Place of the default variant, for making the baseline's choice again; None if unknown."""

    @staticmethod
    def identify(
        slot: str, title_id: str, revision_ids: Sequence[int], default: int | None = None
    ) -> int:
        """Return the content-addressed id, in [0, 2^63)."""
        text = f"{slot}\x1f{title_id}\x1f{','.join(map(str, revision_ids))}"
        text += "" if default is None else f"\x1f{default}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The answer for one requested title. A page makes hundreds: a struct costs a fifth of a
    dataclass, and the garbage collector need not look into it."""

    title_id: str
    variant_id: str | None
    uri: str | None
    propensity: float | None
    """Probability of this variant under the logging policy, in (0, 1]; None for a fallback."""
    action_set_id: int | None = None
    index: int | None = None
    """Position of the chosen variant in its action set."""
    fallback: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """One answered request: a row of the log with a choice per title."""

    request_id: str
    member_id: str
    slot: str
    occurred_at: dt.datetime
    period: int
    """Start of the member's draw period, seconds since 1970 UTC."""
    cell: str
    policy: str
    model_version: int | None
    confirm: str
    """`client` or `server`: who says that the choice was on screen."""
    context: Context
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing a member did, already validated and attributed to a title where possible."""

    event_id: str
    type: EventType
    occurred_at: dt.datetime
    member_id: str | None = None
    sender_id: str | None = None
    """Who did it; `member_id` is of what it followed, if that was shown to the same person."""
    title_id: str | None = None
    slot: str | None = None
    request_id: str | None = None
    position: int | None = None
    """Index of the decision within its request."""
    period: int | None = None
    seconds_watched: float | None = None
    duration_seconds: float | None = None
    query: str | None = None
    device: str | None = None
    hour: int | None = None
    """Local hour, 0-23; it, the weekday and the device are its decision's where nobody says."""
    weekday: int | None = None
    """Local day, Monday is 0."""
    visitor_id: str | None = None
    """Of a merge: who turned out to be the member."""
    source: str = "client"
    unjoined: str | None = None
    """Why the event counts for no reward (yet): `not_logged` (a preview, or a default while none
    could be), `history`, or what `store.attribution` and `store.unjoined` say; None if it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellShare:
    """A stable share of members and the policy that serves them."""

    name: str
    ranges: tuple[tuple[int, int], ...]
    """Half-open ranges of the 10,000 member buckets."""

    @property
    def buckets(self) -> int:
        return sum(end - start for start, end in self.ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A registered model without its bytes."""

    version: int
    slot: str
    status: str
    """`candidate`, `live`, `rejected` or `retired`."""
    created_at: dt.datetime
    window_from: dt.datetime | None
    window_to: dt.datetime | None
    rows: int
    sha256: str
    reason: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    deleted_at: dt.datetime | None = None
    """When its bytes were deleted, as it had never chosen; None: they are kept."""


class Contexts:
    """The contexts of rows. Rows of one page share theirs, which is then looked at once."""

    def __init__(
        self, distinct: Sequence[Context], of_row: Ints, texts: Sequence[str] | None = None
    ) -> None:
        """Row i was asked in `distinct[of_row[i]]`, perhaps made of JSON `texts` later."""
        self._distinct, self._of_row, self._texts = distinct, of_row, texts

    @staticmethod
    def of(contexts: Sequence[Context]) -> Contexts:
        """Return one context per row."""
        return Contexts(contexts, np.arange(len(contexts), dtype=np.int64))

    @staticmethod
    def unknown(rows: int) -> Contexts:
        """Return contexts of which nothing is known."""
        return Contexts((Context(),), np.zeros(rows, np.int64))

    def __len__(self) -> int:
        return len(self._of_row)

    def __getitem__(self, row: int) -> Context:
        return self._distinct[int(self._of_row[row])]

    def __iter__(self) -> Iterator[Context]:
        return map(self._distinct.__getitem__, self._of_row.tolist())

    def take(self, rows: Ints) -> Contexts:
        """Return the contexts of some rows."""
        return Contexts(self._distinct, self._of_row[rows], self._texts)

    def as_json(self, row: int) -> str | bytes:
        """Return one as JSON, without looking at it where it came as that."""
        at = int(self._of_row[row])
        return msgspec.json.encode(self._distinct[at]) if self._texts is None else self._texts[at]

    def used(self) -> tuple[list[Context], Ints]:
        """Return the contexts that there are among the rows, and each row's place among them."""
        there = np.bincount(self._of_row) > 0
        place = np.cumsum(there) - 1
        return [self._distinct[i] for i in np.flatnonzero(there).tolist()], place[self._of_row]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayBlock:
    """Rows of the replay log in columns; n rows whose action sets hold m variants in all.

    Per-variant columns are flat and aligned with the concatenation of the rows' action sets:
    row i owns `offsets[i]:offsets[i + 1]`.
    """

    decision_ids: Objects
    occurred_at: Ints
    member_ids: Objects
    action_sets: tuple[ActionSet, ...]
    """The distinct action sets of the block."""
    set_of_row: Ints
    """n, index into `action_sets`."""
    chosen: Ints
    """n, position of the shown variant in its action set."""
    propensity: Floats
    """n, in (0, 1]."""
    reward: Floats
    """n, larger is better."""
    contexts: Contexts
    cells: Objects
    """n, cell names or None."""
    clicked: Floats | None = None
    """n, whether what was shown was clicked, 1 or 0; NaN, or None for all, where nobody knows."""
    logging_pmf: Floats | None = None
    """m, or None where the log does not carry it."""
    targets: Mapping[str, Floats] = field(default_factory=dict)
    """name -> m, pmfs of target policies that came with the log."""
    q_hat: Floats | None = None
    """m, predicted reward per variant that came with the log."""

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def sizes(self) -> Ints:
        """n, number of variants in each row's action set."""
        per_set = np.array([len(s.variant_ids) for s in self.action_sets], np.int64)
        return per_set[self.set_of_row] if len(self) else np.empty(0, np.int64)

    @property
    def certain(self) -> npt.NDArray[np.bool_]:
        """n, whether the choice was certain though others were eligible (the baseline's): such rows
        tell nothing of any other policy."""
        return np.asarray((self.propensity >= 1) & (self.sizes > 1))

    @cached_property
    def offsets(self) -> Ints:
        """n + 1, where each row's variants begin in the flat columns."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def take(self, rows: npt.NDArray[Any]) -> ReplayBlock:
        """Return the rows of a mask or an index array, in order, and the action sets they use."""
        index = np.arange(len(self))[rows]
        flat = ranges(self.offsets[index], self.sizes[index])
        used, set_of_row = np.unique(self.set_of_row[index], return_inverse=True)
        return ReplayBlock(
            decision_ids=self.decision_ids[index],
            occurred_at=self.occurred_at[index],
            member_ids=self.member_ids[index],
            action_sets=tuple(self.action_sets[i] for i in used),
            set_of_row=set_of_row.astype(np.int64),
            chosen=self.chosen[index],
            propensity=self.propensity[index],
            reward=self.reward[index],
            contexts=self.contexts.take(index),
            cells=self.cells[index],
            clicked=None if self.clicked is None else self.clicked[index],
            logging_pmf=None if self.logging_pmf is None else self.logging_pmf[flat],
            targets={name: pmf[flat] for name, pmf in self.targets.items()},
            q_hat=None if self.q_hat is None else self.q_hat[flat],
        )


def ranges(starts: Ints, sizes: Ints) -> Ints:
    """Return the concatenated ranges `start, start + 1, ..., start + size - 1`.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(sizes) - sizes
    found: Ints = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return found


def stable_hash(*parts: str, key: bytes = b"") -> int:
    """Return a keyed 64-bit hash of strings that is the same on every machine and run."""
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key).digest(), "little")


def member_bucket(member_id: str) -> int:
    """Return the bucket that a member's units are summed up in, in [0, MEMBER_BUCKETS)."""
    return stable_hash("bucket", member_id) % MEMBER_BUCKETS


def microseconds(instant: dt.datetime) -> int:
    """Return exact microseconds since 1970 UTC of an aware datetime."""
    return (instant - _EPOCH) // dt.timedelta(microseconds=1)


def instant(microseconds_since_epoch: int) -> dt.datetime:
    """Return the aware UTC datetime of microseconds since 1970."""
    return _EPOCH + dt.timedelta(microseconds=microseconds_since_epoch)
