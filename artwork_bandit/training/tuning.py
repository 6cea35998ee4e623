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

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.policies import probing
from artwork_bandit.policies.block import Log, Lookup
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.vowpal import Form
from artwork_bandit.slots import Slot
from artwork_bandit.training import examples
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.ageing import SMALLEST_WEIGHT, Ageing
from artwork_bandit.training.conditioning import Conditioning
from artwork_bandit.training.likelier import STEPS, acting, likelier_priors
from artwork_bandit.training.progress import Progress
from artwork_bandit.training.survey import Survey, base_logits

VALIDATED_SHARE, WATCHED_SHARE = 0.25, 0.1
"""Shares of the newest rows that priors, and their ageing, are judged on."""
MOST_ROWS = 100_000
LEFT_OUT = -(2**63)
"""In the place of the time of a row that is too old."""
FEWEST_WATCHED = 20_000
"""Rows below which the newest are too few to tell of a change."""
FASTER, SLOWER = 3.0, 1 / 3
"""What ageing is multiplied with."""
LEAST_AGEING, MOST_AGEING = 1.0, 100.0
MOVES: dict[str, tuple[float, ...]] = {
    "own": (0.5, 2.0), "cross": (3.0, 0.0), "own_cross": (0.5, 2.0, 0.0),
    "variant": (0.5, 2.0), "affinity": (0.2, 5.0), "genre_cross": (2.0, 0.0),
    "watched": (3.0, 0.0), "own_genre": (0.5, 2.0),
}  # fmt: skip
"""What each prior is multiplied with, again while it helps; the next factor if it does not."""
FIRST = {"genre_cross": 0.05}
"""Tried where a prior is 0."""
MOST_STEPS = 4
SURE, SURE_OF_CHANGE = 2.0, 3.0
"""Standard errors of the paired difference of losses by which a move must help: of priors, and of
ageing, which is asked for at every training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The priors chosen and the losses they were chosen by."""

    priors: Priors
    losses: dict[str, float]
    """What was tried -> mean logistic loss on the later rows."""
    rows: int
    """Rows it was judged on."""


def tune(trial: Trial, start: Priors, progress: Progress) -> Tuned:
    """Return the best priors, looked for from a start."""
    found = Tuned(priors=start, losses={}, rows=0)
    return watch(trial, found.priors, progress) or _moved(trial, found, progress)


def watch(trial: Trial, priors: Priors, progress: Progress) -> Tuned | None:
    """Return priors chosen anew if the newest rows say that what was learned ages faster, or
    slower, than was thought; else None."""
    progress("looking for changes", 0.0)
    trial.cut(WATCHED_SHARE)
    search = _Search(trial, priors, SURE_OF_CHANGE)
    if not search.step("ageing", FASTER) and not search.step("ageing", SLOWER):
        return None
    # Whatever is old news is no help in judging priors either: the same rows judge them.
    found = Tuned(priors=search.best, losses=search.losses, rows=len(search.least))
    return _moved(trial, found, progress, recut=False)


def _moved(trial: Trial, found: Tuned, progress: Progress, *, recut: bool = True) -> Tuned:
    """Return the priors moved one by one."""
    progress("choosing priors", 0.0)
    if recut:
        trial.cut(VALIDATED_SHARE)
    search = _Search(trial, found.priors, SURE)
    search.take("likelier", _likelier(trial, search.best))
    without = {"own_cross"} if not trial.form.factors else set()
    without |= {"watched"} if trial.form.watched is None else set()
    without |= {"own_genre"} if trial.form.own_genres is None else set()
    moves = [(name, factors) for name, factors in MOVES.items() if name not in without]
    for done, (name, factors) in enumerate(moves):
        for factor in factors:
            progress("choosing priors", done / len(moves))
            if search.step(name, factor):
                break
    return Tuned(
        priors=search.best, losses=found.losses | search.losses, rows=len(search.least)
    )  # fmt: skip


def _likelier(trial: Trial, start: Priors) -> Priors:
    """Return priors under which the earlier rows are likelier."""
    found = start
    for _ in range(STEPS):
        found = trial.likelier(found, start)
    return found


