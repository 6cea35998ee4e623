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

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.policies import probing, vowpal_text
from artwork_bandit.policies.block import Log, Lookup
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.vowpal import Form
from artwork_bandit.slots import Slot
from artwork_bandit.training import examples, surrogates
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
RANGES = {"ageing": (1.0, 100.0), "surrogate": (0.0, 1.0)}
MOVES: dict[str, tuple[float, ...]] = {
    "own": (0.5, 2.0), "cross": (3.0, 0.0), "own_cross": (0.5, 2.0, 0.0),
    "variant": (0.5, 2.0), "affinity": (0.2, 5.0), "genre_cross": (2.0, 0.0),
    "watched": (3.0, 0.0), "own_genre": (0.5, 2.0), "surrogate": (2.0, 0.5, 0.0),
}  # fmt: skip
"""What each prior is multiplied with, again while it helps; the next factor if it does not."""
FIRST = {"genre_cross": 0.05, "surrogate": 0.5}
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
    without |= set() if trial.has_surrogates and search.best.ageing == 1.0 else {"surrogate"}
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
            least, most = RANGES.get(name, (0.0, np.inf))
            value = min(max(value, least), most)
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
                out, log, lookup, found, self.form, slot, ageing, since, labelled=False
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
        self._bases, self._expected = self._rows.bases, found.expected
        self._by_clicks = self._rows.rewards
        """What the earlier rows' clicks stand for, by these alone."""

    def cut(self, share: float) -> None:
        """Have the newest `share` of the rows, since a change if there was one, judge what is
        learned from the others."""
        newest = np.argsort(self._at, kind="stable")[::-1]
        first = LEFT_OUT + 1 if self._changed_at is None else self._changed_at
        judging = np.count_nonzero(self._at >= first)
        self._later = np.zeros(len(self._at), bool)
        self._later[newest[: max(1, round(judging * share))]] = True
        rows, earlier = self._rows, self._earlier
        weights, of_title = rows.weights[earlier], rows.titles[earlier]
        shown, earned = np.zeros(self._titles), np.zeros(self._titles)
        np.add.at(shown, of_title, weights)
        np.add.at(earned, of_title, weights * rows.rewards[earlier])
        # Titles' levels from the earlier rows alone: if they knew the later ones, what is learned
        # of a title from the earlier would be wrong there by just as much.
        self._bases = rows.bases + (base_logits(shown, earned) - self._base)[rows.titles]
        # And so it is of what clicks say.
        said = self._expected.learned_from(
            of_title, rows.numbers[earlier], weights, rows.clicked[earlier], rows.rewards[earlier]
        )
        self._by_clicks = said.by_clicks(rows.rewards, rows.clicked, rows.numbers)
        self._bases += (said.own_means - self._expected.own_means)[rows.numbers]
        with (
            self._whole.open() as text, self._early.open("w") as early,
            self._late.open("w") as late_ones,
        ):  # fmt: skip
            for line, is_late, is_early in zip(
                text, self._later.tolist(), earlier.tolist(), strict=True
            ):
                if is_late or is_early:
                    (late_ones if is_late else early).write(line)

    @property
    def has_surrogates(self) -> bool:
        """Whether clicks stand for anything."""
        return not np.array_equal(self._rows.rewards, self._by_clicks)

    @property
    def members(self) -> Ints:
        """Whose the later rows are."""
        return self._rows.members[self._later]

    @property
    def _earlier(self) -> npt.NDArray[np.bool_]:
        """Which rows are learned from."""
        found: npt.NDArray[np.bool_] = ~self._later & (self._at != LEFT_OUT)
        return found

    def losses(self, priors: Priors) -> Floats:
        """Return the later rows' logistic losses, by weight, of a model of the earlier ones."""
        form, model = self._model(priors)
        late, rows = self._later, self._rows
        # What is predicted hangs on no label: each row is one line, whatever it earned.
        labels = vowpal_text.labels(np.ones(late.sum()), np.ones(late.sum()), self._bases[late])
        text = self._with_heads(self._late, form, labels)
        chance = np.clip(runner.predictions(model, text), 1e-6, 1 - 1e-6)
        reward, weight = rows.rewards[late], rows.weights[late]
        lost = reward * np.log(chance) + (1 - reward) * np.log(1 - chance)
        found: Floats = -lost * weight / weight.mean()
        return found

    def likelier(self, priors: Priors, start: Priors) -> Priors:
        """Return priors under which the earlier rows are likelier; `start` has the defaults."""
        form, model = self._model(priors)
        with runner.predictor(model) as predict:
            weights = probing.compile_weights(predict, form, *self._columns, acting(form))
        share = float(self._aged(priors.ageing).sum()) / float(self._rows.weights.sum())
        return likelier_priors(form, start, weights, self._told.aged(share))

    def _model(self, priors: Priors) -> tuple[Form, Path]:
        """Return a model of the earlier rows, and how its examples were written."""
        form = msgspec.structs.replace(self.form, priors=priors)
        weights, earlier = self._aged(priors.ageing), self._earlier
        form = self._conditioning.narrowed(form, float(weights.sum()))
        earned = surrogates.labels(self._rows.rewards, self._by_clicks, priors)[earlier]
        labels = vowpal_text.labels(earned, weights, self._bases[earlier])
        early = self._with_heads(self._early, form, labels)
        model = self._folder / "tried.vw"
        arguments = f"{self._arguments} {form.interactions}"
        runner.train(early, model, arguments, self._seed, self._bits)
        return form, model

    def _aged(self, ageing: float) -> Floats:
        """Return what the earlier rows weigh, if rows age so much faster."""
        found: Floats = np.maximum(self._rows.weights[self._earlier] ** ageing, SMALLEST_WEIGHT)
        return found

    def _with_heads(self, path: Path, form: Form, labels: list[list[str]]) -> Path:
        """Return a copy of a text with the namespaces' weights of `form`, its rows labelled."""
        before, after = self.form.heads, form.heads
        changed = [(f"{before[n]} ", f"{after[n]} ") for n in before if before[n] != after[n]]
        copy, of_row = path.with_suffix(".tried"), iter(labels)
        with path.open() as lines, copy.open("w") as out:
            while chunk := lines.readlines(1 << 20):
                text = "".join(vowpal_text.labelled(islice(of_row, len(chunk)), chunk))
                for old, new in changed:
                    text = text.replace(old, new)
                out.write(text)
        return copy


def _columns(found: Survey) -> tuple[int, int]:
    return len(found.contexts.columns), len(found.variants.columns)


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
