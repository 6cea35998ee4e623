"""Failures: problem+json for programs, a page in words for people."""

from __future__ import annotations

import msgspec
from flask import Flask, Response, render_template, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from artwork_bandit.web import bodies
from artwork_bandit.web.schema import Problem

FOR_PROGRAMS = ("/v1/", "/openapi.json", "/metrics", "/livez", "/readyz", "/version", "/static/")


def install(app: Flask) -> None:
    app.register_error_handler(Exception, answer)


def for_people(path: str, accept: str) -> bool:
    """Tell whether a page is wanted; a program takes anything."""
    accepted = parse_accept_header(accept, MIMEAccept)
    return (
        not path.startswith(FOR_PROGRAMS) and accepted.accept_html and accepted.best != "*/*"
    )  # fmt: skip


def answer(error: Exception) -> Response:
    """Return what became of the request that is being answered."""
    found = bodies.refusal(error, request.path)
    if not for_people(request.path, request.headers.get("Accept", "")):
        return found
    problem = msgspec.json.decode(found.get_data(), type=Problem)
    page = render_template("error.html", problem=problem, slot=None)
    found.set_data(page)
    found.content_type = "text/html; charset=utf-8"
    return found
