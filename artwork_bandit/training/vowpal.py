"""Running Vowpal Wabbit: training through its own parser, and predicting while probing.

The model file is written to a temporary name, read back, checked, and only then taken: VW's save
to a full disk raises nothing, and it often loads truncated files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vowpalwabbit

from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies.vowpal import Predictor

ARGUMENTS = "--loss_function logistic --freegrad -q gv"
"""See `policies.vowpal`; freegrad needs no learning rate."""
NEVER_NAN = "--loss_function logistic --coin -q gv"
"""What is trained with where freegrad leaves numbers that are not finite. Not always: coin needs
more rows for the same (`simulations.learning`)."""


def train(examples: Path, model: Path, arguments: str, seed: int) -> None:
    """Train on a text file; leave the model at `model`, whole or not at all.

    Raises BrokenModel if no model came out.
    """
    partial = model.with_suffix(".partial")
    workspace = vowpalwabbit.Workspace(
        f"{arguments} --bit_precision 22 --random_seed {seed} --quiet -d {examples} -f {partial}"
    )
    workspace.finish()
    if not partial.exists() or partial.stat().st_size == 0:
        raise BrokenModel(f"Vowpal Wabbit wrote no model to {partial}; is the disk full?")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, model)


@contextmanager
def predictor(model: Path) -> Iterator[Predictor]:
    """Give a function from an example's line to the raw prediction."""
    workspace = vowpalwabbit.Workspace(f"--quiet --testonly --initial_regressor {model}")

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
