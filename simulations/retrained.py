"""What `simulations.retraining` measures: training on a database's log, in a process of its own.

    python -m simulations.retrained URL

Prints the most memory it took, MB.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from artwork_bandit.operations.reading import reading, reading_processes
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.priors import Priors
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store.engine import Store
from artwork_bandit.training import train as training

SLOT = SLOTS["artwork"]
HOW = training.Settings(priors=lambda rows: Priors())


def trained(url: str) -> None:
    """Train on a database's log."""
    source = ReplaySource.of(Store(url), None, SLOT.name)
    with reading(source, processes=reading_processes(Settings())) as log:
        training.train(log, source.lookup, SLOT, HOW)


def peak() -> float:
    """Return the most memory, MB, of this process or of one it started, whichever needed more."""
    status = Path("/proc/self/status")
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    if not status.exists():
        return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, of_children)
    # What `getrusage` tells of this process has its parent's, which made the log, in it.
    told = dict(line.split(":", 1) for line in status.read_text("utf-8").splitlines())
    return max(int(told["VmHWM"].split()[0]) / 1024, of_children)


if __name__ == "__main__":
    trained(sys.argv[1])
    print(peak())
