"""The first pass over the log: what there is to learn, before a line is written.

Sums over the log's parts (`Counts`) add up; from all of them the encoders are learned, titles and
variants numbered, and each title's mean reward found, from which the examples start (`Survey`).
Memory grows with titles, variants and members kept for learning the encoders (a sample), never
with the log.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Context, Floats, Ints, ReplayBlock, Variant, stable_hash
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies.block import Log, Lookup
from artwork_bandit.policies.doubtful import Doubtful
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.features import is_trusted
from artwork_bandit.policies.rendezvous import variant_keys
from artwork_bandit.training import audiences
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.start import Start
from artwork_bandit.training.surrogates import Clicks, Expected

HOUR = 3_600_000_000
CLICKS_AGE = Ageing(half_life=dt.timedelta(days=30))
"""Where nobody says otherwise."""
MOST_MEMBERS = 5_000
"""Members whose latest context is kept to learn the context's columns and similar audiences: those
of smallest hash. What their factors tell of tastes grows by a hundredth with twice as many, by a
fiftieth with half."""
LARGEST_HASH = 2**64
PRIOR_ROWS = 20.0
"""Rows of an average title that a title's mean reward is shrunk towards."""


class Seen(NamedTuple):
    """How a member was seen last."""

    hashed: int
    """Of the member."""
    at: int
    """Microseconds since 1970 UTC."""
    context: str | bytes
    """JSON: most are replaced or left out before they are looked at, and a history of a hundred
    titles takes a tenth of the room."""


class Shown(NamedTuple):
    """How a variant was shown last; the later is the larger."""

    at: int
    """Microseconds since 1970 UTC."""
    revision: int
    variant: Variant


