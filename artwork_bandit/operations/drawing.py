"""Drawing the demo's pictures: SVG posters that differ in genre, composition, faces and tone,
and trailers as short animated storyboards. Symbols are Lucide icons (ISC, see data/icons.LICENSE).
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from artwork_bandit.domain import Variant, stable_hash

WIDTH, HEIGHT = 480, 270
SCENE_SECONDS = 2


class Look(NamedTuple):
    """Colours and symbol of a genre."""

    deep: str
    bright: str
    accent: str
    icon: str


_LOOKS = (
    ("Horror", Look("#14060a", "#7d1220", "#ff5a4d", "ghost")),
    ("Myster", Look("#0b1526", "#2d5478", "#9fd3ff", "search")),
    ("Sci-Fi", Look("#0b0930", "#5b2a9a", "#7df9ff", "rocket")),
    ("Crime", Look("#16130d", "#7a5a1c", "#ffd54a", "fingerprint")),
    ("Thriller", Look("#0d1416", "#3c5560", "#e6f0f2", "eye")),
    ("Romantic", Look("#4d1238", "#e0568c", "#ffd9e6", "heart")),
    ("Stand-Up", Look("#1c1c1f", "#b3261e", "#ffe9a8", "laugh")),
    ("Comed", Look("#c4620a", "#ffb52e", "#fff4cf", "laugh")),
    ("Action", Look("#3a0f02", "#dd5a12", "#ffe0a3", "flame")),
    ("Anime", Look("#1a1f6b", "#d9435f", "#fff1a8", "swords")),
    ("Nature", Look("#0d3a2c", "#4fa567", "#dff5c8", "mountain")),
    ("Docu", Look("#10302c", "#3a8577", "#d6f5ee", "camera")),
    ("Reality", Look("#4a1770", "#d46bb5", "#ffe3f6", "users")),
    ("Kids", Look("#1287c9", "#9bd45f", "#fffbd1", "wand")),
    ("Children", Look("#1287c9", "#9bd45f", "#fffbd1", "baby")),
    ("Teen", Look("#5a2a86", "#ff8fb1", "#fff3a8", "music")),
    ("Music", Look("#28156e", "#8a5cf0", "#e6dcff", "music")),
    ("Sport", Look("#14491f", "#a9b82c", "#fbffd6", "trophy")),
    ("Classic", Look("#3a2a20", "#b09680", "#fff3df", "film")),
    ("British", Look("#16264a", "#71809f", "#f2e6c9", "crown")),
    ("Korean", Look("#232050", "#c8516c", "#fbe9d7", "moon")),
    ("Spanish", Look("#5a1c0c", "#d98a2b", "#ffedc9", "sun")),
    ("Drama", Look("#2a1a14", "#94603c", "#ffe6cc", "drama")),
)
_OTHERWISE = Look("#20232b", "#5d6678", "#eef1f7", "clapperboard")
_SKIN = ("#f1c9a5", "#d99c6c", "#a9683f", "#6e4128", "#f7dcc4")
_HAIR = ("#22160f", "#4d2d17", "#8b5a2b", "#c9a25b", "#3a3a40")


def look_of(genre: str) -> Look:
    """Return the look of the first known word in a genre's name."""
    return next((look for word, look in _LOOKS if word in genre), _OTHERWISE)


def draw(variant: Variant, title: str) -> str:
    """Return the variant's picture as SVG text: a poster, or an animated storyboard."""
    rng = np.random.default_rng(stable_hash("drawing", variant.variant_id))
    look = look_of(str(variant.features["genre"]))
    composition = str(variant.features["composition"])
    if variant.slot == "trailer":
        body = _storyboard(rng, look, composition, title)
    else:
        body = _scene(rng, look, composition, str(variant.features["tone"])) + _caption(title, look)
    label = escape(f"{title}: {variant.name}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img"><title>{label}</title>'
        f"<defs>{_gradient('sky', look.deep, look.bright)}"
        f"{_gradient('shade', '#000', '#000', (0.0, 0.85))}</defs>{body}</svg>\n"
    )


def _storyboard(rng: np.random.Generator, look: Look, composition: str, title: str) -> str:
    order = [composition, *(c for c in ("landscape", "object", "close-up") if c != composition)]
    scenes = [_scene(rng, look, each, "dark") for each in order[:3]]
    scenes.append(f'<rect width="480" height="270" fill="#000"/>{_caption(title, look)}')
    length = SCENE_SECONDS * len(scenes)
    css = (
        f".s{{opacity:0;animation:show {length}s infinite}}"
        f"@keyframes show{{0%{{opacity:0}}4%,{100 // len(scenes)}%{{opacity:1}}"
        f"{100 // len(scenes) + 4}%,100%{{opacity:0}}}}"
        "@media (prefers-reduced-motion:reduce){.s{animation:none}.s:first-of-type{opacity:1}}"
    )
    framed = "".join(
        f'<g class="s" style="animation-delay:{i * SCENE_SECONDS}s">{scene}</g>'
        for i, scene in enumerate(scenes)
    )
    play = (
        f'<circle cx="444" cy="36" r="18" fill="#0009"/>'
        f'<path d="M438 27l16 9-16 9z" fill="{look.accent}"/>'
    )
    return f"<style>{css}</style><rect width='480' height='270' fill='url(#sky)'/>{framed}{play}"


