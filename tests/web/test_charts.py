"""Charts over time show all that they draw."""

from __future__ import annotations

import re

import pytest

from artwork_bandit.web import charts
from artwork_bandit.web.charts import Line


@pytest.mark.parametrize(
    "values", [[-0.4, -0.2, -0.1], [-0.2, 0.1, 0.4], [0.05, 0.06, 0.07], [0.0, 0.0, 0.0], [-2, -2]]
)
def test_every_point_and_every_tick_is_on_the_chart(values: list[float]) -> None:
    """Rewards of some rules lie below 0."""
    days = [f"d{i}" for i in range(len(values))]
    line = Line(name="a", values=list(values), halves=[0.01] * len(values))
    drawn = charts.lines("rewards", days, [line], shares=False)
    points = " ".join(re.findall(r'points="([^"]+)"', drawn)).split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights
    assert all(charts.TOP - 1 <= y <= charts.HEIGHT - charts.BOTTOM + 1 for y in heights)
    ticks = [float(y) for y in re.findall(r'y1="(-?[\d.]+)" y2="\1" stroke="currentColor"', drawn)]
    assert len(ticks) >= 2
    assert all(charts.TOP - 1 <= y <= charts.HEIGHT - charts.BOTTOM + 1 for y in ticks)


def test_a_band_below_0_holds_its_line() -> None:
    line = Line(name="a", values=[-0.5, -0.4], halves=[0.1, 0.1])
    drawn = charts.lines("rewards", ["d0", "d1"], [line], shares=False)
    (band,), (run,) = (
        re.findall(rf'{shape}[^>]*points="([^"]*)"', drawn) for shape in ("polygon", "polyline")
    )
    edges, points = ([float(p.split(",")[1]) for p in each.split()] for each in (band, run))
    assert edges[0] < points[0] < edges[-1]
    assert edges[1] < points[1] < edges[-2]
