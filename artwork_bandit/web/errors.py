"""Failures: problem+json for programs, a page in words for people."""

from __future__ import annotations

import msgspec
from flask import Flask, Response, render_template, request

from artwork_bandit.web import bodies
from artwork_bandit.web.schema import Problem

FOR_PROGRAMS = ("/v1/", "/openapi.json", "/metrics", "/livez", "/readyz", "/version", "/static/")


def install(app: Flask) -> None:
    app.register_error_handler(Exception, _answer)


def _answer(error: Exception) -> Response:
    found = bodies.refusal(error, request.path)
    if request.path.startswith(FOR_PROGRAMS) or not request.accept_mimetypes.accept_html:
        return found
    if request.accept_mimetypes.best == "*/*":  # a program that takes anything
        return found
    problem = msgspec.json.decode(found.get_data(), type=Problem)
    page = render_template("error.html", problem=problem, slot=None)
    found.set_data(page)
    found.content_type = "text/html; charset=utf-8"
    return found