def _scene(rng: np.random.Generator, look: Look, composition: str, tone: str) -> str:
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="url(#sky)"/>']
    if tone == "bright":
        parts.append(f'<circle cx="360" cy="70" r="190" fill="{look.accent}" opacity=".22"/>')
    match composition:
        case "close-up":
            parts.append(_icon(look.icon, 60, 34, 150, look.accent, 0.45))
            parts.append(_face(rng, 330, 150, 1.9))
        case "pair":
            parts.append(_icon(look.icon, 190, 14, 96, look.accent, 0.7))
            parts += [_face(rng, 150, 165, 1.35), _face(rng, 330, 165, 1.35)]
        case "ensemble":
            parts.append(_icon(look.icon, 196, 8, 80, look.accent, 0.75))
            xs = (80, 186, 294, 400)
            parts += [_face(rng, x, 176 - 18 * (i in (1, 2)), 1.0) for i, x in enumerate(xs)]
        case "landscape":
            parts.append(_hills(rng, look))
            parts.append(_icon(look.icon, 330, 26, 84, look.accent, 0.9))
            parts.append('<path d="M120 214v-26m0 0l-7 12m7-12l7 12m-7 14l-6 18m6-18l6 18" '
                         'stroke="#000" stroke-width="5" stroke-linecap="round"/>'
                         '<circle cx="120" cy="180" r="7"/>')  # fmt: skip
        case _:
            parts.append(f'<circle cx="240" cy="118" r="112" fill="{look.accent}" opacity=".16"/>')
            parts.append(_icon(look.icon, 145, 22, 190, look.accent, 1.0))
    return "".join(parts)


def _face(rng: np.random.Generator, x: float, y: float, scale: float) -> str:
    skin, hair = _SKIN[int(rng.integers(len(_SKIN)))], _HAIR[int(rng.integers(len(_HAIR)))]
    coat = f"hsl({int(rng.integers(360))} 35% {int(rng.integers(14, 34))}%)"
    long_hair = bool(rng.integers(2))
    mouth = ("M-9 21q9 8 18 0", "M-8 23h16", "M-8 25q8-7 16 0")[int(rng.integers(3))]
    back = f'<path d="M-34-6q0-42 34-42t34 42v52h-68z" fill="{hair}"/>' if long_hair else ""
    return (
        f'<g transform="translate({x} {y}) scale({scale})">{back}'
        f'<path d="M-66 118q4-62 52-66h28q48 4 52 66z" fill="{coat}"/>'
        f'<path d="M-11 30h22v26q-11 9-22 0z" fill="{skin}"/>'
        f'<ellipse rx="29" ry="37" fill="{skin}"/>'
        f'<path d="M-30-4q-3-40 30-40t30 40q-6-20-18-24-20 6-42 24z" fill="{hair}"/>'
        '<ellipse cx="-11" cy="-1" rx="3.6" ry="4.4"/><ellipse cx="11" cy="-1" rx="3.6" ry="4.4"/>'
        '<path d="M-17-11h11M6-11h11" stroke="#0008" stroke-width="3" stroke-linecap="round"/>'
        f'<path d="{mouth}" fill="none" stroke="#5a2320" stroke-width="3" stroke-linecap="round"/>'
        "</g>"
    )


def _hills(rng: np.random.Generator, look: Look) -> str:
    def ridge(base: float, height: float, colour: str, opacity: float) -> str:
        points = [
            f"{x},{base - height * float(rng.random()):.0f}" for x in range(0, WIDTH + 60, 60)
        ]
        return (
            f'<polygon points="0,{HEIGHT} {" ".join(points)} {WIDTH},{HEIGHT}" '
            f'fill="{colour}" opacity="{opacity}"/>'
        )

    return (
        ridge(190, 90, look.accent, 0.35)
        + ridge(225, 60, look.deep, 0.8)
        + ridge(262, 40, "#000", 0.75)
    )


def _caption(title: str, look: Look) -> str:
    size = 40 if len(title) <= 14 else 30 if len(title) <= 22 else 21
    return (
        f'<rect y="150" width="{WIDTH}" height="120" fill="url(#shade)"/>'
        f'<rect x="22" y="{244 - size}" width="5" height="{size}" fill="{look.accent}"/>'
        f'<text x="36" y="240" font-family="Georgia, serif" font-weight="700" '
        f'font-size="{size}" fill="#fff">{escape(title)}</text>'
    )


def _icon(name: str, x: float, y: float, size: float, colour: str, opacity: float) -> str:
    return (
        f'<g transform="translate({x} {y}) scale({size / 24})" fill="none" stroke="{colour}" '
        f'stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" '
        f'opacity="{opacity}">{_icons()[name]}</g>'
    )


def _gradient(name: str, start: str, end: str, opacity: tuple[float, float] = (1.0, 1.0)) -> str:
    return (
        f'<linearGradient id="{name}" x1="0" y1="0" x2="0" y2="1">'
        f'<stop offset="0" stop-color="{start}" stop-opacity="{opacity[0]}"/>'
        f'<stop offset="1" stop-color="{end}" stop-opacity="{opacity[1]}"/></linearGradient>'
    )


@cache
def _icons() -> dict[str, str]:
    text = (files("artwork_bandit") / "data" / "icons.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found
