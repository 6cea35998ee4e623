"""Taking a replay log made elsewhere into SQL, so that it can be trained on and shown.

Each row becomes a request with one choice, of the policy `imported`, and a reward. Its cell is the
other log's: sums by cell, which compare members that this system drew into cells, have such rows in
one of their own. Titles and
variants the catalogue does not know are added, retired (never served). Rows already here, by
decision id, are left out: importing twice changes nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from artwork_bandit import domain
from artwork_bandit.domain import ActionSet, Choice, Decisions, ReplayBlock, Title, Variant
from artwork_bandit.errors import InvalidInput
from artwork_bandit.slots import RewardRule, slot_named
from artwork_bandit.store import catalog, rollups
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection, Store, chunks, insert_ignoring
from artwork_bandit.store.tables import imported_rules, rewards

POLICY = rollups.IMPORTED
"""Who chose, as far as is known here. Rows of earlier releases have it for their rule, too."""
MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did, or would do."""

    rows: int = 0
    duplicates: int = 0
    duplicates_worth_otherwise: int = 0
    """Of these, rows whose reward is another than here by the same rule: the one here stays."""
    rejected: int = 0
    """Rows under the id of another decision."""
    problems: tuple[str, ...] = ()
    """Of one of them, and of one that is worth otherwise, per batch; the first 20."""
    new_titles: int = 0
    new_variants: int = 0

    def __add__(self, other: Imported) -> Imported:
        return Imported(
            rows=self.rows + other.rows,
            duplicates=self.duplicates + other.duplicates,
            duplicates_worth_otherwise=(
                self.duplicates_worth_otherwise + other.duplicates_worth_otherwise
            ),
            rejected=self.rejected + other.rejected,
            problems=tuple(dict.fromkeys((*self.problems, *other.problems)))[:MOST_PROBLEMS],
            new_titles=self.new_titles + other.new_titles,
            new_variants=self.new_variants + other.new_variants,
        )


def take_in(
    store: Store, block: ReplayBlock, rules: Mapping[str, RewardRule], now: dt.datetime, *,
    dry_run: bool,
) -> Imported:  # fmt: skip
    """Import one block, that was `checked`, in one transaction; with `dry_run` only count.

    `rules` are those that rewards are of, slot by slot.
    """
    with store.read() as connection:
        here = _known(connection, block, rules)
        fresh = block.take(~here.known)
        titles, variants = _missing(connection, fresh)
    if not dry_run and len(fresh):
        with store.write() as connection:
            rollups.take_turns(connection, {s.slot for s in fresh.action_sets})
            here = _known(connection, block, rules)  # another may have imported it meanwhile
            fresh = block.take(~here.known)
            titles, variants = _missing(connection, fresh)
            if titles or variants:
                catalog.lock(connection)  # or brought these
                titles, variants = _missing(connection, fresh)
                catalog.put(connection, titles, variants, now)
            _insert(connection, fresh, rules, now)
    others, otherwise = int(here.other.sum()), here.worth_otherwise
    problems = []
    if others:
        problems.append(
            f"decision id {block.decision_ids[np.argmax(here.other)]!r} is that of another "
            "decision already (of another member, title or variant); if ids are another log's, put "
            "a name of this log before them"
        )
    if otherwise.any():
        first = int(np.argmax(otherwise))
        problems.append(
            f"decision id {block.decision_ids[first]!r} is known with a reward of "
            f"{here.worth[first]:g}, not {block.reward[first]:g}: what is here stays"
        )
    return Imported(
        rows=len(fresh), duplicates=len(block) - len(fresh) - others,
        duplicates_worth_otherwise=int(otherwise.sum()), rejected=others,
        problems=tuple(problems), new_titles=len(titles), new_variants=len(variants),
    )  # fmt: skip


Place = tuple[str, str]
"""A title and a slot."""


