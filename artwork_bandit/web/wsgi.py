"""`artwork_bandit.web.wsgi:app` for any WSGI server; settings come from the environment or file.

The application is made at the first request, so that importing this does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from artwork_bandit import settings
from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.web import bodies, logs
from artwork_bandit.web.app import create_app

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_lock = threading.Lock()
_made: list[Flask] = []


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request: with 503 as long as the database, without which nothing can be chosen,
    has never answered."""
    try:
        answers: WSGIApplication = ready()
    except StoreUnavailable as error:
        answers = bodies.refusal(error, environ.get("PATH_INFO", ""))
    return answers(environ, start_response)


def ready() -> Flask:
    """Return this process's application, making it if nobody has."""
    with _lock:
        if not _made:
            chosen = settings.load()
            logs.configure(chosen.log_level)
            _made.append(create_app(chosen))
        return _made[0]
