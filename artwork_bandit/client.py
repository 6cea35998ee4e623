"""A client for Python services: choices with a default picture, events that get there.

    client = Client("http://bandit.internal:8800", default_uri=lambda title: f"/art/{title}.jpg")
    page = client.choose("m-17", ["stranger-things", "house-of-cards"], context={"device": "tv"})
    client.shown(page.pictures[0])
    client.event("play", page.pictures[0], seconds_watched=2700, duration_seconds=3000)
    client.close()

Choosing never fails the page: whatever is wrong with the service, within `timeout_seconds` there
are default pictures; what is wrong with the question itself raises Refused. Events are sent in
batches by a thread, again and again with the same event ids until they are acknowledged, so that
none counts twice. Standard library only.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import http.client
import json
import logging
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from artwork_bandit.transport import Transport

log = logging.getLogger(__name__)

UNREACHABLE = "unreachable"
"""Reason of a default picture that the client itself gave."""
LARGEST_BATCH = 5_000
LARGEST_BYTES = 900_000
"""The service takes 4 MiB, proxies often no more than 1."""
REFUSALS = (400, 409, 413, 422)
"""How the service says that what it was sent breaks a rule; other answers are a gateway's, or of a
service that is not there yet."""
TOO_LARGE = 413
LONGEST_PAUSE = 30.0
EVENTS_SECONDS = 15.0
LAST_SECONDS = 2.0
"""How long the end of the process waits for events, if nobody has closed the client."""


class Refused(Exception):
    """The service says that the request breaks a rule: the caller's mistake, no use repeating."""


def _log_rejected(events: list[dict[str, Any]]) -> None:
    for event in events:
        log.warning("event rejected: %s %s", event.get("event_id"), event["reason"])


class Unavailable(Exception):
    """The service did not answer, or cannot now; the same request may work later."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds the service asks to wait; None if it did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What to show for one title."""

    title_id: str
    variant_id: str | None
    uri: str | None
    decision_id: str | None
    """None if the service was not reached: there is nothing to report about it."""
    propensity: float | None
    fallback: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An answer: one picture per title asked for, in that order."""

    request_id: str
    cell: str | None
    model_version: int | None
    pictures: list[Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a batch of events."""

    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]]


