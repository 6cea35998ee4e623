"""Resolving the targets people name, and judging them on a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from artwork_bandit.domain import microseconds
from artwork_bandit.errors import InvalidInput, NotEnoughData
from artwork_bandit.evaluation.evaluate import evaluated
from artwork_bandit.evaluation.evidence import Method
from artwork_bandit.evaluation.question import Cluster, Question
from artwork_bandit.evaluation.results import LOGGING, Report
from artwork_bandit.evaluation.targets import Target, best_single
from artwork_bandit.operations.reading import Progress, reading, silent
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.block import Lookup, names_only
from artwork_bandit.policies.policy import Fixed, Uniform
from artwork_bandit.policies.segments import COMMUNITY
from artwork_bandit.slots import slot_named

if TYPE_CHECKING:
    from artwork_bandit.store.engine import Store

FORMS = "live, challenger, uniform, best-single, baseline, model:VERSION, variant:ID or column:NAME"
BEST_SINGLE_CHOSEN_ON = 0.5
"""Share of the log, from its start, that `best-single` is chosen on."""


def judge(
    source: ReplaySource, names: Sequence[str], against: str = LOGGING,
    method: Method | None = None, cluster: Cluster = "member_id", by: str | None = None,
    progress: Progress = silent, scheduler: str | None = None,
    known: Mapping[str, Target] | None = None,
) -> tuple[Report, list[int]]:  # fmt: skip
    """Return the report and the versions of the models in it; raises InvalidInput, NotFound.

    `known` are targets that have been made already, by name; `method` says how intervals are made,
    by default with the bounds of the slot's reward rule; `progress` is told the rows read so far;
    `scheduler` is who reads the parts (`reading`).
    """
    if method is None:
        rule = source.window.rule or slot_named(source.window.slot).reward
        method = Method(bounds=rule.bounds)
    asked = [*names, *([] if against == LOGGING else [against])]
    targets, lookup = resolve(source, asked, known)
    communities = None
    if source.apart is not None and by == "cell":
        raise InvalidInput(
            "cells weighed as one policy's log cannot be told from each other: judge --by cell "
            "without --together"
        )
    if by == COMMUNITY:
        store = _require_store(source, COMMUNITY)
        from artwork_bandit.operations.database_source import communities_of

        communities = communities_of(store, source.window.slot)
    question = Question(
        targets=tuple(targets), lookup=lookup, against=against, method=method, cluster=cluster,
        by=by, communities=communities,
    )  # fmt: skip
    report = answer(source, question, progress, scheduler)
    versions = [t.policy.model_version for t in targets if t.policy is not None]
    return report, [v for v in versions if v is not None]


def answer(
    source: ReplaySource, question: Question, progress: Progress = silent,
    scheduler: str | None = None,
) -> Report:  # fmt: skip
    """Return what a log says to a question: two passes, of which the first is left out where the
    log brings what it would find."""
    known, span = source.checks(), source.span()
    with_contexts = question.detail("no contexts") == "all"
    with reading(source, scheduler, progress, with_contexts=with_contexts) as log:
        surveyed = question.by is not None or not source.predicts
        found = evaluated(log, question, span, known, surveyed=surveyed)
    of_today = not source.grows and any(target.contextual for target in question.targets)
    return replace(found, reward_rule=source.rule, apart=source.apart, of_today=of_today)


def resolve(
    source: ReplaySource, names: Sequence[str], known: Mapping[str, Target] | None = None
) -> tuple[list[Target], Lookup]:
    """Return the targets of these names, each once, and where their variants are found; those that
    are `known` as they are."""
    wanted, made = list(dict.fromkeys(names)), dict(known or {})
    lookup = source.lookup if any(needs_database(name) for name in wanted) else names_only
    return [made.get(name) or _target(source, name) for name in wanted], lookup


def _target(source: ReplaySource, name: str) -> Target:
    kind, _, argument = name.partition(":")
    match kind, argument:
        case "uniform", "":
            return Target(name=name, policy=Uniform())
        case "baseline", "":
            return Target(name=name, policy=Fixed())
        case "best-single", "":
            split = source.quantile(BEST_SINGLE_CHOSEN_ON)
            if split is None:
                raise NotEnoughData("the log has no row in that time and slot")
            return best_single(source.blocks("plain"), microseconds(split))
        case "variant", str(variant_id) if variant_id:
            return Target(name=name, policy=Fixed(variant_id), variant_id=variant_id)
        case "column", str(column) if column:
            return Target(name=name)
        case "live" | "challenger", "":
            store = _require_store(source, name)
            from artwork_bandit.operations.database_source import serving_target

            return serving_target(store, source.window.slot, kind)
        case "model", str(version) if version.isascii() and version.isdigit():
            from artwork_bandit.operations.database_source import model_target

            return model_target(
                _require_store(source, name), source.window.slot, int(version), name
            )
    raise InvalidInput(f"target {name[:60]!r} is unknown; use {FORMS}")


def _require_store(source: ReplaySource, name: str) -> Store:
    if source.store is None:
        raise InvalidInput(f"target {name!r} needs the database its model is registered in")
    return source.store


def needs_database(name: str) -> bool:
    """Tell whether a target of that name is or rests on something that the database holds."""
    return name in ("live", "challenger", "baseline", COMMUNITY) or name.startswith("model:")