def check(
    connection: Connection, block: ReplayBlock, rules: Mapping[str, RewardRule],
    places: dict[str, Place],
) -> None:  # fmt: skip
    """Raise InvalidInput for a reward that its slot's rule cannot give, and for a variant that is
    another title's or slot's in the catalogue, or in the blocks before this one, whose `places`
    these are."""
    for slot_name in {s.slot for s in block.action_sets}:
        low, high = rules[slot_named(slot_name).name].bounds
        of_slot = np.array([s.slot == slot_name for s in block.action_sets])[block.set_of_row]
        found = block.reward[of_slot]
        if np.any((found < low) | (found > high)):
            raise InvalidInput(
                f"rewards are from {found.min()} to {found.max()}; the slot {slot_name!r} has "
                f"{low} to {high}: rescale them, or name a rule with other bounds by the setting "
                "reward_rule"
            )
    names = {v for s in block.action_sets for v in s.variant_ids} - places.keys()
    for variant in catalog.by_ids(connection, names):
        places[variant.variant_id] = (variant.title_id, variant.slot)
    _require_places(block, places)


def _require_places(block: ReplayBlock, places: dict[str, Place]) -> None:
    """Raise InvalidInput for a variant that is of another title or slot."""
    for action_set in block.action_sets:
        for v in action_set.variant_ids:
            place = (action_set.title_id, action_set.slot)
            if places.setdefault(v, place) != place:
                raise InvalidInput(
                    f"variant {v!r} is of title {places[v][0]!r} in slot {places[v][1]!r} and of "
                    f"{place[0]!r} in {place[1]!r}; ids are unique in the catalogue: put the "
                    "title's id, or the slot's name, before it"
                )


def request_id_of(decision_id: str) -> str:
    """Return the id an imported decision's request gets."""
    return "log-" + hashlib.blake2b(decision_id.encode(), digest_size=16).hexdigest()


class Known(NamedTuple):
    """What is here already of n rows."""

    known: npt.NDArray[np.bool_]
    """n, whether the id is here."""
    other: npt.NDArray[np.bool_]
    """n, whether it is here as another decision's."""
    worth: domain.Floats
    """n, the reward that is here by the same rule, NaN where none is."""
    worth_otherwise: npt.NDArray[np.bool_]
    """n, whether the row's own reward is another."""


def _known(
    connection: Connection, block: ReplayBlock, rules: Mapping[str, RewardRule]
) -> Known:  # fmt: skip
    wanted = {}
    for decision_id in block.decision_ids:
        request_id, _, position = decision_id.rpartition(".")
        keys = [(request_id_of(decision_id), 0)]
        if request_id and position.isascii() and position.isdigit():
            keys.append((request_id, int(position)))
        wanted[decision_id] = keys
    of_rules = {rule.version for rule in rules.values()}
    found: dict[tuple[str, int], tuple[tuple[str, str, str], float]] = {}
    for some in chunks(sorted({request_id for keys in wanted.values() for request_id, _ in keys})):
        query = sa.select(
            rewards.c.request_id,
            rewards.c.position,
            rewards.c.member_id,
            rewards.c.title_id,
            rewards.c.variant_id,
            rewards.c.reward,
            rewards.c.rule,
        ).where(rewards.c.request_id.in_(some))
        for r, p, m, t, v, reward, rule in connection.execute(query):
            # What another rule pays may well be another number.
            found[r, p] = ((m, t, v), reward if rule in of_rules else np.nan)
    known, other = np.zeros(len(block), bool), np.zeros(len(block), bool)
    worth = np.full(len(block), np.nan)
    for i, decision_id in enumerate(block.decision_ids):
        shown = block.action_sets[block.set_of_row[i]]
        its = (block.member_ids[i], shown.title_id, shown.variant_ids[block.chosen[i]])
        here = next((found[key] for key in wanted[decision_id] if key in found), None)
        if here is not None:
            known[i], other[i], worth[i] = True, here[0] != its, here[1]
        # The same id may come again in this block.
        found.setdefault(wanted[decision_id][0], (its, float(block.reward[i])))
    otherwise = ~other & ~np.isnan(worth) & (worth != block.reward)
    return Known(known, other, worth, otherwise)


