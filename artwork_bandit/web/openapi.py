"""The OpenAPI 3.1 document, generated from the same msgspec types that validate."""

from __future__ import annotations

from typing import Any

import msgspec

from artwork_bandit import __version__
from artwork_bandit.operations import catalog_forms
from artwork_bandit.policies.segments import COMMUNITY, FIELDS
from artwork_bandit.slots import SLOTS
from artwork_bandit.web import schema

_TYPES = (
    schema.ChoicesBody, schema.AnswerBody, schema.DecisionBody, schema.EventsBody,
    schema.UnjoinedBody,
    schema.ReportBody, schema.Problem, catalog_forms.TitleForm, catalog_forms.ControlForm,
    catalog_forms.VariantForm, catalog_forms.EligibilityForm,
)  # fmt: skip


def document() -> dict[str, Any]:
    """Return the whole document."""
    refs, components = msgspec.json.schema_components(
        _TYPES, ref_template="#/components/schemas/{name}"
    )
    ref = dict(zip((t.__name__ for t in _TYPES), refs, strict=True))
    title = _in_path("title_id")
    variant = _in_path("variant_id")
    slot = _in_query("slot", {"type": "string", "enum": list(SLOTS), "default": "artwork"})
    by = _in_query("by", {"type": "string", "enum": [*FIELDS, COMMUNITY]})
    span = [_in_query(n, {"type": "string", "format": "date-time"}) for n in ("from", "to")]
    return {
        "openapi": "3.1.0",
        "info": {"title": "artwork-bandit", "version": __version__},
        "paths": {
            "/v1/choices": {
                "post": _operation(
                    "Choose one variant per title", ref["AnswerBody"], ref, body="ChoicesBody",
                    errors=(400, 409, 413, 422, 503),
                )
            },
            "/v1/decisions/{decision_id}": {
                "get": _operation(
                    "What was chosen, from what, why, and what came of it", ref["DecisionBody"],
                    ref, [_in_path("decision_id")], errors=(404, 422, 503),
                )
            },
            "/v1/events": {
                "post": _operation(
                    "Send what members did", ref["ReportBody"], ref, body="EventsBody",
                    errors=(400, 413, 422, 503),
                )
            },
            "/v1/events/unjoined": {
                "get": _operation(
                    "Events that count for nothing, and why", ref["UnjoinedBody"], ref,
                    [
                        *span, _in_query("reason", {"type": "string"}),
                        _in_query("limit", {"type": "integer", "minimum": 0, "maximum": 1000}),
                    ],
                    errors=(422, 503),
                )
            },
            "/v1/titles": {
                "get": _operation(
                    "Titles by id", _OBJECT, ref, errors=(422, 503),
                    parameters=[
                        _in_query("after", {"type": "string"}),
                        _in_query("limit", {"type": "integer", "minimum": 1, "maximum": 1000}),
                    ],
                )
            },
            "/v1/titles/{title_id}": {
                "get": _operation("One title", _OBJECT, ref, [title], errors=(404, 503)),
                "put": _operation(
                    "Add or replace a title", _OBJECT, ref, [title], body="TitleForm",
                    errors=(400, 413, 422, 503),
                ),
                "patch": _operation(
                    "Pause or resume exploration for a title", _OBJECT, ref, [title],
                    body="ControlForm", errors=(400, 404, 413, 422, 503),
                ),
            },
            "/v1/titles/{title_id}/variants": {
                "get": _operation(
                    "A title's variants", _OBJECT, ref, [title, slot], errors=(404, 422, 503)
                )
            },
            "/v1/titles/{title_id}/variants/{variant_id}": {
                "get": _operation("One variant", _OBJECT, ref, [title, variant], errors=(404, 503)),
                "put": _operation(
                    "Add a variant, or a new revision of it", _OBJECT, ref, [title, variant],
                    body="VariantForm", errors=(400, 404, 409, 413, 422, 503),
                ),
                "patch": _operation(
                    "Pause, resume, retire; dates, countries, languages, maturity", _OBJECT, ref,
                    [title, variant], body="EligibilityForm", errors=(400, 404, 413, 422, 503),
                ),
            },
            "/v1/titles/{title_id}/comparison": {
                "get": _operation(
                    "Variants side by side; from and to are whole UTC days", _OBJECT, ref,
                    [title, slot, *span, by],
                    errors=(404, 422, 503),
                )
            },
            "/v1/cells/comparison": {
                "get": _operation(
                    "Cells side by side", _OBJECT, ref, [slot, *span], errors=(422, 503)
                )
            },
            "/v1/members/{member_id}": {
                "get": _operation(
                    "A member's profile", _OBJECT, ref, [_in_path("member_id")], errors=(503,)
                )
            },
            "/livez": {"get": _operation("Is the process alive", _OBJECT, ref)},
            "/readyz": {"get": _operation("Can it serve", _OBJECT, ref, errors=(503,))},
            "/version": {"get": _operation("The release", _OBJECT, ref)},
            "/metrics": {
                "get": {
                    "summary": "Prometheus metrics",
                    "responses": {
                        "200": {
                            "description": "Done",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
            "/openapi.json": {"get": _operation("This document", _OBJECT, ref)},
        },
        "components": {"schemas": components},
    }  # fmt: skip


_OBJECT: dict[str, Any] = {"type": "object"}
_MEANING = {
    400: "The body is not JSON", 404: "Not found", 409: "Contradicts what is stored",
    413: "The body is too large", 422: "A rule is broken; the detail says which",
    503: "Try again later",
}  # fmt: skip


def _operation(
    summary: str,
    answer: dict[str, Any],
    ref: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    *,
    body: str | None = None,
    errors: tuple[int, ...] = (),
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": _content("Done", "application/json", answer)}
        | {
            str(code): _content(_MEANING[code], "application/problem+json", ref["Problem"])
            for code in errors
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": ref[body]}},
        }
    return operation


def _content(description: str, mimetype: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {mimetype: {"schema": body}}}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(name: str, kind: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": kind}
