"""Which other sites' pages may call the API (Fetch standard, CORS protocol)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cors:
    """Origins that are allowed, separated by spaces; `*` for all. No credentials are involved."""

    origins: str

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return what an answer to a page of that origin carries; nothing if it is not allowed."""
        if not origin or (self.origins != "*" and origin not in self.origins.split()):
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "Content-Type",
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        }
