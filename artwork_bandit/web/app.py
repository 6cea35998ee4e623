"""The Flask application: one factory, everything it needs passed in."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, request, send_from_directory
from werkzeug.exceptions import NotFound

from artwork_bandit.operations import uploads
from artwork_bandit.serving.service import Service
from artwork_bandit.settings import Settings
from artwork_bandit.store.engine import Store
from artwork_bandit.store.migrate import require_current
from artwork_bandit.web import errors
from artwork_bandit.web.actions import actions
from artwork_bandit.web.api import api
from artwork_bandit.web.choices import Choices
from artwork_bandit.web.compressed import compressed
from artwork_bandit.web.cors import Cors
from artwork_bandit.web.exports import exports
from artwork_bandit.web.metrics import Metrics
from artwork_bandit.web.pages import pages
from artwork_bandit.web.policies import policies

CHOICES = "artwork_bandit"
"""Name of what the application holds for its views: a `Choices`."""
CORS = "artwork_bandit_cors"
WITHOUT_DATABASE = {
    None, "static", "media", "api.choices", "api.events", "api.livez", "api.readyz",
    "api.version", "api.prometheus", "api.openapi_document",
}  # fmt: skip
"""Endpoints that answer while the database is away."""
LARGEST_BODY_BYTES = 4 * 2**20
LARGEST_UPLOAD_BYTES = LARGEST_BODY_BYTES + uploads.LARGEST_BYTES
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src 'self' https: data:; media-src 'self' https:; "
    "style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def largest_body(path: str) -> int:
    """Return the most bytes that a body sent there may have."""
    uploading = path.startswith("/titles/") and "/variants" in path
    return LARGEST_UPLOAD_BYTES if uploading else LARGEST_BODY_BYTES


def create_app(settings: Settings) -> Flask:
    """Return the application; raises InvalidInput if the database is not migrated."""
    store = Store(settings.database_url)
    require_current(store)
    app = Flask(__name__)
    cors = app.extensions[CORS] = Cors(settings.cors_origins)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST_BODY_BYTES
    service = Service(store, settings)
    app.extensions[CHOICES] = Choices(service, Metrics(service))
    for blueprint in (api, pages, policies, actions, exports):
        app.register_blueprint(blueprint)
    errors.install(app)

    @app.before_request
    def require_database() -> None:
        request.max_content_length = largest_body(request.path)
        # What reads the database must not hang with it, a thread a request, until none is left.
        if request.endpoint not in WITHOUT_DATABASE:
            service.require_database()

    @app.get("/media/<path:name>")
    def media(name: str) -> Response:
        if not settings.media_dir:
            raise NotFound()
        return send_from_directory(Path(settings.media_dir).absolute(), name, max_age=3600)

    @app.after_request
    def secure(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        for name, value in cors.headers(request.headers.get("Origin")).items():
            response.headers.setdefault(name, value)
        return compressed(response)

    return app
