"""`POST /v1/choices`, the call that every page waits for, answered before Flask.

Routing, request and response objects cost Flask four times what a choice costs, so a thin WSGI
layer takes this one address, if the body's length is known; everything else goes through Flask.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from flask import Flask

from artwork_bandit.serving.service import Service
from artwork_bandit.web import bodies, schema

_decoder = msgspec.json.Decoder(schema.ChoicesBody)
_encoder = msgspec.json.Encoder()

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def answered(service: Service, data: bytes) -> bytes:
    """Return the answer to a body; raises what `bodies.refusal` turns into an answer."""
    body = bodies.decode(data, _decoder)
    question = body.to_domain(request_id=uuid.uuid4().hex)
    answer = service.answer(
        question,
        body.context.genres is not None,
        dt.datetime.now(dt.UTC),
        own_id=body.request_id is None,
    )
    made = answer.decisions
    return _encoder.encode(
        schema.AnswerBody(
            request_id=made.request_id,
            cell=made.cell,
            policy=made.policy,
            model_version=made.model_version,
            choices=[
                schema.ChoiceBody(
                    c.title_id, c.variant_id, c.uri, decision_id, c.propensity, c.fallback, c.reason
                )
                for c, decision_id in zip(made.choices, answer.decision_ids, strict=True)
            ],
        )
    )


class Express:
    """WSGI: choices here, the rest to the application."""

    def __init__(self, app: Flask, service: Service, headers: dict[str, str], largest: int) -> None:
        self._rest = app.wsgi_app
        self._service = service
        self._headers = [("Content-Type", "application/json"), *headers.items()]
        self._largest = largest

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or ""
        if (
            environ["PATH_INFO"] != "/v1/choices"
            or environ["REQUEST_METHOD"] != "POST"
            or not (length.isascii() and length.isdigit() and len(length) < 10)
            or int(length) > self._largest
        ):
            return self._rest(environ, start_response)
        try:
            data = answered(self._service, environ["wsgi.input"].read(int(length)))
        except Exception as error:  # every failure is an answer
            refused = bodies.refusal(error, "/v1/choices")
            refused.headers.extend(self._headers[1:])
            return refused(environ, start_response)
        start_response("200 OK", [*self._headers, ("Content-Length", str(len(data)))])
        return [data]
