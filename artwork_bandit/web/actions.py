"""What people change on the pages: plain forms, so that they work without JavaScript.

Every change is recorded with who and when, shown where it was made with a way to undo it, and in
force on running servers within seconds. A form must come from one of our own pages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.datastructures import FileStorage

from artwork_bandit.domain import MATURITY_LEVELS, Variant, VariantStatus
from artwork_bandit.errors import Conflict, InvalidInput, Overtaken
from artwork_bandit.operations import catalog_forms, uploads
from artwork_bandit.operations.editing import Editor, checked, fingerprint
from artwork_bandit.slots import slot_named
from artwork_bandit.store import catalog, changes, registry, rollups
from artwork_bandit.web import views
from artwork_bandit.web.api import now, service

actions = Blueprint("actions", __name__)
AUTHOR_DAYS = 365
LISTS = ("countries", "languages")
MOMENTS = ("starts_at", "ends_at")
PLAIN = {
    "countries": "countries are two letters each, such as US DE",
    "languages": "languages are two or three letters each, such as en fr",
    "name": "a name has 1 to 200 characters, without control characters",
    "uri": "an address has at most 2,000 characters, without control characters",
    "maturity": "choose one of the maturity levels",
}
"""What is wrong with a field, in words."""
_FEATURE = re.compile(r"^\s*([^:=]+?)\s*[:=]\s*(.*?)\s*$")


@actions.before_request
def require_our_page() -> None:
    if request.method == "POST" and not views.same_origin():
        raise InvalidInput("this form was sent from another site; use the page of this one")


@actions.post("/titles/<title_id>/variants")
def add_variant(title_id: str) -> Response:
    slot = slot_named(request.form.get("slot", "artwork")).name
    who, file = views.author(), request.files.get("file")
    given = _variant_form(needs_address=not _has(file))
    variant_id = request.form.get("variant_id", "").strip()
    if not variant_id:
        raise InvalidInput("a variant needs an id: short, and never used before")
    checked(variant_id, catalog_forms.Id, "the id")
    with service().store.read() as connection:
        if catalog.by_ids(connection, [variant_id]):
            raise Conflict(f"there is a variant {variant_id!r} already; choose another id")
        catalog.get_title(connection, title_id)
    uri = _kept(file) if _has(file) else given.uri
    form = msgspec.structs.replace(given, uri=uri, slot=slot)
    with service().store.write() as connection:
        variant = form.to_domain(title_id, variant_id, None)
        change = Editor(connection=connection, author=who, now=now()).put_variant(variant)
    return _done("pages.title", change, title_id=title_id, slot=slot)


@actions.post("/titles/<title_id>/variants/<variant_id>")
def change_variant(title_id: str, variant_id: str) -> Response | tuple[str, int]:
    """Change what the form has: a form with a status alone pauses, resumes or retires."""
    who, form, file = views.author(), request.form, request.files.get("file")
    with service().store.read() as connection:
        before = catalog.get_variant(connection, title_id, variant_id)
    fields: dict[str, Any] = {}
    if set(form) - {"author"} == {"status"}:
        fields["status"] = _status()
    else:
        given = _variant_form(needs_address=False, before=before)
        fields = given.changes() | {"name": given.name}
        for name in MOMENTS:
            if form.get(name, "") == form_moment(getattr(before, name)):
                fields[name] = getattr(before, name)  # to the second, which the form does not show
        variant = msgspec.structs.replace(given, uri=given.uri or before.uri, slot=before.slot)
        fields["features"] = variant.to_domain(title_id, variant_id, before).features
        fields["uri"] = _kept(file) if _has(file) else variant.uri
    try:
        with service().store.write() as connection:
            editor = Editor(connection=connection, author=who, now=now())
            seen = form.get("seen")
            change = editor.patch_variant(title_id, variant_id, fields, seen=seen)
    except Overtaken:
        return _edit_page(title_id, variant_id, typed=fields), 409
    return _done("pages.title", change, title_id=title_id, slot=before.slot)


@actions.get("/titles/<title_id>/variants/<variant_id>/edit")
def edit_variant(title_id: str, variant_id: str) -> str:
    return _edit_page(title_id, variant_id)


def _edit_page(title_id: str, variant_id: str, typed: Mapping[str, Any] | None = None) -> str:
    """Return the form; with `typed`, which another change has overtaken, it holds that, and says
    where it differs from what is there now."""
    with service().store.read() as connection:
        title = catalog.get_title(connection, title_id)
        variant = catalog.get_variant(connection, title_id, variant_id)
        history = changes.latest(connection, title_id=title_id, variant_id=variant_id)
    draft = dataclasses.replace(variant, **(typed or {}))
    differing = [
        (name, getattr(variant, name), getattr(draft, name))
        for name in typed or ()
        if getattr(variant, name) != getattr(draft, name)
    ]
    return render_template(
        "edit.html", title=title, variant=draft, slot=variant.slot, history=history,
        seen=fingerprint(variant), features="\n".join(feature_lines(draft)),
        statuses=list(VariantStatus), levels=list(MATURITY_LEVELS), overtaken=typed is not None,
        differing=differing, uploads=bool(service().settings.media_dir),
    )  # fmt: skip


@actions.get("/titles/<title_id>/variants/new")
def new_variant(title_id: str) -> str:
    slot = slot_named(request.args.get("slot", "artwork")).name
    with service().store.read() as connection:
        title = catalog.get_title(connection, title_id)
    return render_template(
        "edit.html", title=title, variant=None, slot=slot, history=[], features="",
        statuses=list(VariantStatus), levels=list(MATURITY_LEVELS),
        uploads=bool(service().settings.media_dir),
    )  # fmt: skip


@actions.post("/titles/<title_id>/exploration")
def exploration(title_id: str) -> Response:
    paused, who = request.form.get("paused") == "yes", views.author()
    with service().store.write() as connection:
        editor = Editor(connection=connection, author=who, now=now())
        change = editor.pause_exploration(title_id, paused)
    return _done("pages.title", change, title_id=title_id, slot=_slot())


@actions.post("/titles/<title_id>/notes")
def note_on_title(title_id: str) -> Response:
    return _done("pages.title", _note(title_id), title_id=title_id, slot=_slot())


@actions.post("/notes")
def note() -> Response:
    return _done("policies.page", _note(None), slot=_slot())


@actions.route("/models/<int(max=9007199254740991):version>/promote", methods=["GET", "POST"])
def promote(version: int) -> str | Response:
    with service().store.read() as connection:
        model = registry.get(connection, version)
        registry.require_kept(version, model.deleted_at)
        live = registry.live(connection, model.slot)
    if request.method == "GET":
        return render_template("confirm.html", slot=model.slot, model=model, live=live, back=False)
    who = views.author()
    with service().store.write() as connection:
        editor = Editor(connection=connection, author=who, now=now())
        change = editor.promote(version, seen=_seen_live())
    return _done("policies.page", change, slot=model.slot)


@actions.route("/slots/<slot>/rollback", methods=["GET", "POST"])
def roll_back(slot: str) -> str | Response:
    name = slot_named(slot).name
    if request.method == "GET":
        with service().store.read() as connection:
            live, challenger = (
                registry.live(connection, name),
                registry.challenger(connection, name),
            )
            before = None if live is None else registry.previous(connection, name)
        return render_template(
            "confirm.html", slot=name, model=None, live=live, back=True, before=before,
            challenger=challenger,
        )  # fmt: skip
    who = views.author()
    with service().store.write() as connection:
        editor = Editor(connection=connection, author=who, now=now())
        change = editor.roll_back(name, seen=_seen_live())
    return _done("policies.page", change, slot=name)


@actions.post("/changes/<int(max=9007199254740991):change_id>/undo")
def undo(change_id: int) -> Response:
    who = views.author()
    with service().store.write() as connection:
        editor = Editor(connection=connection, author=who, now=now())
        made = editor.undo(change_id)
        change = changes.get(connection, made)
    slot = change.slot or "artwork"
    if change.title_id is None:
        return _done("policies.page", made, slot=slot)
    return _done("pages.title", made, title_id=change.title_id, slot=slot)


def feature_lines(variant: Variant) -> dict[str, str]:
    """Return features as they are edited, line -> name: a line each, lists by commas."""
    return {f"{name}: {value}": name for name, value in views.described(variant.features)}


def _variant_form(
    *, needs_address: bool, before: Variant | None = None
) -> catalog_forms.VariantForm:
    """Return the form's fields; raises InvalidInput naming the one that is wrong."""
    form = request.form
    uri = form.get("uri", "").strip()
    if needs_address and not uri:
        raise InvalidInput("choose a file, or give the address of one")
    kept = before is not None and uri == before.uri
    if uri and not kept and (not uri.startswith(("https://", "/")) or uri.startswith("//")):
        raise InvalidInput(
            "the address must begin with https:// or /: other pictures are not shown"
        )
    if before is not None and not uri:
        uri = before.uri
    given: dict[str, Any] = {
        "uri": uri, "name": form.get("name", "").strip() or None, "status": _status().value,
        "is_default": "is_default" in form, "maturity": form.get("maturity") or None,
        "features": _features(form.get("features", ""), before),
    }  # fmt: skip
    for name in LISTS:
        words = re.split(r"[\s,]+", form.get(name, "").strip())
        some = [w.upper() if name == "countries" else w.lower() for w in words if w]
        given[name] = some or None
    for name in MOMENTS:
        given[name] = _moment(name)
    try:
        return msgspec.convert(given, catalog_forms.VariantForm)
    except msgspec.ValidationError as error:
        field = next((name for name in PLAIN if f"$.{name}" in str(error)), None)
        raise InvalidInput(PLAIN[field] if field else catalog_forms.explained(error)) from error