class _Search:
    """The best priors so far, and what they lose."""

    def __init__(self, trial: Trial, start: Priors, sure: float) -> None:
        self._trial, self._sure = trial, sure
        self.best = start
        self.least = trial.losses(start)
        self.losses = {"start": float(self.least.mean())}

    def take(self, name: str, priors: Priors) -> None:
        """Take priors estimated from the earlier rows, unless the later rows' loss rises."""
        reached = self._trial.losses(priors)
        self.losses[name] = float(reached.mean())
        if reached.mean() <= self.least.mean():
            self.best, self.least = priors, reached

    def step(self, name: str, factor: float) -> bool:
        """Multiply one prior, again while it surely helps; return whether it did."""
        helped = False
        for _ in range(MOST_STEPS if factor else 1):
            before = getattr(self.best, name)
            value = factor * before or (FIRST.get(name, 0.0) if factor else 0.0)
            if name == "ageing":
                value = min(max(value, LEAST_AGEING), MOST_AGEING)
            if value == before:
                break
            tried = msgspec.structs.replace(self.best, **{name: value})
            reached = self._trial.losses(tried)
            self.losses[f"{name} {value:.3g}"] = float(reached.mean())
            if not _surely_less(reached, self.least, self._trial.members, self._sure):
                break
            self.best, self.least, helped = tried, reached, True
        return helped


class Trial:
    """The newest examples, written once; another prior is another weight of a namespace, or of the
    rows."""

    def __init__(
        self, folder: Path, log: Log, lookup: Lookup, found: Survey, slot: Slot,
        ageing: Ageing, arguments: str, seed: int,
    ) -> None:  # fmt: skip
        self._folder, self._arguments, self._seed = folder, arguments, seed
        self._bits = runner.bits(found.features)
        self.form = Form.of(Priors(), found.contexts, found.variants, found.doubtful)
        self._conditioning = Conditioning.of(found, self.form)
        self.form = msgspec.structs.replace(self.form, tries_genres=True)
        self._titles, self._base = len(found.title_numbers), found.base_logits()
        self._whole = folder / "all.txt"
        with self._whole.open("w", encoding="ascii") as out:
            since = found.since(MOST_ROWS)
            written = examples.write(
                out, log, lookup, found, self.form, slot, ageing, since, with_rows=True
            )  # fmt: skip
        assert written.rows is not None, "an empty log is refused before"
        assert written.told is not None
        self._told, self._columns = written.told, _columns(found)
        self._rows, at = written.rows, written.rows.occurred_at
        self._at = np.where(at >= np.sort(at)[-MOST_ROWS:][0], at, LEFT_OUT)
        self._changed_at = ageing.changed_at
        self._early, self._late = folder / "early.txt", folder / "late.txt"
        self._later = np.zeros(len(at), bool)
        """The rows that judge."""
        self._labels: list[tuple[float, float]] = []
        """Of the later rows' lines."""

    def cut(self, share: float) -> None:
        """Have the newest `share` of the rows, since a change if there was one, judge what is
        learned from the others."""
        newest = np.argsort(self._at, kind="stable")[::-1]
        first = LEFT_OUT + 1 if self._changed_at is None else self._changed_at
        judging = np.count_nonzero(self._at >= first)
        self._later = np.zeros(len(self._at), bool)
        self._later[newest[: max(1, round(judging * share))]] = True
        rows, earned = np.zeros(self._titles), np.zeros(self._titles)
        with self._whole.open() as text:
            for line, late, at in zip(text, *self._of_lines(), strict=True):
                if not late and at != LEFT_OUT:
                    label, weight, _, title, _ = _parts(line)
                    rows[title] += weight
                    earned[title] += weight * (label > 0)
        # Titles' levels from the earlier rows alone: if they knew the later ones, what is learned
        # of a title from the earlier would be wrong there by just as much.
        base, known = base_logits(rows, earned), self._base
        self._labels = []
        with (
            self._whole.open() as text, self._early.open("w") as early,
            self._late.open("w") as late_ones,
        ):  # fmt: skip
            for line, late, at in zip(text, *self._of_lines(), strict=True):
                if at == LEFT_OUT:
                    continue
                label, weight, level, title, features = _parts(line)
                begin = f"{label:g} {weight:.7g} {level + base[title] - known[title]:.5f}"
                (late_ones if late else early).write(f"{begin} {features}")
                if late:
                    self._labels.append((label, weight))

    @property
    def members(self) -> Ints:
        """Whose the later rows are."""
        return self._rows.members[self._later]

    def _of_lines(self) -> tuple[list[bool], list[int]]:
        """Return, line by line, whether it is later, and its row's time or `LEFT_OUT`."""
        lines = self._rows.lines
        return np.repeat(self._later, lines).tolist(), np.repeat(self._at, lines).tolist()

    def losses(self, priors: Priors) -> Floats:
        """Return the later rows' logistic losses, by weight, of a model of the earlier ones."""
        form, model = self._model(priors)
        late = self._with_heads(self._late, form)
        losses = _logistic_losses(runner.predictions(model, late), self._labels)
        lines = self._rows.lines[self._later]
        found: Floats = np.add.reduceat(losses, np.cumsum(lines) - lines)
        return found / np.mean(self._rows.weights[self._later])

    def likelier(self, priors: Priors, start: Priors) -> Priors:
        """Return priors under which the earlier rows are likelier; `start` has the defaults."""
        form, model = self._model(priors)
        with runner.predictor(model) as predict:
            weights = probing.compile_weights(predict, form, *self._columns, acting(form))
        share = self._earlier(priors.ageing) / float(self._rows.weights.sum())
        return likelier_priors(form, start, weights, self._told.aged(share))

    def _model(self, priors: Priors) -> tuple[Form, Path]:
        """Return a model of the earlier rows, and how its examples were written."""
        form = msgspec.structs.replace(self.form, priors=priors)
        form = self._conditioning.narrowed(form, self._earlier(priors.ageing))
        early = self._with_heads(self._early, form, self._aged(priors.ageing))
        model = self._folder / "tried.vw"
        arguments = f"{self._arguments} {form.interactions}"
        runner.train(early, model, arguments, self._seed, self._bits)
        return form, model

    def _earlier(self, ageing: float) -> float:
        """Return what the earlier rows weigh together, if rows age so much faster."""
        some = self._rows.weights[~self._later & (self._at != LEFT_OUT)]
        return float(np.maximum(some**ageing, SMALLEST_WEIGHT).sum())

    def _aged(self, ageing: float) -> Iterator[float] | None:
        """Return what each of the earlier rows' lines weighs more, if rows age so much faster."""
        if ageing == 1.0:
            return None
        weights, lines = self._rows.weights, self._rows.lines
        times = np.maximum(weights**ageing, SMALLEST_WEIGHT) / weights
        earlier = ~self._later & (self._at != LEFT_OUT)
        return iter(np.repeat(times[earlier], lines[earlier]).tolist())

    def _with_heads(self, path: Path, form: Form, times: Iterator[float] | None = None) -> Path:
        """Return a copy of a text with the namespaces' weights of `form`, its lines weighing so
        many times what they did."""
        before, after = self.form.heads, form.heads
        changed = [(f"{before[n]} ", f"{after[n]} ") for n in before if before[n] != after[n]]
        copy = path.with_suffix(".tried")
        with path.open() as lines, copy.open("w") as out:
            while chunk := lines.readlines(1 << 20):
                text = "".join(chunk if times is None else map(_reweighed, chunk, times))
                for old, new in changed:
                    text = text.replace(old, new)
                out.write(text)
        return copy


