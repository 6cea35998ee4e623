"""Which reward rule is in force: the slot's own, one of those that come with it, or a file's.

The setting names one for all slots, or one for each of some: `artwork=ours.toml, trailer=clicks-1`.
A file is TOML: the fields of `slots.RewardRule`, and a version of its own:

    version = "ours-3"
    quality = 0.8
    thumbs_up = 0.2
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from artwork_bandit.errors import InvalidInput
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS, RewardRule, Slot, slot_named

OWN_RULES = frozenset(slot.reward.version for slot in SLOTS.values())
FILE_ENDING = ".toml"
LARGEST = 1e6
_BY_SLOT = re.compile(r"\s*\w+\s*=")
"""How a setting begins that names a rule for each slot; a file's name may have the sign, too."""


def slot_of(settings: Settings, name: str, rule: str | None = None) -> Slot:
    """Return the slot of that name with `rule` in force, else with the settings' rule."""
    slot = slot_named(name)
    by_slot = _BY_SLOT.match(settings.reward_rule) is not None
    wanted = rule or settings.reward_rule
    if rule is None and by_slot:
        wanted = _of_slot(settings.reward_rule, slot.name)
    if not wanted or (rule is None and not by_slot and wanted in OWN_RULES):
        return slot  # for all slots: one slot's own rule says nothing of another
    return slot.under(_rule(slot, wanted))


def _of_slot(rules: str, slot: str) -> str:
    """Return the rule that the setting names for a slot; none if only others are named."""
    named: dict[str, str] = {}
    for part in rules.split(","):
        name, _, rule = (each.strip() for each in part.partition("="))
        if not rule:
            raise InvalidInput(f"reward_rule: {part.strip()!r} is not SLOT=RULE")
        if slot_named(name).name in named:
            raise InvalidInput(f"reward_rule: {name} is given twice")
        named[name] = rule
    return named.get(slot, "")


def slot_of_log(slot: Slot, rule: str | None, bounds: tuple[float, float] | None = None) -> Slot:
    """Return the slot with the rule in force that a log's rewards are of; one that nobody here has
    heard of has the `bounds` that the log names, else those of the slot's own, and None is the
    slot's own."""
    if rule is None or rule == slot.reward.version:
        return slot
    known = {r.version: r for r in slot.other_rules}
    other = replace(slot.reward, version=rule, bounds=bounds or slot.reward.bounds)
    return slot.under(known.get(rule) or other)


def _rule(slot: Slot, wanted: str) -> RewardRule:
    known = {r.version: r for r in (slot.reward, *slot.other_rules)}
    if wanted.endswith(FILE_ENDING):
        found = _read(Path(wanted))
        if found.version in known and found != known[found.version]:
            raise InvalidInput(
                f"{wanted}: version {found.version!r} is another rule's; give this one its own"
            )
        return found
    if wanted not in known:
        raise InvalidInput(
            f"reward rule {wanted[:60]!r} is unknown; known are {sorted(known)}, or name a "
            f"*{FILE_ENDING} file"
        )
    return known[wanted]


def _read(path: Path) -> RewardRule:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"reward rule {path} cannot be read: {error}") from error
    names = [f.name for f in fields(RewardRule)]
    if unknown := sorted(set(table) - set(names)):
        raise InvalidInput(f"reward rule {path}: unknown {unknown}; known are {names}")
    try:
        rule = msgspec.convert(table, RewardRule)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"reward rule {path}: {error}") from error
    _check(path, rule)
    return rule


def _check(path: Path, rule: RewardRule) -> None:
    def refuse(why: str) -> Any:
        raise InvalidInput(f"reward rule {path}: {why}")

    if not rule.version or not rule.version.isprintable() or len(rule.version) > 60:
        refuse("version must be 1 to 60 printable characters")
    low, high = rule.bounds
    for name in (f.name for f in fields(rule) if f.name not in ("version", "bounds")):
        if not abs(getattr(rule, name)) <= LARGEST:
            refuse(f"{name} must be a number of at most {LARGEST:g}")
    if not -LARGEST <= low < high <= LARGEST:
        refuse("bounds must be a smaller number and a larger one")
    # Below is another matter: what is bad takes from what is good, by default to nothing.
    for name in ("quality", "watched", "click", "rewatch", "abandon", "thumbs_up", "thumbs_down"):
        if (worth := getattr(rule, name)) > high:
            refuse(
                f"{name} is worth {worth:g}, and rewards are cut at {high:g}: write bounds = "
                f"[{low:g}, {worth:g}] or wider"
            )
