"""Plots as inline SVG: they scale, print, follow the page's colours, and need no script.

Classes are styled by the page: `line`, `dot`, `band`, `bar`, `axis`, `label`, `quiet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, ROW = 640, 26
LEFT, RIGHT = 190, 16
AXIS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One line of a forest plot."""

    label: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    reason: str = ""
    """What to say in place of a value."""


def forest(bars: Sequence[Bar], title: str, reference: float | None = None) -> str:
    """Return values with their intervals, one below the other; `reference` is a vertical line."""
    numbers = [x for b in bars for x in (b.value, b.lower, b.upper) if x is not None]
    numbers += [] if reference is None else [reference]
    if not numbers:
        return ""
    scale = _Scale.of(numbers, LEFT, WIDTH - RIGHT)
    height = ROW * len(bars) + AXIS
    parts = [_axis(scale, height)]
    if reference is not None:
        x = scale.at(reference)
        parts.append(f'<line class="quiet" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - AXIS}"/>')
    for i, bar in enumerate(bars):
        y = ROW * i + ROW / 2
        parts.append(f'<text class="label" x="{LEFT - 10}" y="{y + 4}" text-anchor="end">'
                     f"{escape(_short(bar.label))}</text>")  # fmt: skip
        if bar.value is None:
            parts.append(f'<text class="axis" x="{LEFT}" y="{y + 4}">{escape(bar.reason)}</text>')
            continue
        told = f"{bar.label}: {bar.value:.4g}"
        if bar.lower is not None and bar.upper is not None:
            a, b = scale.at(bar.lower), scale.at(bar.upper)
            told += f" ({bar.lower:.4g} to {bar.upper:.4g})"
            parts.append(f'<line class="line" x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{scale.at(bar.value):.1f}" cy="{y}" r="4">'
                     f"<title>{escape(told)}</title></circle>")  # fmt: skip
    return _svg(parts, WIDTH, height, title)


def course(
    days: Sequence[str], values: Sequence[float], halves: Sequence[float], title: str,
    reference: float | None = None,
) -> str:  # fmt: skip
    """Return values over time with a band; `days` name the points."""
    if len(days) < 2:
        return ""
    left, height = 64, 190
    value, half = np.array(values), np.array(halves)
    numbers = [*(value - half), *(value + half), *([] if reference is None else [reference])]
    up = _Scale.of([float(x) for x in numbers], height - AXIS, 8)
    x = np.linspace(left, WIDTH - RIGHT, len(days))
    parts = []
    for tick in up.ticks:
        y = up.at(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
                     f'y2="{y:.1f}"/><text class="axis" x="{left - 8}" y="{y + 4:.1f}" '
                     f'text-anchor="end">{tick:.4g}</text>')  # fmt: skip
    upper = [f"{a:.1f},{up.at(v):.1f}" for a, v in zip(x, value + half, strict=True)]
    lower = [f"{a:.1f},{up.at(v):.1f}" for a, v in zip(x, value - half, strict=True)]
    middle = [f"{a:.1f},{up.at(v):.1f}" for a, v in zip(x, value, strict=True)]
    parts.append(f'<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>')
    parts.append(f'<polyline class="line" fill="none" points="{" ".join(middle)}"/>')
    if reference is not None:
        y = up.at(reference)
        parts.append(f'<line class="quiet" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
                     f'y2="{y:.1f}"/>')  # fmt: skip
    for at in sorted({0, len(days) // 2, len(days) - 1}):
        anchor = "start" if at == 0 else "end" if at == len(days) - 1 else "middle"
        parts.append(f'<text class="axis" x="{x[at]:.1f}" y="{height - 8}" '
                     f'text-anchor="{anchor}">{escape(days[at])}</text>')  # fmt: skip
    return _svg(parts, WIDTH, height, title)


def histogram(edges: Sequence[float], shares: Sequence[float], title: str) -> str:
    """Return bars of shares; `edges` begin the bins, on a logarithmic scale."""
    used = [i for i, share in enumerate(shares) if share > 0]
    if not used:
        return ""
    first, last = used[0], used[-1]
    left, height = 64, 150
    width = (WIDTH - RIGHT - left) / (last - first + 1)
    up = _Scale.of([0.0, max(shares)], height - AXIS, 8)
    parts = [f'<text class="axis" x="{left - 8}" y="{up.at(t) + 4:.1f}" text-anchor="end">'
             f"{t:.0%}</text>" for t in up.ticks]  # fmt: skip
    for i in used:
        x, y = left + (i - first) * width, up.at(shares[i])
        parts.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{max(width - 1, 1):.1f}" '
                     f'height="{height - AXIS - y:.1f}"><title>weights from {edges[i]:.3g}: '
                     f"{shares[i]:.1%}</title></rect>")  # fmt: skip
    for i in sorted({first, (first + last) // 2, last}):
        x = left + (i - first + 0.5) * width
        parts.append(f'<text class="axis" x="{x:.1f}" y="{height - 8}" text-anchor="middle">'
                     f"{edges[i]:.3g}</text>")  # fmt: skip
    return _svg(parts, WIDTH, height, title)


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float
    ticks: list[float]

    @staticmethod
    def of(numbers: Sequence[float], start: float, end: float) -> _Scale:
        low, high = min(numbers), max(numbers)
        if high - low < 1e-12:
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        step = 10.0 ** np.floor(np.log10((high - low) / 2))
        step = next(s for s in (step, 2 * step, 5 * step, 10 * step) if (high - low) / s <= 5)
        low, high = np.floor(low / step) * step, np.ceil(high / step) * step
        ticks = [float(t) for t in low + step * np.arange(round((high - low) / step) + 1)]
        return _Scale(float(low), float(high), start, end, ticks)

    def at(self, number: float) -> float:
        share = (number - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _axis(scale: _Scale, height: float) -> str:
    parts = []
    for tick in scale.ticks:
        x = scale.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - AXIS}"/>'
                     f'<text class="axis" x="{x:.1f}" y="{height - 8}" text-anchor="middle">'
                     f"{tick:.4g}</text>")  # fmt: skip
    return "".join(parts)


def _svg(parts: Sequence[str], width: float, height: float, title: str) -> str:
    return (f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title>{''.join(parts)}</svg>")  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= 26 else text[:25] + "…"
