"""`POST /v1/choices`, the call that every page waits for: from bytes to bytes, without Flask."""

from __future__ import annotations

import datetime as dt
import logging
import uuid

import msgspec

from artwork_bandit.serving.service import Answer, Asking, Rung, Service
from artwork_bandit.web import bodies, schema

PATH = "/v1/choices"
QUIET = {Rung.FULL, Rung.REPEAT, Rung.PREVIEW}

log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(schema.ChoicesBody)
_encoder = msgspec.json.Encoder()


def read(service: Service, data: bytes) -> Asking:
    """Return what a body asks; raises InvalidInput."""
    body = bodies.decode(data, _decoder)
    question = body.to_domain(request_id=uuid.uuid4().hex)
    return service.asking(
        question,
        body.context.genres is not None,
        dt.datetime.now(dt.UTC),
        own_id=body.request_id is None,
    )


def write(answer: Answer) -> bytes:
    """Return an answer as JSON."""
    made = answer.decisions
    level = logging.DEBUG if answer.rung in QUIET else logging.INFO
    if log.isEnabledFor(level):
        fields = {
            "request_id": made.request_id, "slot": made.slot, "cell": made.cell,
            "model_version": made.model_version, "rung": answer.rung.value,
            "decision_ids": answer.decision_ids[:3], "decisions": len(answer.decision_ids),
        }  # fmt: skip
        log.log(level, "choices_answered", extra=fields)
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
