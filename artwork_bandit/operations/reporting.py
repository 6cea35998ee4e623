"""Keeping counterfactual evaluations where the product team sees them."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence

import msgspec

from artwork_bandit.domain import microseconds
from artwork_bandit.errors import InvalidInput, NotEnoughData, NotFound
from artwork_bandit.evaluation import report as reporting
from artwork_bandit.evaluation.html import as_html
from artwork_bandit.evaluation.results import Report
from artwork_bandit.evaluation.targets import best_single
from artwork_bandit.operations.planning import split
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.together import judged
from artwork_bandit.slots import Slot
from artwork_bandit.store import registry, reports
from artwork_bandit.store.engine import Store

log = logging.getLogger(__name__)
AUTHOR = "worker"
CHOSEN_ON = 1_000_000
"""Newest rows before those that judge, on which each title's best single variant is chosen: models
have learned from them, too."""


def keep(
    store: Store, slot: str, author: str, found: Report, source: str, seed: int,
    versions: Sequence[int], now: dt.datetime,
) -> int:  # fmt: skip
    """Store a report with its page; return its number."""
    values = reporting.as_json(found, source, seed, list(versions))
    summary = {
        "rows": found.rows,
        "verdict": found.verdict.value,
        "bounds": list(found.method.bounds),
        "targets": {
            name: {"verdict": judged["verdict"]} | _value(judged["estimators"]["dr"])
            for name, judged in values["targets"].items()
        },
    }
    page = as_html(found, source, seed, versions)
    text = msgspec.json.encode(values).decode()
    with store.write() as connection:
        return reports.add(connection, slot, author, summary, text, page, now)


def keep_latest(store: Store, slot: Slot, now: dt.datetime) -> int | None:
    """Judge random, best single, live and challenger on the same end of the log, of which the gate
    holds out as much, and keep the report; None if there is nothing to judge yet."""
    source = ReplaySource.of(store, None, slot.name, settled_by=now, rule=slot.reward)
    if (since := split(source)) is None:
        return None
    with store.read() as connection:
        live = registry.live(connection, slot.name)
        challenger = registry.challenger(connection, slot.name)
    names = ["uniform", "best-single"]
    names += ["live"] if live is not None else []
    names += ["challenger"] if challenger is not None else []
    earlier = source.narrowed(None, since).newest(CHOSEN_ON)
    best = best_single(earlier.blocks("plain"), microseconds(since) - 1)
    try:
        found, versions = judged(
            source.narrowed(since, None), names, known={"best-single": best}
        )  # fmt: skip
    except (NotEnoughData, NotFound, InvalidInput) as error:
        log.warning("not_reported", extra={"slot": slot.name, "error": str(error)})
        return None
    return keep(store, slot.name, AUTHOR, found, source.name, 1, versions, now)


def _value(estimate: dict[str, object]) -> dict[str, object]:
    return {name: estimate[name] for name in ("estimate", "lower", "upper")}
