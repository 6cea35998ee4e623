"""Choosing the priors on the log itself, by time-ordered validation.

The rows that can teach are cut in time; models with different priors learn from the earlier part
and are judged by the logistic loss of what was shown in the later part, which needs far fewer rows
to tell two models apart than their value as policies would. One prior is moved at a time, by a
factor, from a default that serves logs of any size, and kept only where the paired losses say so
by more than their noise: priors picked by the smallest loss alone lost a twentieth of what could be
gained at 20,000 and at 100,000 rows. Large logs are judged on their newest rows: priors change
slowly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.policies.block import Log, Lookup
from artwork_bandit.policies.vowpal import Form, Priors
from artwork_bandit.slots import Slot
from artwork_bandit.training import examples
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.survey import Survey, base_logits

VALIDATED_SHARE = 0.25
MOST_ROWS = 100_000
MOVES: dict[str, tuple[float, ...]] = {
    "own": (0.5, 2.0), "cross": (3.0, 0.0), "own_cross": (0.5, 2.0, 0.0),
    "variant": (0.5, 2.0), "affinity": (0.2,),
}  # fmt: skip
"""What each prior is multiplied with, again while it helps; the next factor if it does not."""
MOST_STEPS = 3
SURE = 2.0
"""Standard errors of the paired difference of losses by which a move must help."""

Progress = Callable[[str, float], None]
"""Told what is going on and how much of it is done, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The priors chosen and the losses they were chosen by."""

    priors: Priors
    losses: dict[str, float]
    """What was tried -> mean logistic loss on the later rows."""
    rows: int
    """Rows it was judged on."""


def tune(
    folder: Path, log: Log, lookup: Lookup, found: Survey, slot: Slot,
    half_life: dt.timedelta, arguments: str, seed: int, progress: Progress,
) -> Tuned:  # fmt: skip
    """Return the best priors; examples are written to `folder` again for each that is tried."""
    trial = _Trial(folder, log, lookup, found, slot, half_life, arguments, seed)
    best = Priors()
    progress("choosing priors", 0.0)
    least = trial.losses(best)
    losses = {"default": float(least.mean())}
    moves = [m for m in MOVES.items() if m[0] != "own_cross" or found.contexts.factors]
    for done, (name, factors) in enumerate(moves):
        for factor in factors:
            helped = False
            for _ in range(MOST_STEPS if factor else 1):
                progress("choosing priors", done / len(moves))
                value = factor * getattr(best, name)
                tried = msgspec.structs.replace(best, **{name: value})
                reached = trial.losses(tried)
                losses[f"{name} {value:.3g}"] = float(reached.mean())
                if not _surely_less(reached, least):
                    break
                best, least, helped = tried, reached, True
            if helped:
                break
    return Tuned(priors=best, losses=losses, rows=len(least))


class _Trial:
    """The examples, written once; another prior is another weight of a namespace."""

    def __init__(
        self, folder: Path, log: Log, lookup: Lookup, found: Survey, slot: Slot,
        half_life: dt.timedelta, arguments: str, seed: int,
    ) -> None:  # fmt: skip
        self._folder, self._arguments, self._seed = folder, arguments, seed
        self._bits = runner.bits(found.features)
        self._form = Form.of(Priors(), found.contexts, found.variants)
        whole = folder / "all.txt"
        with whole.open("w", encoding="ascii") as out:
            lines = examples.write(out, log, lookup, found, self._form, slot, half_life)
        self._early, self._late = folder / "early.txt", folder / "late.txt"
        kept = min(lines, MOST_ROWS)
        cut = int(kept * (1 - VALIDATED_SHARE))
        titles = len(found.title_numbers)
        rows, earned = np.zeros(titles), np.zeros(titles)
        with whole.open() as text:
            for line in islice(text, lines - kept, lines - kept + cut):
                label, weight, title, _ = _parts(line)
                rows[title] += weight
                earned[title] += weight * (label > 0)
        # Titles' levels from the earlier rows alone: if they knew the later ones, what is learned
        # of a title from the earlier would be wrong there by just as much.
        base = base_logits(rows, earned)
        self._labels: list[tuple[float, float]] = []
        with whole.open() as text, self._early.open("w") as early, self._late.open("w") as late:
            for i, line in enumerate(islice(text, lines - kept, None)):
                label, weight, title, features = _parts(line)
                begin = f"{label:g} {weight:.7g} {base[title]:.5f}"
                (early if i < cut else late).write(f"{begin} {features}")
                if i >= cut:
                    self._labels.append((label, weight))
        whole.unlink()

    def losses(self, priors: Priors) -> Floats:
        """Return the later rows' logistic losses, by weight, of a model of the earlier ones."""
        form = msgspec.structs.replace(self._form, priors=priors)
        early, late = (self._with_heads(path, form) for path in (self._early, self._late))
        model = self._folder / "tried.vw"
        arguments = f"{self._arguments} {form.interactions}"
        runner.train(early, model, arguments, self._seed, self._bits)
        return _logistic_losses(runner.predictions(model, late), self._labels)

    def _with_heads(self, path: Path, form: Form) -> Path:
        """Return a copy of a text with the namespaces' weights of `form`."""
        before, after = self._form.heads, form.heads
        changed = [(f"{before[n]} ", f"{after[n]} ") for n in before if before[n] != after[n]]
        copy = path.with_suffix(".tried")
        with path.open() as lines, copy.open("w") as out:
            while chunk := lines.readlines(1 << 20):
                text = "".join(chunk)
                for old, new in changed:
                    text = text.replace(old, new)
                out.write(text)
        return copy


def _parts(line: str) -> tuple[float, float, int, str]:
    """Return (label, weight, title number, features) of a line."""
    label, weight, _, features = line.split(" ", 3)
    return float(label), float(weight), int(features.split(" ", 2)[1]), features


def _logistic_losses(chance: Floats, labels: list[tuple[float, float]]) -> Floats:
    label, weight = np.array(labels).T
    right = np.clip(np.where(label > 0, chance, 1 - chance), 1e-6, 1.0)
    found: Floats = -(weight / weight.mean()) * np.log(right)
    return found


def _surely_less(losses: Floats, others: Floats) -> bool:
    gain = others - losses
    error = gain.std() / np.sqrt(len(gain))
    return bool(gain.mean() > SURE * error)
