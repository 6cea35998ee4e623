"""What is asked at every request is found by an index, however large the log has grown."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from artwork_bandit.policies.profile import Viewing
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import events, migrate, rewards, units, unjoined
from artwork_bandit.store.engine import Connection, Store
from tests.samples import NOW

UNITS = {(f"m{i}", f"t{i}", "artwork", i, "client") for i in range(3)}
PAIRS = {("m1", "t1"), ("m2", "t2")}
HOUR = dt.timedelta(hours=1)
SHOWN = events.Shown(
    member_id="m", title_id="t", request_id="r", position=0, slot="artwork", period=1,
    occurred_at=NOW, confirm="client",
)  # fmt: skip
ASKED: list[Callable[[Connection], Any]] = [
    lambda c: units.settled_units(c, UNITS),
    lambda c: units.decision_of(c, min(UNITS)),
    lambda c: list(rewards.under(c, SLOTS["artwork"].reward, [("r1", 0), ("r2", 1)])),
    lambda c: events.waiting_for(c, PAIRS, NOW, NOW),
    lambda c: events.shown_between(c, PAIRS, NOW, NOW),
    lambda c: events.existing(c, ["e1", "e2"]),
    lambda c: events.of_viewings(c, [Viewing("m1", "t1", 20_000)]),
    lambda c: c.execute(sa.select(rewards._closed("artwork", NOW, 9))),
    lambda c: c.execute(rewards._outcomes(rewards._closed("artwork", NOW, 9), HOUR)),
    lambda c: c.execute(sa.select(rewards._closed("artwork", NOW, 9, SHOWN))),
    lambda c: rewards._first_closed(c, "artwork", [SHOWN], NOW),
    lambda c: events.firsts(c, [SHOWN]),
    lambda c: unjoined.latest(c, "late", NOW, None, 20, unjoined.Asked(NOW, {"artwork": HOUR})),
    lambda c: unjoined.counted_all_the_same(c, ["e1", "e2"], {"artwork": HOUR}),
]


@pytest.mark.parametrize("asked", ASKED)
def test_no_table_is_read_from_end_to_end(
    asked: Callable[[Connection], Any], tmp_path: Path
) -> None:
    store = Store(f"sqlite:///{tmp_path}/log.db")
    migrate.migrate(store)
    plans: list[str] = []

    def explained(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.extend(row[3] for row in plan)

    with store.read() as connection:
        sa.event.listen(store.engine, "before_cursor_execute", explained)
        asked(connection)
    assert plans
    # But a batch that was found by an index, or is asked for, is gone through.
    gone_through = [p for p in plans if p.startswith("SCAN")]
    assert not [p for p in gone_through if not p.startswith(("SCAN shown", "SCAN asked"))], plans
    store.close()
