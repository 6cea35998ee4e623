"""Running Vowpal Wabbit: training through its own parser, and predicting while probing.

Training runs in a process of its own: VW holds the interpreter's lock for as long as it trains,
and ends the process on some errors. The model file is written to a temporary name, read back,
checked, and only then taken: VW's save to a full disk raises nothing, and it often loads truncated
files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import vowpalwabbit

from artwork_bandit.domain import Floats
from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies.vowpal import Predictor

ARGUMENTS = (
    "--loss_function logistic --bfgs --l2 1 --passes 12 --termination 0.00001 --mem 7 "
    "--holdout_off --predict_only_model"
)
"""See `policies.vowpal`. Without `--holdout_off` VW would keep every tenth row back and stop early:
at 100,000 rows that cost a tenth of what can be gained."""
FEWEST_BITS, MOST_BITS = 14, 22
ROOM = 16
"""Places in VW's weight table per feature, so that few share theirs; each pass costs as much as
the table is large, and at 22 bits L-BFGS takes
some 350 MB."""


def bits(features: int) -> int:
    """Return the size of VW's weight table as a power of 2."""
    return min(max(int(features * ROOM).bit_length(), FEWEST_BITS), MOST_BITS)


def train(examples: Path, model: Path, arguments: str, seed: int, table_bits: int) -> None:
    """Train on a text file; leave the model at `model`, whole or not at all.

    Raises BrokenModel if no model came out.
    """
    partial, cache = model.with_suffix(".partial"), model.with_suffix(".cache")
    partial.unlink(missing_ok=True)
    asked = f"{arguments} --bit_precision {table_bits} --random_seed {seed} --quiet --kill_cache"
    _run(asked, {"--cache_file": cache, "-d": examples, "-f": partial})
    cache.unlink(missing_ok=True)
    if not partial.exists() or partial.stat().st_size == 0:
        raise BrokenModel(f"Vowpal Wabbit wrote no model to {partial}; is the disk full?")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, model)


def predictions(model: Path, examples: Path) -> Floats:
    """Return the probability that the model gives to each line of a text file."""
    out = model.with_suffix(".predictions")
    asked = "--quiet --testonly --predict_only_model --link logistic"
    _run(asked, {"--initial_regressor": model, "-d": examples, "-p": out})
    found: Floats = np.loadtxt(out, usecols=0, ndmin=1)
    return found


@contextmanager
def predictor(model: Path) -> Iterator[Predictor]:
    """Give a function from an example's line to the raw prediction."""
    workspace = vowpalwabbit.Workspace(
        arg_list=[
            "--quiet",
            "--testonly",
            "--predict_only_model",
            "--initial_regressor",
            str(model),
        ]
    )

    def predict(line: str) -> float:
        example = workspace.parse(line)
        try:
            return float(workspace.predict(example))
        finally:
            workspace.finish_example(example)  # or it leaks

    try:
        yield predict
    finally:
        workspace.finish()


def _run(arguments: str, files: Mapping[str, Path]) -> None:
    named = [part for name, path in files.items() for part in (name, str(path))]
    line = [sys.executable, "-m", "vowpalwabbit", *arguments.split(), *named]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-4:]
        raise BrokenModel(f"Vowpal Wabbit ended with {done.returncode}: {' / '.join(said)[:400]}")
