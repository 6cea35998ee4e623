"""Reading and writing HTTP bodies: JSON in, JSON or problem+json (RFC 9457) out."""

from __future__ import annotations

import logging
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from flask import Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from artwork_bandit.errors import (
    ArtworkBanditError,
    Conflict,
    InvalidInput,
    NotFound,
    Overloaded,
    Overtaken,
    StoreUnavailable,
)
from artwork_bandit.operations.catalog_forms import explained
from artwork_bandit.web.schema import Problem

log = logging.getLogger(__name__)
T = TypeVar("T")

TOO_LARGE = RequestEntityTooLarge(
    "what was sent is larger than may be sent here (a file: 32 MiB); send less at once"
)
TOO_SLOW = RequestTimeout("the body did not arrive in time; send it again")
RETRY_AFTER_SECONDS = 2
LONGEST_DETAIL = 300
"""Characters; what a client sent never comes back whole."""
_STATUS: dict[type[ArtworkBanditError], tuple[int, str]] = {
    InvalidInput: (422, "The request breaks a rule"),
    NotFound: (404, "Not found"),
    Conflict: (409, "Conflict"),
    Overtaken: (409, "Conflict"),
    Overloaded: (503, "Too much at once"),
    StoreUnavailable: (503, "The database cannot answer now"),
}


def read(kind: type[T]) -> T:
    """Return the request's JSON body as `kind`; raises InvalidInput without echoing it."""
    return decode(request.get_data(cache=False), msgspec.json.Decoder(kind))


def decode(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Return a decoded JSON body; raises InvalidInput without echoing it."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise InvalidInput(explained(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error


def user(header: str) -> str:
    """Return whom the proxy in front names in a header, percent-encoded or as it is; empty if it
    has none to, or names nobody who can be read."""
    return unquote(request.headers.get(header, "")) if header else ""


def write(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, mimetype="application/json")


def problem(status: int, title: str, detail: str = "") -> Response:
    shown = detail if len(detail) <= LONGEST_DETAIL else detail[:LONGEST_DETAIL] + "…"
    body = msgspec.json.encode(Problem(title=title, status=status, detail=shown))
    response = Response(body, status, mimetype="application/problem+json")
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def refusal(error: Exception, path: str) -> Response:
    """Return the answer to a request that failed; what is our fault is logged."""
    match error:
        case Malformed():
            return problem(400, "The body is not JSON", str(error))
        case ArtworkBanditError():
            status, title = _STATUS.get(type(error), (500, "Internal error"))
            if status >= 500 and not isinstance(error, Overloaded):  # those are counted
                log.error("request_failed", extra={"path": path, "error": str(error)})
            return problem(status, title, str(error))
        case HTTPException():
            shown = problem(error.code or 500, error.name, error.description or "")
            shown.headers.extend(h for h in error.get_headers() if h[0] == "Allow")
            return shown
        case _:
            log.error("request_crashed", extra={"path": path}, exc_info=error)
            return problem(500, "Internal error", "this is our fault and has been logged")


class Malformed(InvalidInput):
    """A body that is not JSON at all."""
