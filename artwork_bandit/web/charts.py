"""Lines over time as SVG: drawn on the page and given away as a file, without script.

Attributes instead of styles, so that a file looks the same by itself. Colours are Okabe and Ito's,
told apart by the colour-blind; every line also has its own dash and its name at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#7a4fbf", "#767676")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "1 4", "6 2 1 2 1 2")
WIDE, NARROW, HEIGHT = 760, 350, 260
"""Widths for screens and for phones: text keeps its size on both."""
LEFT, TOP, BOTTOM = 54, 24, 28
NAMES = {WIDE: 150, NARROW: 84}
"""Room for the lines' names."""
MOST_LINES, APART = 8, 14
Place = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: a value per day, None where there is none; `halves` make a band."""

    name: str
    values: Sequence[float | None]
    halves: Sequence[float | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line at a day: a model that went live, a note."""

    at: float
    """In places between the first day (0) and the last."""
    text: str


def lines(
    title: str, days: Sequence[str], drawn: Sequence[Line], marks: Sequence[Mark] = (),
    percent_digits: int = 1, upper: float | None = None, width: int = WIDE, shares: bool = True,
) -> str:  # fmt: skip
    """Return a chart of shares, or other numbers, over time, WIDE or NARROW, from 0 or from the
    lowest number below it; an empty text where there is no line to draw."""
    told = [x for line in drawn for x in _extent(line)]
    if len(days) < 2 or not told:
        return ""
    top = upper if upper is not None else max(max(told) * 1.08, 0.0 if min(told) < 0 else 1e-6)
    low = min(0.0, *(value * 1.08 for value in told))
    steps = _ticks(low, top)
    right, bottom = width - NAMES[width], HEIGHT - BOTTOM

    def x_of(i: float) -> float:
        return LEFT + (right - LEFT) * i / (len(days) - 1)

    def y_of(value: float) -> float:
        return bottom - (bottom - TOP) * min(max((value - low) / (top - low), 0.0), 1.0)

    parts = []
    for tick in steps:
        y = y_of(tick)
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'stroke-opacity=".15"/>'
            + _text(LEFT - 6, y + 4, _label(tick, percent_digits if shares else None), "end")
        )
    for i in sorted({0, len(days) - 1} | ({len(days) // 2} if width == WIDE else set())):
        anchor = "start" if i == 0 else "end" if i == len(days) - 1 else "middle"
        parts.append(_text(x_of(i), HEIGHT - 8, days[i], anchor))
    for mark in marks:
        if 0 <= mark.at <= len(days) - 1:
            x = x_of(mark.at)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}" '
                f'stroke="currentColor" stroke-opacity=".55" stroke-dasharray="1 3">'
                f"<title>{escape(mark.text)}</title></line>"
                + _text(x, TOP - 10, _short(mark.text, 14), "middle", 10)
            )
    for number, line in enumerate(drawn[:MOST_LINES]):
        parts.append(_line(number, line, x_of, y_of))
    parts += _names(drawn[:MOST_LINES], y_of, right + 8, width)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _label(tick: float, percent_digits: int | None) -> str:
    return f"{tick:.4g}" if percent_digits is None else f"{tick:.{percent_digits}%}"


def _line(number: int, line: Line, x_of: Place, y_of: Place) -> str:
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    parts = []
    for run in _runs(line.values):
        points = [f"{x_of(i):.1f},{y_of(line.values[i] or 0.0):.1f}" for i in run]
        if line.halves is not None:
            halves = [line.halves[i] or 0.0 for i in run]
            high = [
                f"{x_of(i):.1f},{y_of((line.values[i] or 0) + h):.1f}"
                for i, h in zip(run, halves, strict=True)
            ]
            low = [
                f"{x_of(i):.1f},{y_of(_low(line.values[i] or 0.0, h)):.1f}"
                for i, h in zip(run, halves, strict=True)
            ]
            parts.append(
                f'<polygon fill="{colour}" fill-opacity=".1" '
                f'points="{" ".join(high + low[::-1])}"/>'
            )
        if len(run) == 1:
            x, y = points[0].split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        else:
            parts.append(
                f'<polyline fill="none" stroke="{colour}" stroke-width="2" '
                f'stroke-dasharray="{dash}" points="{" ".join(points)}"/>'
            )
    return "".join(parts)


def _low(value: float, half: float) -> float:
    """Return a band's lower edge: not below 0 where the value is not."""
    return max(value - half, 0.0) if value >= 0 else value - half


def _names(drawn: Sequence[Line], y_of: Place, x: float, width: int) -> list[str]:
    """Return the lines' names at their ends, pushed apart."""
    ends = [
        (y_of(last), number)
        for number, line in enumerate(drawn)
        for last in [next((v for v in reversed(line.values) if v is not None), None)]
        if last is not None
    ]
    ends.sort()
    places, y_before = [], TOP - float(APART)
    for y, _ in ends:
        y_before = max(y + 4, y_before + APART)
        places.append(y_before)
    lowest = HEIGHT - 6.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], lowest)
        lowest = places[i] - APART
    return [
        f'<line x1="{x}" x2="{x + 14}" y1="{y - 4:.1f}" y2="{y - 4:.1f}" '
        f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="3" '
        f'stroke-dasharray="{DASHES[number % len(DASHES)]}"/>'
        + _text(x + 18, y, _short(drawn[number].name, (NAMES[width] - 30) // 7))
        for y, (_, number) in zip(places, ends, strict=True)
    ]


def _extent(line: Line) -> list[float]:
    halves = line.halves or [None] * len(line.values)
    # A band may be far wider than all lines are apart; half of it is enough to be seen.
    told = [
        (v, 0.5 * (h or 0.0)) for v, h in zip(line.values, halves, strict=True) if v is not None
    ]
    # What is above 0 is drawn from 0 on, however wide its band.
    return [v + h for v, h in told] + [v - h for v, h in told if v < 0]


def _runs(values: Sequence[float | None]) -> list[list[int]]:
    runs: list[list[int]] = []
    for i, value in enumerate(values):
        if value is not None:
            if runs and runs[-1][-1] == i - 1:
                runs[-1].append(i)
            else:
                runs.append([i])
    return runs


def _ticks(low: float, top: float) -> list[float]:
    step = 10.0 ** np.floor(np.log10((top - low) / 2))
    step = next(s for s in (step, 2 * step, 5 * step, 10 * step) if (top - low) / s <= 5)
    return [float(t) for t in step * np.arange(-int(-low / step), int(top / step) + 1)]


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="currentColor" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