def _features(text: str, before: Variant | None) -> dict[str, Any]:
    """Return the features of lines `name: value`; values with commas are lists, and a line that
    nobody touched stays what it was."""
    found: dict[str, Any] = {}
    untouched = {} if before is None else feature_lines(before)
    for line in filter(str.strip, text.splitlines()):
        if before is not None and (name := untouched.get(line.strip())) is not None:
            found[name] = before.features[name]
            continue
        matched = _FEATURE.match(line)
        if matched is None:
            raise InvalidInput(f"a feature is a line like `genre: TV Horror`, not {line[:40]!r}")
        name, value = matched.groups()
        if name in found:
            raise InvalidInput(f"feature {name!r} is there twice; several values are one line")
        found[name] = _feature_value(value)
    return found


def _feature_value(text: str) -> Any:
    if "," in text:
        return [part.strip() for part in text.split(",") if part.strip()]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else text
    except ValueError:
        return text


@actions.app_template_filter("form_moment")
def form_moment(value: dt.datetime | None) -> str:
    """Return a time as forms have it: UTC, to the minute."""
    return "" if value is None else f"{value:%Y-%m-%dT%H:%M}"


def _moment(name: str) -> str | None:
    """Return a form's local time, which is UTC, as RFC 3339."""
    text = request.form.get(name, "").strip()
    if not text:
        return None
    try:
        return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).isoformat()
    except ValueError as error:
        raise InvalidInput(f"{name} must be a time like 2026-11-25T20:00") from error