def _columns(found: Survey) -> tuple[int, int]:
    return len(found.contexts.columns), len(found.variants.columns)


def _parts(line: str) -> tuple[float, float, float, int, str]:
    """Return (label, weight, base, title number, features) of a line."""
    label, weight, base, features = line.split(" ", 3)
    return float(label), float(weight), float(base), int(features.split(" ", 2)[1]), features


def _logistic_losses(chance: Floats, labels: list[tuple[float, float]]) -> Floats:
    label, weight = np.array(labels).T
    right = np.clip(np.where(label > 0, chance, 1 - chance), 1e-6, 1.0)
    found: Floats = -weight * np.log(right)
    return found


def _reweighed(line: str, times: float) -> str:
    label, weight, rest = line.split(" ", 2)
    return f"{label} {float(weight) * times:.7g} {rest}"


def _surely_less(losses: Floats, others: Floats, members: Ints, sure: float) -> bool:
    """Tell whether the mean difference is so many standard errors above 0; a member's rows are
    taken together."""
    gain = others - losses
    of = np.unique(members, return_inverse=True)[1]
    n, groups = len(gain), int(of.max()) + 1
    # A few members' sums tell little of how much sums vary; rows' own noise is the least there is.
    summed = np.square(np.bincount(of, gain - gain.mean())).sum() * groups / max(groups - 1, 1)
    error = max(np.sqrt(summed) / n, gain.std() / np.sqrt(n))
    return bool(gain.mean() > sure * error)
