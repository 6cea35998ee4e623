"""Real A/B tests of headlines and pictures: are broken weeks seen, and what do verdicts say?

    python -m simulations.upworthy --data DIR

The Upworthy Research Archive (Matias et al. 2021, doi:10.1038/s41597-021-00934-7, CC BY 4.0); DIR
holds its `packages.csv.gz`. Each test is a title, each package a variant shown at random; clicks
are plays. Randomisation was broken from week 201325 to 201402. Printed: the sample-ratio check of
every week that fires, or should; and for tests of sound weeks the verdict beside a plain chi-square
test of equal click rates at 5%. That test looks once; the verdict allows for a look on every day.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import chi2_contingency

from artwork_bandit.comparison.sample_ratio import NOTHING, SampleRatio, check
from artwork_bandit.comparison.verdict import Verdict, Word, decide
from artwork_bandit.domain import Floats
from artwork_bandit.estimators.contrast import Drawn, contrast
from artwork_bandit.store.rollups import BUCKETS

BROKEN = ("201325", "201402")
ROWS_A_DAY = 5_000.0


def read(path: Path) -> dict[tuple[str, str], Floats]:
    """Return (week, test) -> [variants, (impressions, clicks)]."""
    arms: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    with gzip.open(path, "rt", newline="") as file:
        for line in csv.DictReader(file):
            key = line["test_week"], line["clickability_test_id"]
            arms[key].append((int(line["impressions"]), int(line["clicks"])))
    return {key: np.array(some, np.float64) for key, some in arms.items() if len(some) > 1}


def judged(counts: Floats, rng: np.random.Generator) -> Verdict:
    """Return the verdict; impressions and clicks are dealt to the buckets of members by chance."""
    k = len(counts)
    even = np.full(BUCKETS, 1 / BUCKETS)
    clicks = np.array([rng.multinomial(int(c), even) for _, c in counts])
    others = np.array([rng.multinomial(int(n - c), even) for n, c in counts])
    rows, plays = (clicks + others).ravel().astype(float), clicks.ravel().astype(float)
    none = np.zeros(k * BUCKETS, np.int64)
    found = contrast(
        Drawn(
            day=none, action_set=none, cell=none, bucket=np.tile(np.arange(BUCKETS), k),
            variant=np.repeat(np.arange(k), BUCKETS), rows=rows, plays=plays, weight=rows * k,
            weight2=rows * k**2, weighted_plays=plays * k, eligible=np.ones((1, k), bool),
            even_share=np.ones(1), buckets=BUCKETS,
        )
    )  # fmt: skip
    return decide(found, np.arange(k), 0, [str(i) for i in range(k)], ROWS_A_DAY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    tests = read(parser.parse_args().data / "packages.csv.gz")
    rng, console = np.random.default_rng(1), Console()
    weeks: dict[str, SampleRatio] = defaultdict(lambda: NOTHING)
    for (week, _), counts in tests.items():
        shown, k = counts[:, 0], len(counts)
        weeks[week] += check(shown, shown * k, shown * k**2, 1.0)
    table = Table(title="sample-ratio check, weeks that fire or should")
    for name in ("week", "known as broken", "fires", "chi-square / degrees", "p"):
        table.add_column(name, justify="right")
    for week, found in sorted(weeks.items()):
        known = BROKEN[0] <= week <= BROKEN[1]
        if known or found.broken:
            table.add_row(
                week, "yes" if known else "no", "yes" if found.broken else "no",
                f"{found.statistic / found.degrees:.1f}", f"{found.p_value or 0:.1g}",
            )  # fmt: skip
    console.print(table)
    sound = [w for w in weeks if not BROKEN[0] <= w <= BROKEN[1]]
    console.print(f"{len(sound)} other weeks: {sum(weeks[w].broken for w in sound)} fire")
    said: dict[bool, Counter[Word]] = {True: Counter(), False: Counter()}
    for (week, _), counts in tests.items():
        if week in sound:
            cells = np.stack([counts[:, 1], counts[:, 0] - counts[:, 1]])
            differs = bool(counts[:, 1].sum()) and chi2_contingency(cells).pvalue < 0.05
            said[differs][judged(counts, rng).word] += 1
    table = Table(title="verdicts of tests in sound weeks, beside a plain chi-square test")
    table.add_column("verdict")
    for name in ("rates differ, p < .05", "no difference seen"):
        table.add_column(name, justify="right")
    for word in Word:
        table.add_row(word.value, *(f"{said[differs][word]:,}" for differs in (True, False)))
    table.add_row("all", *(f"{said[differs].total():,}" for differs in (True, False)))
    console.print(table)


if __name__ == "__main__":
    main()