def _status() -> VariantStatus:
    text = request.form.get("status", VariantStatus.ACTIVE.value)
    try:
        return VariantStatus(text)
    except ValueError as error:
        raise InvalidInput(f"status must be one of {[s.value for s in VariantStatus]}") from error


def _seen_live() -> int | None:
    """Return the model that the form said is live, 0 for none; None if it said nothing."""
    text = request.form.get("seen", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None


def _slot() -> str:
    return slot_named(request.form.get("slot", "artwork")).name


def _note(title_id: str | None) -> int:
    who = views.author()
    try:
        day = dt.date.fromisoformat(request.form.get("day", ""))
    except ValueError as error:
        raise InvalidInput("a note is of a day like 2026-11-25") from error
    at = rollups.day_of(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC))
    with service().store.write() as connection:
        editor = Editor(connection=connection, author=who, now=now())
        return editor.write_note(_slot(), title_id, at, request.form.get("text", ""))


def _has(file: FileStorage | None) -> bool:
    return file is not None and bool(file.filename)


def _kept(file: FileStorage | None) -> str:
    assert file is not None, "asked for with _has"
    with contextlib.closing(file):
        return uploads.save(service().settings.media_dir, file.read(uploads.LARGEST_BYTES + 1))


def _done(endpoint: str, change: int | None, **where: str) -> Response:
    """Send the browser back to the page, which says what was done."""
    said = "nothing" if change is None else str(change)
    answer = redirect(url_for(endpoint, done=said, **where), 303)  # type: ignore[arg-type]
    assert isinstance(answer, Response)
    if not service().settings.user_header:
        answer.set_cookie(
            views.AUTHOR_COOKIE, views.author_cookie(request.form.get("author", "").strip()),
            max_age=AUTHOR_DAYS * 86_400, httponly=True, samesite="Strict",
        )  # fmt: skip
    return answer
