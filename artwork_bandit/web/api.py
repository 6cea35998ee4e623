"""The HTTP API under /v1, and the health endpoints. See the README for the contract."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, request

from artwork_bandit import __version__
from artwork_bandit.comparison import cells as cell_comparison
from artwork_bandit.comparison import segments as segment_comparison
from artwork_bandit.comparison import variants as variant_comparison
from artwork_bandit.comparison.segments import SegmentRow
from artwork_bandit.comparison.variants import Comparison
from artwork_bandit.domain import EventType, Variant
from artwork_bandit.errors import InvalidInput, NotFound, StoreUnavailable
from artwork_bandit.operations import catalog_forms
from artwork_bandit.operations.editing import Editor
from artwork_bandit.policies.communities import Communities
from artwork_bandit.policies.segments import COMMUNITY
from artwork_bandit.serving.audit import audit
from artwork_bandit.serving.ingest import Incoming, Rejected
from artwork_bandit.serving.service import Service
from artwork_bandit.slots import slot_named, windows
from artwork_bandit.store import catalog, merges, profiles, registry, rollups
from artwork_bandit.store import unjoined as unjoined_store
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.migrate import require_current
from artwork_bandit.store.window import require_order
from artwork_bandit.web import bodies, decisions, metrics, openapi, schema
from artwork_bandit.web.choices import PATH, Choices

api = Blueprint("api", __name__)
PAGE_SIZE = 200
_ID = re.compile(rb'"event_id"\s*:\s*"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,200})"')
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_event = msgspec.json.Decoder(schema.EventBody)
_raw_events = msgspec.json.Decoder(schema.RawEventsBody)


def parts() -> Choices:
    found: Choices = current_app.extensions["artwork_bandit"]
    return found


def service() -> Service:
    return parts().service


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@api.post(PATH)
def choices() -> Response:
    """For WSGI servers; `rsgi` answers this address before Flask sees it."""
    data = parts().answer(request.get_data(cache=False))
    return Response(data, mimetype="application/json")


@api.get("/v1/decisions/<decision_id>")
def decision(decision_id: str) -> Response:
    return bodies.write(decisions.body(decision_id, audit(service(), decision_id)))


@api.post("/v1/events")
def events() -> Response:
    data = request.get_data(cache=False)
    try:
        sent = bodies.decode(data, _raw_events).events
    except bodies.Malformed:
        if (apart := schema.events_apart(data)) is None:
            raise
        sent = apart
    sound: list[Incoming] = []
    rejected: list[Rejected] = []
    for index, raw in enumerate(sent):
        try:
            sound.append(_event.decode(raw).to_domain(index))
        except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
            reason = catalog_forms.explained(error)[: bodies.LONGEST_DETAIL] + _known_types(error)
            rejected.append(Rejected(index=index, event_id=_id_of(raw), reason=reason))
    report = service().take_in(sound, now())
    parts().metrics.taken_in(report, len(rejected))
    return bodies.write(
        schema.ReportBody(
            accepted=report.accepted,
            duplicates=report.duplicates,
            rejected=[
                schema.RejectedBody(index=r.index, event_id=r.event_id, reason=r.reason)
                for r in sorted([*rejected, *report.rejected], key=lambda r: r.index)
            ],
        )
    )


@api.get("/v1/events/unjoined")
def unjoined() -> Response:
    most, reason = _whole_number("limit", 20, 0, 1000), request.args.get("reason")
    if reason is not None and reason not in unjoined_store.REASONS:
        raise InvalidInput(f"reason is one of {', '.join(sorted(unjoined_store.REASONS))}")
    span = _moments()
    asked = unjoined_store.Asked(now(), windows(service().settings.attribution_window_seconds))
    with service().store.read() as connection:
        by_reason = unjoined_store.by_reason(connection, *span, asked)
        latest = [
            event
            for each in sorted(by_reason)
            if reason in (None, each)
            for event in unjoined_store.latest(connection, each, *span, most, asked)
        ]
    return bodies.write(
        schema.UnjoinedBody(
            by_reason=by_reason,
            latest=[
                schema.UnjoinedEventBody(
                    event_id=e.event_id, reason=e.unjoined, type=e.type.value,
                    occurred_at=e.occurred_at, member_id=e.member_id, title_id=e.title_id,
                    request_id=e.request_id,
                )
                for e in latest
            ],
        )
    )  # fmt: skip


@api.get("/v1/titles")
def list_titles() -> Response:
    limit = _whole_number("limit", PAGE_SIZE, 1, 1000)
    with service().store.read() as connection:
        found = catalog.list_titles(connection, request.args.get("after", ""), limit)
    cursor = found[-1].title_id if len(found) == limit else None
    return bodies.write({"titles": found, "next_after": cursor})


@api.get("/v1/titles/<title_id>")
def get_title(title_id: str) -> Response:
    with service().store.read() as connection:
        return bodies.write(catalog.get_title(connection, title_id))


@api.put("/v1/titles/<title_id>")
def put_title(title_id: str) -> Response:
    title = bodies.read(catalog_forms.TitleForm).to_domain(schema.require_id("title_id", title_id))
    with service().store.write() as connection:
        catalog.put_titles(connection, [title], now())
    return bodies.write(title)


@api.patch("/v1/titles/<title_id>")
def patch_title(title_id: str) -> Response:
    paused = bodies.read(catalog_forms.ControlForm).exploration_paused
    with service().store.write() as connection:
        _editor(connection).pause_exploration(title_id, paused)
        return bodies.write(catalog.get_title(connection, title_id))


@api.get("/v1/titles/<title_id>/variants")
def list_variants(title_id: str) -> Response:
    slot = request.args.get("slot")
    with service().store.read() as connection:
        catalog.get_title(connection, title_id)
        found = catalog.list_variants(connection, title_id, slot and slot_named(slot).name)
    return bodies.write({"variants": [_variant(v) for v in found], "next_after": None})


@api.get("/v1/titles/<title_id>/variants/<variant_id>")
def get_variant(title_id: str, variant_id: str) -> Response:
    with service().store.read() as connection:
        return bodies.write(_variant(catalog.get_variant(connection, title_id, variant_id)))


@api.put("/v1/titles/<title_id>/variants/<variant_id>")
def put_variant(title_id: str, variant_id: str) -> Response:
    body = bodies.read(catalog_forms.VariantForm)
    schema.require_id("variant_id", variant_id)
    with service().store.write() as connection:
        catalog.lock(connection)
        before = catalog.by_ids(connection, [variant_id])
        variant = body.to_domain(title_id, variant_id, before[0] if before else None)
        _editor(connection).put_variant(variant)
        return bodies.write(_variant(catalog.get_variant(connection, title_id, variant_id)))


@api.patch("/v1/titles/<title_id>/variants/<variant_id>")
def patch_variant(title_id: str, variant_id: str) -> Response:
    changes = bodies.read(catalog_forms.EligibilityForm).changes()
    with service().store.write() as connection:
        _editor(connection).patch_variant(title_id, variant_id, changes)
        return bodies.write(_variant(catalog.get_variant(connection, title_id, variant_id)))


@api.get("/v1/titles/<title_id>/comparison")
def comparison(title_id: str) -> Response:
    slot = slot_named(request.args.get("slot", "artwork"))
    (since, until), by = _moments(), request.args.get("by")
    first = None if since is None else rollups.day_of(since)
    end = None if until is None else rollups.day_after(until)
    with service().store.read() as connection:
        catalog.get_title(connection, title_id)
        share = registry.least_explored(connection, slot.name, service().settings.explored_share)
        compared = variant_comparison.compare(
            connection, title_id, slot.name, share, first, end, now()
        )
        body = _comparison(compared)
        if by is not None:
            variants = [row.variant for row in compared.rows]
            ids = [v.variant_id for v in variants]
            found = segment_comparison.of_title(
                connection, slot.name, title_id, variants, by, share, first, end, now(),
                communities_for(by, slot.name),
            )  # fmt: skip
            body["segments_by"], body["segments"] = by, [_segment(row, ids) for row in found]
    return bodies.write(body)


def communities(slot: str) -> Communities | None:
    """Return the communities of the model that serves a slot, if it has learned any."""
    model = service().state.model(slot)
    return None if model is None else Communities.of(model.context_encoder)


def communities_for(by: str, slot: str) -> Communities | None:
    """Return what names segments of that kind; raises InvalidInput if nothing can."""
    if by != COMMUNITY:
        return None
    found = communities(slot)
    if found is None:
        raise InvalidInput("the model that serves has learned no communities yet")
    return found


def _segment(row: SegmentRow, ids: list[str]) -> dict[str, Any]:
    return {
        "name": row.name, "units": row.units,
        "best": None if row.best is None else ids[row.best],
        "mostly_shown": None if row.mostly is None else ids[row.mostly],
        "rates": dict(zip(ids, msgspec.to_builtins(row.rates), strict=True)),
    }  # fmt: skip


def _comparison(compared: Comparison) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(compared)
    body["variants"] = [
        row | {"variant": _variant(given.variant)}
        for row, given in zip(body.pop("rows"), compared.rows, strict=True)
    ]
    leader = compared.verdict.leader
    body["verdict"]["leader"] = None if leader is None else compared.rows[leader].variant.variant_id
    return body


@api.get("/v1/cells/comparison")
def cells() -> Response:
    slot = slot_named(request.args.get("slot", "artwork"))
    with service().store.read() as connection:
        compared = cell_comparison.compare(connection, slot.name, *_moments())
    return bodies.write(compared)


@api.get("/v1/members/<path:member_id>")
def member(member_id: str) -> Response:
    if member_id.endswith("/matches"):
        raise NotFound("this release does not say how well titles match a member")
    with service().store.read() as connection:
        profile = profiles.get(connection, member_id)
        merged = merges.members_of(connection, [member_id]).get(member_id)
    moment, half_life = now(), service().half_life
    return bodies.write(
        {
            "member_id": member_id,
            "merged_into": merged,
            "as_of": moment,
            "tastes_as_of": profile.as_of,
            "genres": profile.at(moment, half_life),
            "played": profile.played_at(moment, half_life),
            "habits": profile.habits_at(moment, half_life),
        }
    )


@api.get("/livez")
def livez() -> Response:
    return bodies.write({"status": "alive"})


@api.get("/readyz")
def readyz() -> Response:
    """Ready means that choices can be answered and logged, be it in the spool: a server that is
    taken away because the database is down makes that outage everybody's. Without a spool it can,
    as long as the database is there."""
    here = service()
    without: list[str] = []
    waiting: int | None
    try:
        here.check_database(require_current)
    except InvalidInput as error:
        return bodies.problem(503, "Not ready", str(error))
    except StoreUnavailable as error:
        without.append("database")
        why = str(error)
    try:
        here.spool.probe()
        waiting = here.spool.depth()
    except StoreUnavailable:
        if without:
            return bodies.problem(503, "Not ready", why)
        without.append("spool")
        waiting = None
    without += [f"model:{slot}" for slot in here.state.broken]
    without += [f"challenger:{slot}" for slot in here.state.broken_challengers]
    return bodies.write(
        {
            "status": "degraded" if without else "ready",
            "without": without,
            "paused": sorted(here.state.current.paused),
            "spool_entries": waiting,
        }
    )


@api.get("/metrics")
def prometheus() -> Response:
    return Response(parts().metrics.text(), content_type=metrics.CONTENT_TYPE)


@api.get("/version")
def version() -> Response:
    return bodies.write({"version": __version__})


@api.get("/openapi.json")
def openapi_document() -> Response:
    return bodies.write(openapi.document())


def _editor(connection: Connection) -> Editor:
    """Return who changes things by the API: whom a proxy says, or a program."""
    author = bodies.user(service().settings.user_header)[:200] or "API"
    return Editor(connection=connection, author=author, now=now())


def _variant(variant: Variant) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(variant)
    del shown["revision_id"]  # a database key, nobody's business
    return shown


def _known_types(error: Exception) -> str:
    """Return what an event's type can be, if that was wrong."""
    if not str(error).endswith("`$.type`"):
        return ""
    return f"; types are {', '.join(kind.value for kind in EventType)}"