@contextlib.contextmanager
def _as_agreed() -> Iterator[None]:
    """Say that whoever answered is not this service."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"the answer is none of this service: {error!r}") from error


def _page(answer: Any) -> Page:
    with _as_agreed():
        pictures = [
            Picture(
                title_id=choice["title_id"], variant_id=choice["variant_id"], uri=choice["uri"],
                decision_id=choice["decision_id"], propensity=choice["propensity"],
                fallback=choice["fallback"], reason=choice["reason"],
            )
            for choice in answer["choices"]
        ]  # fmt: skip
        return Page(
            request_id=answer["request_id"], cell=answer["cell"],
            model_version=answer["model_version"], pictures=pictures,
        )  # fmt: skip


def _default(title_id: str) -> Picture:
    return Picture(
        title_id=title_id, variant_id=None, uri=None, decision_id=None, propensity=None,
        fallback=True, reason=UNREACHABLE,
    )  # fmt: skip


class Client:
    """One service; may be used by many threads."""

    def __init__(
        self, address: str, *, timeout_seconds: float = 0.5, flush_seconds: float = 1.0,
        most_waiting: int = 100_000, default_uri: Callable[[str], str | None] = lambda _title: None,
        on_rejected: Callable[[list[dict[str, Any]]], None] | None = None,
    ) -> None:  # fmt: skip
        """`address` is like `http://HOST:8800`, else ValueError. `on_rejected` is told of events
        that the service will never take, in the sender thread; they are logged without.

        Events beyond `most_waiting` are dropped, the newest first, and counted in `dropped`.
        """
        self._transport = Transport(address)
        self._timeout = timeout_seconds
        self._flush_seconds = flush_seconds
        self._default_uri = default_uri
        self._on_rejected = on_rejected or _log_rejected
        self._waiting: queue.Queue[tuple[dict[str, Any], int]] = queue.Queue(most_waiting)
        """Events and their size as JSON."""
        self._held: tuple[dict[str, Any], int] | None = None
        """An event that did not fit into the batch before."""
        self._stopped = threading.Event()
        self._unsent = 0
        self.dropped = 0
        """Events given up because too many waited or the client was closed before they got out."""
        self.rejected = 0
        """Events that the service will never take."""
        self._sender: threading.Thread | None = None
        self._starting = threading.Lock()

    def choose(
        self, member_id: str, title_ids: Sequence[str], *, slot: str = "artwork",
        context: Mapping[str, Any] | None = None, request_id: str | None = None,
    ) -> Page:  # fmt: skip
        """Return a picture per title, within `timeout_seconds` once the service's name has been
        looked up; raises Refused, and TypeError or ValueError for what is no JSON."""
        request_id = request_id or uuid.uuid4().hex
        body = {
            "request_id": request_id, "member_id": member_id, "slot": slot,
            "title_ids": list(title_ids), "context": dict(context or {}),
        }  # fmt: skip
        deadline = time.monotonic() + self._timeout
        page = Page(
            request_id=request_id, cell=None, model_version=None,
            pictures=[_default(title_id) for title_id in title_ids],
        )  # fmt: skip
        for _ in range(2):
            if time.monotonic() >= deadline:
                break
            with contextlib.suppress(Unavailable):
                page = _page(self._post("/v1/choices", body, deadline))
                break
        pictures = [
            p if p.uri else replace(p, uri=self._default_uri(p.title_id)) for p in page.pictures
        ]
        return replace(page, pictures=pictures)

    def shown(self, picture: Picture) -> None:
        """Say that a picture was on screen."""
        self.event("impression", picture)

    def event(self, kind: str, picture: Picture, **fields: Any) -> None:
        """Queue an event about a picture; one the service never chose is nobody's business."""
        if picture.decision_id is not None:
            self.report({"type": kind, "decision_id": picture.decision_id, **fields})

    def merge(self, visitor_id: str, member_id: str) -> None:
        """Say, at sign-in, that an anonymous visitor is this member."""
        self.report({"type": "merge", "visitor_id": visitor_id, "member_id": member_id})

    def report(self, event: Mapping[str, Any]) -> None:
        """Queue an event as the API has it; its id and time are added where they are missing.

        Raises TypeError or ValueError for what is no JSON.
        """
        whole = {
            "event_id": uuid.uuid4().hex,
            "occurred_at": dt.datetime.now(dt.UTC).isoformat(),
            **event,
        }
        size = len(json.dumps(whole, allow_nan=False))
        with self._starting:
            if self._stopped.is_set():
                self.dropped += 1
                return
            if self._sender is None:
                self._sender = threading.Thread(target=self._send, name="events", daemon=True)
                self._sender.start()
                atexit.register(self.close, LAST_SECONDS)
            try:
                self._waiting.put_nowait((whole, size))
                self._unsent += 1
            except queue.Full:
                self.dropped += 1

    def send(self, events: Sequence[Mapping[str, Any]]) -> Report:
        """Send events now and return what became of them; raises Unavailable and Refused."""
        deadline = time.monotonic() + EVENTS_SECONDS
        answer = self._post("/v1/events", {"events": list(events)}, deadline)
        with _as_agreed():
            return Report(
                accepted=answer["accepted"],
                duplicates=answer["duplicates"],
                rejected=answer["rejected"],
            )

    def flush(self, seconds: float = 10.0) -> bool:
        """Wait until all queued events are acknowledged; tell whether they are."""
        deadline = time.monotonic() + seconds
        while self._unsent and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self._unsent

    def close(self, seconds: float = 10.0) -> None:
        """Send what waits, for so long at most."""
        atexit.unregister(self.close)
        self.flush(seconds)
        self._stopped.set()
        if self._sender is not None:
            self._sender.join(timeout=1)
        with self._starting:
            self.dropped += self._unsent
            self._unsent = 0
        self._transport.close()

    def _send(self) -> None:
        while not self._stopped.is_set():
            waiting, failures = [self._gather()], 0
            while waiting and not self._stopped.is_set():
                batch = waiting.pop()
                try:
                    rejected = self.send(batch).rejected if batch else []
                except Unavailable as error:
                    waiting.append(batch)
                    pause = min(LONGEST_PAUSE, 0.2 * 2**failures) * random.uniform(0.5, 1.0)
                    self._stopped.wait(max(pause, error.retry_after or 0.0))
                    failures += 1
                    continue
                except Refused as error:
                    if len(batch) > 1:  # because of a few of them, perhaps
                        half = len(batch) // 2
                        waiting += [batch[half:], batch[:half]]
                        continue
                    rejected = [{"index": 0, "reason": str(error)}]
                if rejected:
                    self._reject([batch[r["index"]] | {"reason": r["reason"]} for r in rejected])
                with self._starting:
                    self._unsent -= len(batch)

    def _reject(self, events: list[dict[str, Any]]) -> None:
        self.rejected += len(events)
        try:
            self._on_rejected(events)
        except Exception:  # the caller's; the events after these must still go
            log.exception("on_rejected_failed")

    def _gather(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        size = 0
        with contextlib.suppress(queue.Empty):
            event, size = self._held or self._waiting.get(timeout=0.1)
            self._held = None
            batch.append(event)
            deadline = time.monotonic() + self._flush_seconds
            while len(batch) < LARGEST_BATCH:
                left = max(0.0, deadline - time.monotonic())
                event, more = self._waiting.get(timeout=left)
                if size + more > LARGEST_BYTES:
                    self._held = (event, more)
                    break
                batch.append(event)
                size += more
        return batch

    def _post(self, path: str, body: Mapping[str, Any], deadline: float) -> Any:
        """Return what the service answers."""
        data = json.dumps(body, allow_nan=False)
        try:
            status, after, answer = self._transport.post(path, data, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(f"POST {path}: {error!r}") from error
        if status == 200:
            return answer
        said = answer.get("detail", "") if isinstance(answer, dict) else ""
        detail = f"POST {path} answered {status}: {said}"
        if status == TOO_LARGE or (status in REFUSALS and said):
            raise Refused(detail)
        raise Unavailable(detail, float(after) if after.isdigit() else None)
