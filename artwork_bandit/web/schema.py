"""The bodies of the HTTP API, as msgspec types: validation and OpenAPI come from these.

Titles and variants are in `operations.catalog_forms`, which files share.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from artwork_bandit.domain import Context, Event, EventType
from artwork_bandit.errors import InvalidInput
from artwork_bandit.operations.catalog_forms import (
    END,
    Country,
    Id,
    Maturity,
    Moment,
    Name,
    Seconds,
    Short,
    Text,
    Weight,
    explained,
    worded,
)
from artwork_bandit.serving.chooser import Question
from artwork_bandit.serving.decision_ids import REQUEST_ID
from artwork_bandit.serving.ingest import Incoming
from artwork_bandit.slots import slot_named

MOST_EXPLAINED, MOST_EVENTS = 50, 5_000
RequestId = Annotated[
    str,
    worded(f"^{REQUEST_ID.pattern}" + END, "an id of at most 64 letters, digits, `-` and `_`"),
]
LanguageTag = Annotated[
    str, worded("^[A-Za-z]{2,3}([-_].*)?" + END, "a language such as en or en-US")
]


class ContextBody(Struct, forbid_unknown_fields=True):
    """What is known before choosing; every field is optional."""

    device: Short | None = None
    country: Country | None = None
    language: Annotated[LanguageTag, Meta(max_length=35)] | None = None
    surface: Short | None = None
    maturity: Maturity | None = None
    local_time: Moment | None = None
    genres: Annotated[dict[Short, Weight], Meta(max_length=200)] | None = None
    """Overrides the stored profile."""

    def to_domain(self) -> Context:
        language = self.language and self.language.replace("_", "-").split("-")[0].lower()
        return Context(
            device=self.device,
            country=self.country,
            language=language,
            surface=self.surface,
            maturity=self.maturity,
            hour=None if self.local_time is None else self.local_time.hour,
            weekday=None if self.local_time is None else self.local_time.weekday(),
            genres=self.genres or {},
        )


class ChoicesBody(Struct, forbid_unknown_fields=True):
    """One slot, many titles."""

    member_id: Name
    title_ids: Annotated[list[Id], Meta(min_length=1, max_length=2000)]
    request_id: RequestId | None = None
    """The client's own; repeating it repeats the answer."""
    slot: Short = "artwork"
    context: ContextBody = msgspec.field(default_factory=ContextBody)
    confirm: Literal["client", "server"] = "client"
    explain: bool = False
    """Say with each choice why it was made; at most 50 titles."""
    preview: bool = False
    """For a tester: answered like any other, in no log, never learned from."""
    force: Annotated[list[Id], Meta(max_length=2000)] | None = None
    """Variant ids that a preview shows, whatever the policy and the eligibility rules say."""
    only: Annotated[list[Id], Meta(max_length=10_000)] | None = None
    """Variant ids the client can show."""
    except_: Annotated[list[Id], Meta(max_length=10_000)] | None = msgspec.field(
        default=None, name="except"
    )
    """Variant ids the client cannot show."""

    def to_domain(self, request_id: str) -> Question:
        if len(set(self.title_ids)) < len(self.title_ids):
            raise InvalidInput("title_ids names a title twice; ask for each once")
        if self.explain and len(self.title_ids) > MOST_EXPLAINED:
            raise InvalidInput(
                f"explain is for at most {MOST_EXPLAINED} titles at once, not {len(self.title_ids)}"
            )
        if self.force is not None and not self.preview:
            raise InvalidInput("force is for previews; set preview to true, or leave force out")
        return Question(
            request_id=self.request_id or request_id,
            member_id=self.member_id,
            slot=slot_named(self.slot),
            title_ids=tuple(self.title_ids),
            context=self.context.to_domain(),
            confirm=self.confirm,
            only=None if self.only is None else frozenset(self.only),
            excluded=None if self.except_ is None else frozenset(self.except_),
            preview=self.preview,
            force=self.force or (),
            explain=self.explain,
        )


class ReasonBody(Struct):
    context: str
    """What of the member or the moment: a context column, or `any member`."""
    variant: str
    """What of the picture: a variant column, or `this very variant`."""
    value: float
    """Predicted reward it adds over the mean of the variants it could have been."""


class VariantScoreBody(Struct):
    variant_id: str
    probability: float
    score: float | None


class ExplanationBody(Struct):
    """A choice made again from what is logged."""

    same: bool
    """Whether it came out the same, with the same propensity."""
    variants: list[VariantScoreBody]
    reasons: list[ReasonBody]


