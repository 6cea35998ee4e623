"""`POST /v1/choices`, the call that every page waits for: from bytes to bytes, without Flask."""

from __future__ import annotations

import datetime as dt
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from artwork_bandit.errors import Overloaded, StoreUnavailable
from artwork_bandit.serving import audit
from artwork_bandit.serving.audit import Derived
from artwork_bandit.serving.batcher import Job
from artwork_bandit.serving.rows import Logged
from artwork_bandit.serving.service import ANSWER_SECONDS, Answer, Asking, Chosen, Rung, Service
from artwork_bandit.web import bodies, decisions, schema
from artwork_bandit.web.metrics import Metrics

PATH = "/v1/choices"
QUIET = {Rung.FULL, Rung.REPEAT, Rung.PREVIEW}

log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(schema.ChoicesBody)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Choices:
    """Answers bodies; `begin`, wait for the job, `finish`."""

    service: Service
    metrics: Metrics

    def answer(self, data: bytes) -> bytes:
        """Return the answer to a body, waiting for it."""
        begun = time.perf_counter()
        asking = self.read(data)
        job: Job[Asking, Chosen] = Job(asking)
        self.begin(job)
        return self.finish(asking, job.wait(ANSWER_SECONDS), begun)

    def read(self, data: bytes) -> Asking:
        """Return what a body asks; raises InvalidInput, and Overloaded before looking at it."""
        try:
            self.service.require_room()
        except Overloaded:
            self.metrics.refused()
            raise
        body = bodies.decode(data, _decoder)
        question = body.to_domain(request_id=uuid.uuid4().hex)
        return self.service.asking(
            question,
            body.context.genres is not None,
            dt.datetime.now(dt.UTC),
            own_id=body.request_id is None,
        )

    def begin(self, job: Job[Asking, Chosen]) -> None:
        """Have a question answered."""
        self.service.begin(job)

    @staticmethod
    def asks_database(asking: Asking, chosen: Chosen) -> bool:
        """Tell whether `finish` takes long: a repeat, or an answer with reasons."""
        return chosen.logged is Logged.REPEATED or asking.question.explain

    def finish(self, asking: Asking, chosen: Chosen, begun: float) -> bytes:
        """Return the answer as JSON; `begun` is when it was asked, by `time.perf_counter`."""
        answer = self.service.finish(asking, chosen)
        reasons: Sequence[Derived | None] = ()
        if asking.question.explain:
            try:
                reasons = audit.explanations(
                    self.service, answer.decisions, answer.action_sets,
                    repeated=answer.rung is Rung.REPEAT,
                )  # fmt: skip
            except StoreUnavailable as error:
                log.warning("not_explained", extra={"error": str(error)})
        self.metrics.answered(answer, time.perf_counter() - begun)
        _log(answer)
        return _written(answer, reasons)


def _written(answer: Answer, reasons: Sequence[Derived | None]) -> bytes:
    made = answer.decisions
    choices = [
        schema.ChoiceBody(
            c.title_id, c.variant_id, c.uri, decision_id, c.propensity, c.fallback, c.reason
        )
        for c, decision_id in zip(made.choices, answer.decision_ids, strict=True)
    ]
    for choice, derived in zip(choices, reasons, strict=False):
        choice.explanation = None if derived is None else decisions.explanation(derived)
    return _encoder.encode(
        schema.AnswerBody(
            request_id=made.request_id,
            cell=made.cell,
            policy=made.policy,
            model_version=made.model_version,
            choices=choices,
        )
    )


def _log(answer: Answer) -> None:
    level = logging.DEBUG if answer.rung in QUIET else logging.INFO
    if log.isEnabledFor(level):
        made = answer.decisions
        fields = {
            "request_id": made.request_id, "slot": made.slot, "cell": made.cell,
            "model_version": made.model_version, "rung": answer.rung.value,
            "decision_ids": answer.decision_ids[:3], "decisions": len(answer.decision_ids),
        }  # fmt: skip
        log.log(level, "choices_answered", extra=fields)