def _id_of(raw: msgspec.Raw) -> str | None:
    """Return the id of an event that could not be read, if it has one fit to be sent back."""
    try:
        found: str = msgspec.json.decode(raw, type=_OnlyId).event_id
        return found
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = _ID.search(bytes(raw))  # what is no JSON elsewhere may say who it is
        return None if told is None else told[1].decode("ascii")


class _OnlyId(msgspec.Struct):
    event_id: catalog_forms.Name


def _moments() -> tuple[dt.datetime | None, dt.datetime | None]:
    """Return from when on and before when; raises InvalidInput."""
    since, until = _moment("from"), _moment("to")
    require_order(since, until)
    return since, until


def _moment(name: str) -> dt.datetime | None:
    text = request.args.get(name)
    if not text:
        return None
    try:
        if DAY.fullmatch(text):
            # A last day is part of what is asked for, as on the pages.
            day = dt.date.fromisoformat(text) + dt.timedelta(days=name == "to")
            text = f"{day}T00:00:00Z"
        return msgspec.convert(text, catalog_forms.Moment).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{name} must be a day or an RFC 3339 time with zone: {error}"
        ) from error


def _whole_number(name: str, default: int, low: int, high: int) -> int:
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
        raise InvalidInput(f"{name} must be a whole number from {low} to {high}")
    return int(text)
