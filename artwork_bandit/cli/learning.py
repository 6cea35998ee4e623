"""The commands that train and keep models."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artwork_bandit.cli.options import (
    PATH,
    SEED,
    VERSION,
    editor_at,
    json_anyway,
    json_flag,
    open_store,
    print_json,
    progress_shown,
    rule_option,
    scheduler_for,
    scheduler_option,
    slot_option,
    slot_under,
    window_options,
)
from artwork_bandit.errors import InvalidInput
from artwork_bandit.settings import Settings

if TYPE_CHECKING:
    from artwork_bandit.operations.going_on import Warm
    from artwork_bandit.operations.planning import Tune
    from artwork_bandit.store.engine import Connection

REHEARSED_SHOWN = 12
ChosenBy = dict[str, Any]
"""A slot, its live model and challenger, and whose challenge ended."""


@click.command()
@click.option("--log", type=PATH, help="Parquet file or folder; else the database's log.")
@slot_option
@click.option("--seed", type=SEED, default=1, show_default=True)
@click.option(
    "--tune",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Choose priors on the log; auto: when it has doubled; never: the defaults.",
)
@click.option(
    "--warm",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Go on from the live model, reading only what came since; auto: as warm_starts says.",
)
@rule_option
@scheduler_option
@json_flag
@click.pass_obj
def train(
    load: Callable[..., Settings], log: Path | None, slot: str, seed: int, tune: Tune, warm: Warm,
    rule: str | None, scheduler: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Join rewards, train a candidate, promote it if the held-out log says so."""
    from artwork_bandit.operations.retrain import retrain
    from artwork_bandit.store import clock

    chosen = load()
    of_slot = slot_under(chosen, slot, rule, log)
    scheduler = scheduler_for(log, scheduler)
    store = open_store(chosen)
    with progress_shown() as progress:
        outcome = retrain(
            store, of_slot, chosen, clock.of(store), seed=seed, log=log, tune=tune, warm=warm,
            progress=progress, scheduler=scheduler,
        )  # fmt: skip
    if as_json:
        print_json(asdict(outcome))
    else:
        click.echo(f"joined {outcome.joined:,} rewards")
        rows = f"{outcome.rows:,} rows"
        if outcome.started_from is not None:
            rows = (
                f"{outcome.new_rows:,} new rows after model {outcome.started_from} ({rows} in all)"
            )
        click.echo(f"model {outcome.version}, trained on {rows}: {outcome.verdict}")
        click.echo(outcome.reason)
        if outcome.verdict == "challenger":
            with store.read() as connection:
                share = _challenged_share(connection)
            click.echo(f"in the challenger cell {_seen_by(share)}")


@click.group()
def models() -> None:
    """Trained models."""


@models.command("list")
@click.option("--slot", help="Only this slot's.  [default: all]")
@json_flag
@click.pass_obj
def models_list(load: Callable[..., Settings], slot: str | None, as_json: bool) -> None:
    """All models, the newest first."""
    from artwork_bandit.slots import slot_named
    from artwork_bandit.store import registry

    of = None if slot is None else slot_named(slot).name
    with open_store(load()).read() as connection:
        records = registry.list_all(connection, of)
        challenging = registry.challengers_of(connection)
        served = {s: registry.served(connection, s) for s in {r.slot for r in records}}
    if as_json:
        print_json([asdict(r) | {"challenger": r.version in challenging} for r in records])
        return
    if not records:
        click.echo("no models yet: `artwork-bandit train` makes one")
    for r in records:
        status = "challenger" if r.version in challenging else r.status
        gone = "" if r.deleted_at is None else f"; deleted {r.deleted_at:%Y-%m-%d}, it never chose"
        click.echo(f"{r.version:>4}  {r.slot:<8} {status:<10} {r.created_at:%Y-%m-%d %H:%M}Z"
                   f"  {r.rows:>9,} rows  {r.reason}{gone}")  # fmt: skip
        times = served[r.slot].get(r.version, [])
        if r.status == "retired" and times and (until := times[-1].until) is not None:
            then = times[-1].followed_by
            then_live = f"model {then} went live" if then else "no model was live"
            said = f"{until:%Y-%m-%d %H:%M}Z, when {then_live}: {times[-1].why_ended}"
            click.echo(f"      until {said}")


