"""The demo's catalogue: facts of real titles from package data, and invented variants.

Every title gets six artworks (Stranger Things nine) that emphasise one of its genres, or one it
is not tagged with, in one of five compositions; House of Cards gets ten trailer cuts, some other
titles four.
"""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np

from artwork_bandit.domain import Title, Variant

COMPOSITIONS = ("close-up", "pair", "ensemble", "landscape", "object")
TONES = ("dark", "bright")
ARTWORKS = {"stranger-things": 9}
ARTWORKS_OTHERWISE = 6
TRAILERS = {"house-of-cards": 10}
TRAILERS_OTHERWISE = 4
TITLES_WITH_TRAILERS = 12
COMPANIONS = (
    "TV Thrillers", "Romantic TV Shows", "TV Comedies", "Crime TV Shows", "TV Dramas",
    "TV Action & Adventure",
)  # fmt: skip
"""Genres a variant may emphasise though its title is not tagged with them."""
NOT_PICTURED = ("International TV Shows", "International Movies", "TV Shows", "Movies")
"""Genres that say where a title is from, not what a picture of it could show."""


def load(seed: int) -> tuple[list[Title], list[Variant]]:
    """Return the demo's titles and variants; pictures are at `/media/<variant id>.svg`."""
    titles = read_titles()
    rng = np.random.default_rng([seed, 7])
    variants: list[Variant] = []
    for title in titles:
        count = ARTWORKS.get(title.title_id, ARTWORKS_OTHERWISE)
        variants += _variants(title, "artwork", count, rng)
    for title in titles[:TITLES_WITH_TRAILERS]:
        count = TRAILERS.get(title.title_id, TRAILERS_OTHERWISE)
        variants += _variants(title, "trailer", count, rng)
    return titles, variants


def read_titles() -> list[Title]:
    """Return the facts kept as package data."""
    text = (files("artwork_bandit") / "data" / "demo_titles.jsonl").read_text("utf-8")
    return [
        Title(**(fields | {"genres": tuple(fields["genres"])}))
        for fields in map(json.loads, text.splitlines())
    ]


def pictured_genres(title: Title) -> list[str]:
    """Return what variants of a title may emphasise, its own genres first, three at least."""
    own = [g for g in title.genres if g not in NOT_PICTURED] or ["TV Dramas"]
    return (own + [g for g in COMPANIONS if g not in own])[: max(3, len(own) + 1)]


def _variants(title: Title, slot: str, count: int, rng: np.random.Generator) -> list[Variant]:
    genres = pictured_genres(title)
    variants = []
    first = int(rng.integers(len(COMPOSITIONS)))
    for i in range(count):
        # Each genre again with another composition: no two variants of a title look alike.
        turn, at = divmod(i, len(genres))
        composition = COMPOSITIONS[(first + at + 2 * turn) % len(COMPOSITIONS)]
        features: dict[str, object] = {
            "genre": genres[at],
            "composition": composition,
            "faces": {"close-up": 1, "pair": 2, "ensemble": 4}.get(composition, 0),
            "tone": TONES[int(rng.integers(len(TONES)))],
        }
        if slot == "trailer":
            features["seconds"] = int(rng.choice([15, 30, 60]))
        variant_id = f"{title.title_id}-{slot[0]}{i + 1:02d}"
        variants.append(
            Variant(
                variant_id=variant_id,
                title_id=title.title_id,
                slot=slot,
                uri=f"/media/{variant_id}.svg",
                name=f"{features['genre']}, {composition}",
                features=features,
                is_default=i == 0,
            )
        )
    return variants
