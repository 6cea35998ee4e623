"""Reading and writing HTTP bodies: JSON in, JSON or problem+json (RFC 9457) out."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from artwork_bandit.errors import (
    ArtworkBanditError,
    Conflict,
    InvalidInput,
    NotFound,
    StoreUnavailable,
)
from artwork_bandit.web.schema import Problem

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_AFTER_SECONDS = 2
LONGEST_DETAIL = 300
"""Characters; what a client sent never comes back whole."""
_STATUS: dict[type[ArtworkBanditError], tuple[int, str]] = {
    InvalidInput: (422, "The request breaks a rule"),
    NotFound: (404, "Not found"),
    Conflict: (409, "Conflict"),
    StoreUnavailable: (503, "The database cannot answer now"),
}


def read(kind: type[T]) -> T:
    """Return the request's JSON body as `kind`; raises InvalidInput without echoing it."""
    data = request.get_data(cache=False)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Malformed(f"the body is not JSON: {error}") from error


def write(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, mimetype="application/json")


def problem(status: int, title: str, detail: str = "") -> Response:
    shown = detail if len(detail) <= LONGEST_DETAIL else detail[:LONGEST_DETAIL] + "…"
    body = msgspec.json.encode(Problem(title=title, status=status, detail=shown))
    response = Response(body, status, mimetype="application/problem+json")
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def install_error_handlers(app: Flask) -> None:
    @app.errorhandler(ArtworkBanditError)
    def ours(error: ArtworkBanditError) -> Response:
        if isinstance(error, _Malformed):
            return problem(400, "The body is not JSON", str(error))
        status, title = _STATUS.get(type(error), (500, "Internal error"))
        if status >= 500:
            log.error("request_failed", extra={"path": request.path, "error": str(error)})
        return problem(status, title, str(error))

    @app.errorhandler(HTTPException)
    def framework(error: HTTPException) -> Response:
        return problem(error.code or 500, error.name, error.description or "")

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.exception("request_crashed", extra={"path": request.path})
        return problem(500, "Internal error", "this is our fault and has been logged")


class _Malformed(InvalidInput):
    """A body that is not JSON at all."""