@models.command("show")
@click.argument("version", type=VERSION)
@json_anyway
@click.pass_obj
def models_show(load: Callable[..., Settings], version: int) -> None:
    """One model's window, settings, metrics, the gate's reason, and when it was live, as JSON."""
    from artwork_bandit.store import registry

    with open_store(load()).read() as connection:
        record = registry.get(connection, version)
        challenger = version in registry.challengers_of(connection)
        served = registry.served(connection, record.slot).get(version, [])
    times = [time._asdict() for time in served]
    print_json(asdict(record) | {"challenger": challenger, "served": times})


@models.command("promote")
@click.argument("version", type=VERSION)
@click.option("--reason", default="promoted by hand", show_default=True)
@json_flag
@click.pass_obj
def models_promote(
    load: Callable[..., Settings], version: int, reason: str, as_json: bool
) -> None:  # fmt: skip
    """Make a model the live one, whatever the gate said; its bytes are checked first."""
    from artwork_bandit.store import registry

    with open_store(load()).write() as connection:
        before = registry.challengers_of(connection)
        editor_at(connection).promote(version, reason)
        ended = before - registry.challengers_of(connection) - {version}
        chosen_by = _chosen_by(connection, registry.get(connection, version).slot, ended)
    _tell_live(chosen_by, as_json)


def _chosen_by(connection: Connection, slot: str, ended: Iterable[int] = ()) -> ChosenBy:
    """Return which models choose in a slot; `ended` are those that challenge no more."""
    from artwork_bandit.store import registry

    live, challenged = registry.live(connection, slot), registry.challenged_since(connection, slot)
    return {
        "slot": slot,
        "live": None if live is None else live.version,
        "challenger": None if challenged is None else challenged[0],
        "challenges_ended": sorted(ended),
    }


def _tell_live(chosen_by: ChosenBy, as_json: bool) -> None:
    if as_json:
        print_json(chosen_by)
        return
    live = chosen_by["live"]
    click.echo("no model is live: uniform" if live is None else f"model {live} is live")
    for version in chosen_by["challenges_ended"]:
        click.echo(
            f"model {version} challenges no more: it was compared with what was live before; "
            f"`models challenge {version}` goes on"
        )


@models.command("challenge")
@click.argument("version", type=VERSION)
@json_flag
@click.pass_obj
def models_challenge(load: Callable[..., Settings], version: int, as_json: bool) -> None:
    """Make a model the challenger of its slot: it serves the challenger cell."""
    from artwork_bandit.store import registry

    with open_store(load()).write() as connection:
        slot = registry.get(connection, version).slot
        before = registry.challenged_since(connection, slot)
        editor_at(connection).challenge(version)
        ended = {before[0]} - {version} if before is not None else set()
        chosen_by = _chosen_by(connection, slot, ended)
        share = _challenged_share(connection)
    if as_json:
        print_json(chosen_by | {"challenger_share": share})
        return
    instead = "".join(f", in model {each}'s place" for each in ended)
    click.echo(f"model {version} is the challenger{instead}; {_seen_by(share)}")


@models.command("unchallenge")
@slot_option
@json_flag
@click.pass_obj
def models_unchallenge(load: Callable[..., Settings], slot: str, as_json: bool) -> None:
    """End a challenge: the challenger cell is served as the live one."""
    from artwork_bandit.slots import slot_named

    name = slot_named(slot).name
    with open_store(load()).write() as connection:
        ended = editor_at(connection).end_challenge(name)
        chosen_by = _chosen_by(connection, name, [ended])
    if as_json:
        print_json(chosen_by)
    else:
        click.echo(f"model {ended} challenges no more")


def _challenged_share(connection: Connection) -> float:
    """Return the share of members who see the challenger."""
    from artwork_bandit.policies.cells import shares_of
    from artwork_bandit.store import cells

    return shares_of(cells.read(connection)).get("challenger", 0.0)