class ChoiceBody(Struct, omit_defaults=True):
    title_id: str
    variant_id: str | None
    uri: str | None
    decision_id: str
    propensity: float | None
    fallback: bool
    reason: str | None
    explanation: ExplanationBody | None = None
    """Only where it was asked for and the choice can be made again."""


class AnswerBody(Struct):
    request_id: str
    cell: str
    policy: str
    model_version: int | None
    choices: list[ChoiceBody]


class DecisionEventBody(Struct):
    event_id: str
    type: str
    occurred_at: dt.datetime
    seconds_watched: float | None
    unjoined: str | None
    """Why it counts for no reward; null if it may."""


class UnjoinedEventBody(Struct):
    event_id: str
    reason: str | None
    """Why it counts for no reward."""
    type: str
    occurred_at: dt.datetime
    member_id: str | None
    title_id: str | None
    request_id: str | None
    """Of the decision that it names, or followed."""


class UnjoinedBody(Struct):
    """Events that count for nothing, or not yet."""

    by_reason: dict[str, int]
    latest: list[UnjoinedEventBody]
    """Of each reason those that happened last."""


class DecisionBody(Struct):
    """What was chosen, from what, why, and what came of it."""

    decision_id: str
    request_id: str
    member_id: str
    occurred_at: dt.datetime
    slot: str
    cell: str
    policy: str
    model_version: int | None
    context: dict[str, Any]
    title_id: str
    variant_id: str | None
    propensity: float | None
    fallback: bool
    reason: str | None
    action_set: list[str] | None
    explanation: ExplanationBody | None
    not_explained: str | None
    """Why the choice cannot be made again."""
    shown_at: dt.datetime | None
    events: list[DecisionEventBody]
    reward: float | None
    reward_rule: str | None
    """The version of the rule that it was settled under."""
    why_no_reward: str | None
    """Null if there is one."""
    counts_for: str | None
    """The earlier decision of the draw period that has the reward, if one has."""


class EventBody(Struct, forbid_unknown_fields=True):
    """One thing a member did."""

    event_id: Name
    """The client's idempotency key."""
    type: EventType
    occurred_at: Moment
    decision_id: Annotated[str, Meta(max_length=200)] | None = None
    member_id: Name | None = None
    title_id: Id | None = None
    seconds_watched: Seconds | None = None
    duration_seconds: Seconds | None = None
    query: Text | None = None
    device: Short | None = None
    """Where it happened; that of its decision's context, if it is not given."""
    local_time: Moment | None = None
    """When it happened, with the member's own offset from UTC: its hour and weekday are a habit."""
    visitor_id: Name | None = None
    """Of a `merge`, at sign-in: the anonymous visitor who is `member_id`."""

    def to_domain(self, index: int) -> Incoming:
        event = Event(
            event_id=self.event_id,
            type=self.type,
            occurred_at=self.occurred_at.astimezone(dt.UTC),
            member_id=self.member_id,
            title_id=self.title_id,
            seconds_watched=self.seconds_watched,
            duration_seconds=self.duration_seconds,
            query=self.query,
            device=self.device,
            hour=None if self.local_time is None else self.local_time.hour,
            weekday=None if self.local_time is None else self.local_time.weekday(),
            visitor_id=self.visitor_id,
        )
        return Incoming(index=index, event=event, decision_id=self.decision_id)


class EventsBody(Struct, forbid_unknown_fields=True):
    """Up to 5,000 events; each is judged by itself."""

    events: Annotated[list[EventBody], Meta(max_length=MOST_EVENTS)]


class RawEventsBody(Struct, forbid_unknown_fields=True):
    """The same, undecoded: one bad event must not lose its neighbours."""

    events: Annotated[list[msgspec.Raw], Meta(max_length=MOST_EVENTS)]


def events_apart(data: bytes) -> list[msgspec.Raw] | None:
    """Return each event of a body of which only some parts are not JSON, such as half of an emoji,
    or NaN; None where events cannot be told apart."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or set(body) != {"events"}:
        return None
    events = body["events"]
    if not isinstance(events, list) or len(events) > MOST_EVENTS:
        return None
    return [msgspec.Raw(json.dumps(event).encode()) for event in events]


class RejectedBody(Struct):
    index: int
    event_id: str | None
    reason: str


class ReportBody(Struct):
    accepted: int
    duplicates: int
    rejected: list[RejectedBody]


class Problem(Struct, omit_defaults=True):
    """RFC 9457."""

    title: str
    status: int
    type: str = "about:blank"
    detail: str = ""


def require_id(what: str, value: str) -> str:
    """Return an identifier from an address; raises InvalidInput."""
    try:
        return msgspec.convert(value, Id)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{what} is not valid: {explained(error)}") from error
