"""A public log judged: the Open Bandit Dataset's men sample (Saito et al. 2020, arXiv 2008.07146).

    python -m simulations.open_bandit --data DIR [--folder DIR]

Converts `random.csv.gz` and `bts.csv.gz` to replay logs as Parquet, each with the other policy as a
target, and judges both. Uniform choices judge the Thompson sampling policy by how often it showed
each item in each position: a Monte Carlo estimate of its mean probabilities, which moved in the
week. Its own log judges the uniform policy, which it can hardly. Members are those with the same
four features. The dataset's own tools, with another Monte Carlo pmf (its posterior's parameters are
not in the sample), say about .0045 (IPS) and .0046 (SNIPS) for random to BTS, and .0069 for BTS on
its own log: a handful of clicks apart, inside our interval.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console

from artwork_bandit.evaluation import report
from artwork_bandit.operations.judge import judge
from artwork_bandit.operations.replay_source import ReplaySource

ITEMS = 34
FEATURES = [f"user_feature_{i}" for i in range(4)]


def pmfs(bts: pd.DataFrame) -> dict[int, np.ndarray]:
    """Return, per position, how often Thompson sampling showed each item."""
    return {
        int(str(position)): np.bincount(rows["item_id"], minlength=ITEMS) / len(rows)
        for position, rows in bts.groupby("position")
    }


def convert(rows: pd.DataFrame, target: str, pmf_of: dict[int, np.ndarray], path: Path) -> None:
    """Write a log with the target's pmf per position."""
    rows = rows.sort_values("timestamp").reset_index(drop=True)
    items = [f"item-{i:02d}" for i in range(ITEMS)]
    members = rows[FEATURES].astype(str).agg("/".join, axis=1)
    table = pa.table(
        {
            "decision_id": [f"{target}-{i}" for i in range(len(rows))],
            "occurred_at": pa.array(pd.to_datetime(rows["timestamp"], utc=True, format="ISO8601")),
            "member_id": members.tolist(),
            "title_id": [f"position-{p}" for p in rows["position"]],
            "action_set": [items] * len(rows),
            "variant_id": [items[i] for i in rows["item_id"]],
            "propensity": rows["propensity_score"].to_numpy(),
            "reward": rows["click"].to_numpy(float),
            f"target:{target}": [pmf_of[p].tolist() for p in rows["position"]],
        }
    )
    pyarrow.parquet.write_table(table, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="random.csv.gz and bts.csv.gz")
    parser.add_argument("--folder", type=Path, help="keep the Parquet logs here")
    arguments = parser.parse_args()
    logs = {name: pd.read_csv(arguments.data / f"{name}.csv.gz") for name in ("random", "bts")}
    by_bts = pmfs(logs["bts"])
    uniform = {position: np.full(ITEMS, 1 / ITEMS) for position in by_bts}
    console = Console(width=80)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, target, pmf_of in (("random", "bts", by_bts), ("bts", "random", uniform)):
            path = folder / f"{name}.parquet"
            convert(logs[name], target, pmf_of, path)
            source = ReplaySource.of(None, path, "artwork")
            found, _ = judge(source, [f"column:{target}"])
            report.show(found, f"{name}.csv.gz", console)
            console.print(f"\nits own mean reward: {logs[name]['click'].mean():.4f}\n")


if __name__ == "__main__":
    main()
