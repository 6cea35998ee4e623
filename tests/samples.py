"""Small values that tests share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artwork_bandit.domain import Title, Variant
from artwork_bandit.operations.editing import Editor
from artwork_bandit.store import catalog
from artwork_bandit.store.engine import Connection, Store

NOW = dt.datetime(2026, 11, 23, 20, 0, tzinfo=dt.UTC)
SHARED = Path(__file__).parents[2] / "shared"
"""Data that is not part of the product; tests that use it skip, and say so, where it is absent."""


def small_catalog(titles: int = 3, variants: int = 4) -> tuple[list[Title], list[Variant]]:
    """Titles t0, t1, ... with variants t0-a0, ...; the first of each is the default."""
    genres = ("TV Horror", "TV Dramas", "TV Comedies", "Docuseries")
    made = [
        Title(title_id=f"t{i}", name=f"Title {i}", genres=(genres[i % 4], genres[(i + 1) % 4]))
        for i in range(titles)
    ]
    return made, [
        Variant(
            variant_id=f"{t.title_id}-a{j}",
            title_id=t.title_id,
            slot="artwork",
            uri=f"/media/{t.title_id}-a{j}.svg",
            features={"genre": genres[j % 4], "composition": "pair" if j % 2 else "close-up"},
            is_default=j == 0,
        )
        for t in made
        for j in range(variants)
    ]


def fill(store: Store, titles: int = 3, variants: int = 4) -> list[Variant]:
    made, options = small_catalog(titles, variants)
    with store.write() as connection:
        catalog.put_titles(connection, made, NOW)
        catalog.put_variants(connection, options, NOW)
        return catalog.list_variants(connection)


def patch(
    connection: Connection, title_id: str, variant_id: str, fields: Mapping[str, Any],
    now: dt.datetime,
) -> None:  # fmt: skip
    """Change a variant as somebody at a page does."""
    editor = Editor(connection=connection, author="somebody", now=now)
    editor.patch_variant(title_id, variant_id, fields)