def _seen_by(share: float) -> str:
    if share:
        return f"{share:.2%} of the members see it"
    return "nobody sees it yet: `cells set` gives its cell members"


@models.command("rehearse")
@click.argument("version", type=VERSION)
@window_options
@click.option("--out", type=PATH, help="Parquet file of what it would have shown, a row each.")
@json_flag
@click.pass_obj
def models_rehearse(
    load: Callable[..., Settings], version: int, since: dt.datetime | None,
    until: dt.datetime | None, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Apprentice mode: what would it have shown where members got the default?"""
    from artwork_bandit.operations.rehearsal import rehearse
    from artwork_bandit.operations.replay_source import ReplaySource
    from artwork_bandit.store import registry

    store = open_store(load())
    with store.read() as connection:
        slot = registry.get(connection, version).slot
    found = rehearse(ReplaySource.of(store, None, slot, since, until), version, out)
    if as_json:
        print_json(asdict(found))
        return
    click.echo(
        f"{found.decisions:,} decisions served the default; model {version} would have shown the "
        f"same in {found.same:.0%}"
    )
    more = len(found.titles) - REHEARSED_SHOWN
    for title in found.titles[:REHEARSED_SHOWN]:
        click.echo(
            f"  {title.title_id}: the same in {title.same:.0%} of {title.decisions:,}; mostly "
            f"{title.mostly} ({title.mostly_share:.0%})"
        )
    if more > 0:
        click.echo(f"  and {more:,} titles more: --json has all, --out every decision")


@models.command("rollback")
@slot_option
@click.option("--from", "seen", type=VERSION, help="Only if this model is the live one: the guard "
              "may be faster, and to go back twice is once too often.")  # fmt: skip
@click.option("--reason", default="rolled back by hand", show_default=True)
@json_flag
@click.pass_obj
def models_rollback(
    load: Callable[..., Settings], slot: str, seen: int | None, reason: str, as_json: bool
) -> None:  # fmt: skip
    """Go back to the model that was live before."""
    from artwork_bandit.slots import slot_named
    from artwork_bandit.store import registry

    with open_store(load()).write() as connection:
        before = registry.challengers_of(connection)
        editor_at(connection).roll_back(slot_named(slot).name, reason, seen=seen)
        ended = before - registry.challengers_of(connection)
        chosen_by = _chosen_by(connection, slot_named(slot).name, ended)
        last = registry.last_promotion(connection, slot_named(slot).name)
    _tell_live(chosen_by, as_json)
    if last is not None and last.reason != reason:  # a model was passed over
        click.echo(last.reason, err=True)


@models.command("compare")
@click.argument("version", type=VERSION)
@click.argument("other", type=VERSION)
@rule_option
@json_flag
@click.pass_obj
def models_compare(
    load: Callable[..., Settings], version: int, other: int, rule: str | None, as_json: bool
) -> None:  # fmt: skip
    """Value two models on the rows after both were trained; exit code 1 if these cannot judge."""
    from rich.console import Console

    from artwork_bandit.evaluation import report as reporting
    from artwork_bandit.evaluation.verdict import Verdict
    from artwork_bandit.operations.replay_source import ReplaySource
    from artwork_bandit.operations.together import judged
    from artwork_bandit.store import registry

    if version == other:
        raise InvalidInput(f"model {version} is compared with another model, not with itself")
    chosen = load()
    store = open_store(chosen)
    with store.read() as connection:
        slots = {registry.get(connection, v).slot for v in (version, other)}
    if len(slots) > 1:
        raise InvalidInput(f"models {version} and {other} are of different slots")
    of_slot = slot_under(chosen, slots.pop(), rule)
    source = ReplaySource.of(store, None, of_slot.name, rule=of_slot.reward)
    found, versions = judged(source, [f"model:{version}"], f"model:{other}")
    if as_json:
        print_json(reporting.as_json(found, source.name, 1, versions))
    else:
        reporting.show(found, source.name, Console(width=min(Console().width, 80)))
    sys.exit(any(t.verdict is Verdict.REFUSE for t in found.targets.values()))