def _missing(connection: Connection, block: ReplayBlock) -> tuple[list[Title], list[Variant]]:
    titles = {s.title_id for s in block.action_sets}
    known = catalog.known_titles(connection, titles)
    variants = {v: s for s in block.action_sets for v in s.variant_ids}
    stored = catalog.by_ids(connection, variants)
    _require_places(block, {v.variant_id: (v.title_id, v.slot) for v in stored})
    present = {v.variant_id for v in stored}
    return (
        [Title(title_id=t, name=t) for t in sorted(titles - known)],
        [
            Variant(
                variant_id=v, title_id=s.title_id, slot=s.slot, uri="",
                status=domain.VariantStatus.RETIRED,
            )
            for v, s in variants.items()
            if v not in present
        ],
    )  # fmt: skip


def _keep_ranges(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remember what the rewards of each rule lie between."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["slot"], row["rule"]), []).append(row["reward"])
    for slot, rule in sorted(found):
        of_rule = sa.and_(imported_rules.c.slot == slot, imported_rules.c.rule == rule)
        some = found[slot, rule]
        row = {"slot": slot, "rule": rule, "least": min(some), "most": max(some)}
        insert_ignoring(connection, imported_rules, [row])
        for name, further in (
            ("least", imported_rules.c.least > row["least"]),
            ("most", imported_rules.c.most < row["most"]),
        ):
            connection.execute(
                sa.update(imported_rules).where(of_rule, further).values({name: row[name]})
            )


def _insert(
    connection: Connection, block: ReplayBlock, rules: Mapping[str, RewardRule], now: dt.datetime
) -> None:
    names = {v for s in block.action_sets for v in s.variant_ids}
    revision = {v.variant_id: v.revision_id for v in catalog.by_ids(connection, names)}
    sets = []
    for each in block.action_sets:
        ids = tuple(revision[v] for v in each.variant_ids)
        sets.append(
            ActionSet(
                action_set_id=ActionSet.identify(each.slot, each.title_id, ids),
                title_id=each.title_id, slot=each.slot, revision_ids=ids,
                variant_ids=each.variant_ids,
            )
        )  # fmt: skip
    request_store.insert_action_sets(connection, sets)
    rows = []
    requests: list[tuple[Decisions, str]] = []
    for i, decision_id in enumerate(block.decision_ids):
        chosen_from = sets[block.set_of_row[i]]
        occurred_at = domain.instant(int(block.occurred_at[i]))
        chosen, propensity = int(block.chosen[i]), float(block.propensity[i])
        request = Decisions(
            request_id=request_id_of(decision_id), member_id=block.member_ids[i],
            slot=chosen_from.slot, occurred_at=occurred_at,
            period=domain.stable_hash(decision_id) >> 1, cell=block.cells[i] or POLICY,
            policy=POLICY, model_version=None, confirm="client", context=block.contexts[i],
            choices=(
                Choice(
                    title_id=chosen_from.title_id, variant_id=chosen_from.variant_ids[chosen],
                    uri=None, propensity=propensity, action_set_id=chosen_from.action_set_id,
                    index=chosen,
                ),
            ),
        )  # fmt: skip
        requests.append((request, request_store.fingerprint(decision_id)))
        reward = float(block.reward[i])
        rows.append(
            {
                "request_id": request.request_id, "position": 0,
                "member_id": request.member_id, "title_id": chosen_from.title_id,
                "slot": request.slot, "period": request.period,
                "member_bucket": domain.member_bucket(request.member_id),
                "occurred_at": occurred_at, "confirm": "client", "cell": request.cell,
                "policy": POLICY, "model_version": None,
                "action_set_id": chosen_from.action_set_id, "chosen": chosen,
                "variant_id": chosen_from.variant_ids[chosen], "propensity": propensity,
                "clicks": 0, "plays": 0, "rewatches": 0, "abandons": 0, "thumbs_up": 0,
                "thumbs_down": 0, "seconds_watched": None, "watched_share": None,
                "quality_play": int(rules[request.slot].quality_earned(reward)), "reward": reward,
                "rule": rules[request.slot].version, "settled_at": now,
            }
        )  # fmt: skip
    if rows:
        _keep_ranges(connection, rows)
        request_store.insert(connection, requests)
        connection.execute(sa.insert(rewards), rows)
        rollups.add(connection, rows, rows)
