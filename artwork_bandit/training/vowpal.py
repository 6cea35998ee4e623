"""Running Vowpal Wabbit: training through its own parser, and predicting while probing.

Training runs in a process of its own, which reads examples while they are made: VW holds the
interpreter's lock for as long as it trains, and ends the process on some errors. The model file is
written to a temporary name, read back, checked, and only then taken: VW's save to a full disk
raises nothing, and it often loads truncated files.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
import vowpalwabbit

from artwork_bandit.domain import Floats
from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies.probing import Predictor

ARGUMENTS = (
    "--loss_function logistic --bfgs --l2 1 --passes 12 --termination 0.0000001 --mem 7 "
    "--holdout_off --noconstant --predict_only_model"
)
"""See `policies.vowpal`. Without `--holdout_off` VW would keep every tenth row back and stop early:
at 100,000 rows that cost a tenth of what can be gained. Its first step is tiny: where there is
little to learn, a hundredth of a thousandth less loss would end it there, having learned nothing.
"""
FEWEST_BITS, MOST_BITS = 14, 22
PIPE = 2**20
"""Bytes of examples on their way to Vowpal Wabbit: with fewer both processes take turns more."""
ROOM_LEFT = 2**18
"""Bytes of a disk, below which it is full."""
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
    with _finished(model) as partial:
        asked, files = _training(partial, arguments, seed, table_bits)
        _run(asked, files | {"-d": examples})


@contextmanager
def training(model: Path, arguments: str, seed: int, table_bits: int) -> Iterator[IO[str]]:
    """Give what examples are to be written to, while they are read; at the end leave the model as
    `train` does. Raises BrokenModel if no model came out."""
    with _finished(model) as partial, tempfile.TemporaryFile("w+") as said:
        asked, files = _training(partial, arguments, seed, table_bits)
        # Read from a pipe, it has to be named: without `-d` Vowpal Wabbit reads nothing.
        line = _line(asked, files | {"-d": Path("/dev/stdin")})
        done = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, text=True
        )
        assert done.stdin is not None
        _widen(done.stdin)
        broken = False
        try:
            yield done.stdin
            done.stdin.flush()
        except BrokenPipeError:
            broken = True
        except BaseException:
            done.kill()
            raise
        finally:
            with suppress(BrokenPipeError):
                done.stdin.close()
            done.wait()
        said.seek(0)
        if done.returncode or broken:
            _require_room(model.parent)
        _check(done.returncode, said.read())
        if broken:
            raise BrokenModel("Vowpal Wabbit stopped reading examples before their end")


def _widen(pipe: IO[str]) -> None:
    """Have a pipe hold more, where the host lets it: a user may have too many wide ones."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


def _require_room(folder: Path) -> None:
    """Raise OSError if a folder's disk is full: Vowpal Wabbit ends without saying so."""
    if shutil.disk_usage(folder).free < ROOM_LEFT:
        raise OSError(errno.ENOSPC, "no room is left", str(folder))


def _training(
    partial: Path, arguments: str, seed: int, table_bits: int
) -> tuple[str, dict[str, Path]]:
    asked = f"{arguments} --bit_precision {table_bits} --random_seed {seed} --quiet --kill_cache"
    return asked, {"--cache_file": partial.with_suffix(".cache"), "-f": partial}


@contextmanager
def _finished(model: Path) -> Iterator[Path]:
    """Give the name to write a model to, then put it in its place if it is whole."""
    partial = model.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    yield partial
    partial.with_suffix(".cache").unlink(missing_ok=True)
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
        example = workspace.parse(line, vowpalwabbit.LabelType.SIMPLE)
        try:
            return float(workspace.predict(example, vowpalwabbit.PredictionType.SCALAR))
        finally:
            workspace.finish_example(example)  # or it leaks

    try:
        yield predict
    finally:
        workspace.finish()


def _run(arguments: str, files: Mapping[str, Path]) -> None:
    done = subprocess.run(_line(arguments, files), capture_output=True, text=True, check=False)
    _check(done.returncode, done.stderr)


def _line(arguments: str, files: Mapping[str, Path]) -> list[str]:
    named = [part for name, path in files.items() for part in (name, str(path))]
    return [sys.executable, "-m", "vowpalwabbit", *arguments.split(), *named]


def _check(code: int, stderr: str) -> None:
    if code:
        said = stderr.strip().splitlines()[-4:]
        raise BrokenModel(f"Vowpal Wabbit ended with {code}: {' / '.join(said)[:400]}")