@dataclass(slots=True)
class Counts:
    """What the rows of some parts of a log say; merges with `+=`, parts in the log's order."""

    titles: dict[str, list[float]] = field(default_factory=dict)
    """Title -> rows that can teach, and the sum of their rewards on [0, 1]."""
    variants: dict[int, Shown] = field(default_factory=dict)
    """64-bit variant id -> how it was shown last."""
    clicked: dict[int, Clicks] = field(default_factory=dict)
    """64-bit variant id -> what its clicks came to."""
    ageing: Ageing = CLICKS_AGE
    """How clicks age."""
    members: dict[str, Seen] = field(default_factory=dict)
    """Member -> how it was seen last."""
    largest: int = LARGEST_HASH
    """Members of larger hash are not kept."""
    hours: dict[int, int] = field(default_factory=dict)
    """Hour, counted from 1970 -> rows that can teach."""
    left_out: int = 0
    """Rows that cannot teach."""
    first: int | None = None
    """Microseconds of the first and last row that can teach."""
    last: int | None = None

    def add(self, whole: ReplayBlock, lookup: Lookup, bounds: tuple[float, float]) -> None:
        block = whole.take(teaches(whole))
        self.left_out += len(whole) - len(block)
        if not len(block):
            return
        self._within(int(block.occurred_at.min()), int(block.occurred_at.max()))
        sets = len(block.action_sets)
        rows = np.bincount(block.set_of_row, minlength=sets).tolist()
        share = shares(block.reward, bounds)
        sums = np.bincount(block.set_of_row, share, sets).tolist()
        for hour, n in zip(*np.unique(block.occurred_at // HOUR, return_counts=True), strict=True):
            self.hours[int(hour)] = self.hours.get(int(hour), 0) + int(n)
        last = np.full(sets, block.occurred_at.min())
        np.maximum.at(last, block.set_of_row, block.occurred_at)
        keys: list[int] = []
        revisions: list[int] = []
        for of, variants, n, earned, at in zip(
            block.action_sets, lookup(block.action_sets), rows, sums, last.tolist(), strict=True
        ):
            self._title(of.title_id, n, earned)
            of_set = variant_keys(of.title_id, of.slot, of.variant_ids)
            for key, variant in zip(of_set, variants, strict=True):
                self._show(key, Shown(at, variant.revision, variant))
                revisions.append(variant.revision)
            keys += of_set
        if block.clicked is not None:
            self._click(block, block.clicked, bounds[1], keys, revisions)
        self._meet(block)

    def __iadd__(self, other: Counts) -> Counts:
        for title_id, (rows, earned) in other.titles.items():
            self._title(title_id, rows, earned)
        for key, shown in other.variants.items():
            self._show(key, shown)
        for key, clicks in other.clicked.items():
            self._clicks(key, clicks)
        for hour, n in other.hours.items():
            self.hours[hour] = self.hours.get(hour, 0) + n
        self.largest = min(self.largest, other.largest)
        self._expect({member: seen.hashed for member, seen in other.members.items()})
        for member, seen in other.members.items():
            self._see(member, seen)
        self.left_out += other.left_out
        if other.first is not None and other.last is not None:
            self._within(other.first, other.last)
        return self

    def _show(self, key: int, shown: Shown) -> None:
        known = self.variants.get(key)
        if known is None or shown[:2] > known[:2]:
            self.variants[key] = shown

    def _click(
        self, block: ReplayBlock, clicked: Floats, most: float,
        keys: Sequence[int], revisions: Sequence[int],
    ) -> None:  # fmt: skip
        """Count what clicks came to; keys and revisions are of the action sets' variants."""
        known = np.flatnonzero(~np.isnan(clicked))
        if most <= 0 or not len(known):
            return
        begins = np.cumsum([0, *(len(each.variant_ids) for each in block.action_sets)])
        at = begins[block.set_of_row[known]] + block.chosen[known]
        newest = int(block.occurred_at[known].max())
        weight = self.ageing.weights(block.occurred_at[known], newest)
        # What was lost, under some rules, is nothing earned.
        was, earned = clicked[known] * weight, np.clip(block.reward[known] / most, 0, 1) * weight
        parts = np.stack((weight, was, clicked[known] * earned, earned), axis=1)
        since = self.ageing.is_since(block.occurred_at[known])
        sums = np.zeros((begins[-1], 2, 4))
        np.add.at(sums, (at, since.astype(np.int64)), parts)
        first = np.full(begins[-1], newest)
        np.minimum.at(first, at, block.occurred_at[known])
        for i in np.flatnonzero(sums[:, :, 0].any(axis=1)).tolist():
            self._clicks(keys[i], Clicks(revisions[i], int(first[i]), newest, sums[i].copy()))

    def _clicks(self, key: int, more: Clicks) -> None:
        known = self.clicked.get(key)
        self.clicked[key] = more if known is None else known.beside(more, self.ageing)

    def _title(self, title_id: str, rows: float, earned: float) -> None:
        sums = self.titles.setdefault(title_id, [0, 0.0])
        sums[0] += rows
        sums[1] += earned

    def _meet(self, block: ReplayBlock) -> None:
        """Remember the members of smallest hash; others' contexts are never looked at."""
        order = np.argsort(block.occurred_at, kind="stable")
        latest = dict(zip(block.member_ids[order].tolist(), order.tolist(), strict=True))
        hashes = {member: self._hash(member) for member in latest}
        self._expect(hashes)
        for member, row in latest.items():
            if hashes[member] <= self.largest:
                text = block.contexts.as_json(row)
                seen = Seen(hashes[member], int(block.occurred_at[row]), text)
                self._see(member, seen)

    def _hash(self, member: str) -> int:
        known = self.members.get(member)
        return stable_hash("sample", member) if known is None else known.hashed

    def _expect(self, hashes: Mapping[str, int]) -> None:
        """Make room, if these members and those known are too many."""
        together = dict(hashes)
        together.update((member, seen.hashed) for member, seen in self.members.items())
        if len(together) > 2 * MOST_MEMBERS:
            self.largest = min(self.largest, sorted(together.values())[MOST_MEMBERS - 1])
            kept = self.members.items()
            self.members = {m: seen for m, seen in kept if seen.hashed <= self.largest}

    def _see(self, member: str, seen: Seen) -> None:
        known = self.members.get(member)
        if seen.hashed <= self.largest and (known is None or seen.at >= known.at):
            self.members[member] = seen

    def sampled(self) -> list[Context]:
        """Return the contexts of the members of smallest hash, in its order."""
        ordered = sorted((seen.hashed, member) for member, seen in self.members.items())
        made = msgspec.json.Decoder(Context).decode
        return [made(self.members[member].context) for _, member in ordered[:MOST_MEMBERS]]

    def _within(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """What the first pass learns."""

    contexts: ContextEncoder
    variants: VariantEncoder
    members: list[Context]
    """The latest contexts of some of the log's members, in a random order."""
    shown: list[Variant]
    """The log's variants, as they were shown last."""
    doubtful: Doubtful
    """Which genres the log's variants may emphasise where no trusted tag says so."""
    variant_numbers: dict[int, int]
    """64-bit variant id -> number in VW's text."""
    title_numbers: dict[str, int]
    title_rows: npt.NDArray[Any]
    """Per title number, its rows, those included that a start had learned from."""
    title_earned: Floats
    """Per title number, the sum of their rewards on [0, 1]."""
    expected: Expected
    """What clicks say of the variants; where a start is gone on from, what it expected."""
    new_rows: int
    """Rows that can teach, in this log."""
    start: Start | None
    """What examples start from beside their titles' levels, as it has aged, for this log's variants
    too."""
    hours: dict[int, int]
    """Hour, counted from 1970 -> rows that can teach."""
    left_out: int
    """Rows that cannot teach."""
    first: int | None
    """Microseconds of the first and last row that can teach."""
    last: int | None

    @property
    def rows(self) -> int:
        """Rows that could teach, in this log and before it."""
        return int(self.title_rows.sum())

    @property
    def mean(self) -> float:
        """Mean reward on [0, 1], away from its ends."""
        share = float(self.title_earned.sum()) / max(self.rows, 1)
        return min(max(share, 1e-3), 1 - 1e-3)

    @property
    def features(self) -> int:
        """Number of features VW will see, interactions included, at most."""
        context, variant = 1 + len(self.contexts.columns), 1 + len(self.variants.columns)
        own = len(self.variant_numbers) * (1 + len(self.contexts.factors)) + len(self.doubtful)
        return context * variant + own + len(self.title_numbers)

    def since(self, rows: int) -> int | None:
        """Return the microsecond from which on there are at least so many rows, by whole hours;
        None if there are not."""
        ordered = sorted(self.hours.items(), reverse=True)
        for hour, n in ordered:
            rows -= n
            if rows <= 0:
                return hour * HOUR
        return None

    def rows_since(self, changed_at: int | None) -> int:
        """Return the rows that could teach since a change, to the hour."""
        if self.start is not None:  # which knows of the change
            return self.rows
        return rows_since(self.hours, changed_at)

    def base_logits(self) -> Floats:
        """Return per title number the logit of its shrunken mean reward."""
        return base_logits(self.title_rows, self.title_earned)


def base_logits(rows: npt.NDArray[Any], earned: Floats) -> Floats:
    """Return per title the logit of its mean reward, shrunken towards the mean of all; `rows` and
    `earned`, on [0, 1], are sums per title."""
    mean = min(max(earned.sum() / max(rows.sum(), 1), 1e-3), 1 - 1e-3)
    share = np.clip((earned + PRIOR_ROWS * mean) / (rows + PRIOR_ROWS), 1e-4, 1 - 1e-4)
    found: Floats = np.log(share / (1 - share))
    return found


def rows_since(hours: Mapping[int, int], changed_at: int | None) -> int:
    """Return the rows since a change, to the hour, of which so many are of each hour."""
    if changed_at is None:
        return sum(hours.values())
    return sum(n for hour, n in hours.items() if (hour + 1) * HOUR > changed_at)


def teaches(block: ReplayBlock) -> npt.NDArray[np.bool_]:
    """Return which rows can teach: those where several variants were eligible."""
    return np.asarray(block.sizes > 1)


def member_numbers(block: ReplayBlock) -> Ints:
    """Return per row a number of its member, the same in every block."""
    found = [zlib.crc32(member.encode()) for member in block.member_ids.tolist()]
    return np.array(found, np.int64)


def shares(reward: Floats, bounds: tuple[float, float]) -> Floats:
    """Return rewards on [0, 1]; raises InvalidInput for one outside the bounds."""
    low, high = bounds
    if np.any((reward < low) | (reward > high)):
        raise InvalidInput(
            f"the log has rewards from {reward.min()} to {reward.max()}; the rule in force gives "
            f"{low} to {high}: name one with other bounds by the setting reward_rule"
        )
    return (reward - low) / (high - low)


def survey(
    log: Log, lookup: Lookup, bounds: tuple[float, float], products: Sequence[str] = (), *,
    with_audiences: bool = True, seed: int = 1, start: Start | None = None,
    ageing: Ageing = CLICKS_AGE,
) -> Survey:  # fmt: skip
    """Read the log once; return encoders, numbers and titles' means, those of a start gone on.

    `ageing` is that of clicks, the only ones here that age.
    """
    counts = Counts(ageing=ageing)
    for part in log.map(_counts, lookup, bounds, ageing):
        counts += part
    members = counts.sampled()
    counts.members.clear()  # twice as many, perhaps
    shown = [counts.variants[key].variant for key in sorted(counts.variants)]
    keys, sums = set(counts.variants), counts.titles
    new_rows = int(sum(rows for rows, _ in sums.values()))
    if start is None:
        contexts = ContextEncoder.learn(members)
        if with_audiences:
            contexts = contexts.with_audiences(audiences.learn(members, contexts, seed))
        contexts = contexts.with_products(products, members)
        variants = VariantEncoder.learn(shown)
    else:
        start = start.aged(start.learned.last if counts.last is None else counts.last)
        contexts, variants = start.model.context_encoder, start.model.variant_encoder
        sums = start.sums()
        for title, more in counts.titles.items():
            sums[title] = np.add(sums.get(title, [0, 0.0]), more).tolist()
        trusted = [key for key, known in counts.variants.items() if is_trusted(known.variant)]
        start = start.trusting(np.array(trusted, np.uint64))
        keys |= set(start.model.own_keys.tolist())
        start = start.among(np.array(sorted(keys), np.uint64))
    titles = sorted(sums)
    numbers = {key: i for i, key in enumerate(sorted(keys))}
    if start is None:
        title_of = {key: known.variant.title_id for key, known in counts.variants.items()}
        since = rows_since(counts.hours, ageing.changed_at)
        aged = Ageing.since(ageing.changed_at, ageing.half_life, new_rows - since, since)
        expected = Expected.of(counts.clicked, title_of, numbers, counts.last or 0, aged)
        if bounds[0]:  # what clicks lose is not asked for
            expected = expected.outcomes_alone()
    else:
        expected = Expected.kept(start.own_means)
    rows, earned = np.array([sums[t] for t in titles]).reshape(-1, 2).T
    numbered = {numbers[key]: known.variant for key, known in counts.variants.items()}
    return Survey(
        contexts=contexts, variants=variants, members=members, shown=shown,
        doubtful=Doubtful.of(numbered, len(numbers), contexts),
        variant_numbers=numbers, expected=expected,
        title_numbers={title: i for i, title in enumerate(titles)},
        title_rows=rows, title_earned=earned, new_rows=new_rows,
        start=start, hours=counts.hours,
        left_out=counts.left_out, first=counts.first, last=counts.last,
    )  # fmt: skip


def _counts(
    blocks: Iterable[ReplayBlock], lookup: Lookup, bounds: tuple[float, float], ageing: Ageing
) -> Iterator[Counts]:
    counts = Counts(ageing=ageing)
    for block in blocks:
        counts.add(block, lookup, bounds)
    yield counts
