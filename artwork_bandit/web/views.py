"""What the pages share: the reader's filters, pictures, formats, and who somebody is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec
from flask import request
from markupsafe import Markup

from artwork_bandit.comparison.variants import Comparison
from artwork_bandit.domain import Variant
from artwork_bandit.errors import InvalidInput, NotFound
from artwork_bandit.operations import catalog_forms
from artwork_bandit.slots import slot_named
from artwork_bandit.store import changes, rollups
from artwork_bandit.store.engine import Connection
from artwork_bandit.web import bodies
from artwork_bandit.web.api import service

AUTHOR_COOKIE = "artwork_bandit_author"
VIDEO = (".mp4", ".webm")
JUST_NOW = dt.timedelta(minutes=10)
"""How long a page says that a change was made: its address may be shared, or kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a page shows; its address holds all of it."""

    slot: str
    since: dt.date | None
    until: dt.date | None
    """The last day, included."""
    by: str

    @staticmethod
    def of_request() -> Filters:
        """Return the filters of the address; raises InvalidInput."""
        since, until = _date("from"), _date("to")
        if since and until and since > until:
            raise InvalidInput("from must not be after to")
        return Filters(
            slot=slot_named(request.args.get("slot", "artwork")).name, since=since, until=until,
            by=request.args.get("by", "")[:40],
        )  # fmt: skip

    @property
    def first_day(self) -> int | None:
        return None if self.since is None else _day(self.since)

    @property
    def end_day(self) -> int | None:
        """The day after the last."""
        return None if self.until is None else _day(self.until) + 1

    def query(self, **changed: str) -> dict[str, str]:
        """Return the address's parameters, some of them changed."""
        values = {
            "slot": self.slot, "by": self.by,
            "from": "" if self.since is None else self.since.isoformat(),
            "to": "" if self.until is None else self.until.isoformat(),
        }  # fmt: skip
        return {name: value for name, value in (values | changed).items() if value}

    def for_api(self) -> dict[str, str]:
        """Return the parameters by which the API gives the same."""
        values = self.query()
        for name, day in (("from", self.since), ("to", self.until)):
            if day is not None:
                later = dt.timedelta(days=name == "to" and day < dt.date.max)
                values[name] = f"{day + later}T00:00:00Z"
        return values


def done(connection: Connection, title_id: str | None, now: dt.datetime) -> str | None:
    """Return the change that led here, or `nothing`: one of this title (None: of none) and just
    made, whatever the address says."""
    if request.args.get("done", "") == "nothing":
        return "nothing"
    number = change_of("done")
    if number is None:
        return None
    try:
        change = changes.get(connection, number)
    except NotFound:
        return None
    here = change.title_id == title_id and not change.undone
    return str(number) if here and now - change.changed_at < JUST_NOW else None


def change_of(name: str) -> int | None:
    """Return the change that a parameter of the address names, if it names one."""
    text = request.args.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None


def author() -> str:
    """Return who asks, for the audit trail: whom the proxy in front says, else the name that was
    typed in; raises InvalidInput if there is none."""
    header = service().settings.user_header
    if header:
        name = bodies.user(header)
        if not name:
            raise InvalidInput(
                f"the proxy in front must say who you are, in the header {header}: "
                "percent-encoded, where the name is not ASCII"
            )
    else:
        name = request.form.get("author", "").strip()
    try:
        return msgspec.convert(name, catalog_forms.Name)
    except msgspec.ValidationError as error:
        raise InvalidInput("say who you are: a name of 1 to 200 characters") from error


def known_author() -> str:
    """Return the name that was typed in last."""
    return unquote(request.cookies.get(AUTHOR_COOKIE, ""))[:200]


def author_cookie(name: str) -> str:
    return quote(name)


def same_origin() -> bool:
    """Tell whether a form was sent by one of our own pages."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.host
    except ValueError:
        return False


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as people read it; no data is a dash, not zero."""
    return "–" if value is None else f"{value:.{digits}%}"


def worth(value: float | None, bounds: Sequence[float] | None) -> str:
    """Return a reward per impression: a share of what there is where that is from 0 to 1."""
    if value is None or (bounds is not None and tuple(bounds) == (0.0, 1.0)):
        return percent(value, 2)
    return f"{value:.4g}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0%}"


def number(value: float | None) -> Markup:
    """Return a count; the browser writes it as the reader does."""
    if value is None:
        return Markup("–")
    return Markup('<data value="{}">{}</data>').format(int(value), f"{int(value):,}")


def moment(value: dt.datetime | dt.date | None) -> Markup:
    """Return a time; the browser writes it in the reader's zone and manner."""
    if value is None:
        return Markup("–")
    shown = f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, dt.datetime) else f"{value}"
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), shown)


def days(value: float | None) -> str:
    """Return how long something takes, as one would say it."""
    if value is None:
        return "nobody can tell how long it takes"
    if value >= 365:
        return "more than a year at this traffic"
    if value < 1:
        return "less than a day at this traffic"
    whole = round(value)
    return f"about {whole} day{'' if whole == 1 else 's'} at this traffic"


def sentence(reason: str, compared: Comparison) -> str:
    """Return a reason as a sentence begins; a variant's name is not altered."""
    if any(reason.startswith(named(row.variant)) for row in compared.rows):
        return reason
    return reason[:1].upper() + reason[1:]


def is_video(uri: str) -> bool:
    return uri.partition("?")[0].partition("#")[0].lower().endswith(VIDEO)


def named(variant: Variant) -> str:
    return variant.name or variant.variant_id


def described(features: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return features as words."""
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else _plain(value))
        for name, value in sorted(features.items())
    ]


def _plain(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def shown(value: Any) -> str:
    """Return a stored value as people read it."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case dict():
            return "; ".join(f"{name}: {shown(each)}" for name, each in value.items()) or "none"
        case list():
            return ", ".join(map(shown, value)) or "none"
        case float():
            return f"{value:g}"
    return str(value)


def _date(name: str) -> dt.date | None:
    text = request.args.get(name, "")
    if not text:
        return None
    try:
        return dt.date.fromisoformat(text[:10])
    except ValueError as error:
        raise InvalidInput(f"{name} must be a day like 2026-11-25") from error


def _day(date: dt.date) -> int:
    return rollups.day_of(dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC))
