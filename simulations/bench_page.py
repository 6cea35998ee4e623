"""A homepage chosen in process, beside Vowpal Wabbit's `predict` and MABWiser on the same titles.

VW answers with one `predict` (`--cb_explore_adf --squarecb`) a title, the context's text made once
a page; once with the variants' text made from their features, as a caller does, once with all of
it ready. The loop asks the model that serves, a logistic regression, variant by variant. Ours
chooses, draws and makes the answer's values; theirs only give pmfs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from artwork_bandit.domain import Context, Floats, Title, Variant
from artwork_bandit.operations import demo_catalog
from artwork_bandit.operations.audience import World, WorldSettings, invent_tastes
from artwork_bandit.policies import vowpal_text
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.bundle import Bundle
from artwork_bandit.policies.cells import reallocate
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.vowpal import Form
from artwork_bandit.serving.catalog import Catalog
from artwork_bandit.serving.chooser import Question, choose
from artwork_bandit.serving.state import State
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import examples
from artwork_bandit.training import train as training
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.survey import survey
from simulations.worlds import START, Setting, UniformLog, uniform_log

SLOT = SLOTS["artwork"]
DEVICES = ("tv", "phone", "tablet", "web")
HOW = training.Settings(products=("device*genre",), priors=lambda rows: Priors())
"""With the products some 200 context columns."""


def setting(titles: int, variants: int, seed: int) -> Setting:
    """Return titles with the demo's genres, their variants, and members."""
    rng = np.random.default_rng(seed)
    facts = demo_catalog.read_titles()
    made = [
        Title(title_id=f"t{i}", name=f"Title {i}", genres=facts[i % len(facts)].genres)
        for i in range(titles)
    ]
    options = []
    for title in made:
        genres = demo_catalog.pictured_genres(title)
        for j in range(variants):
            features = {
                "genre": genres[j % len(genres)],
                "composition": demo_catalog.COMPOSITIONS[j % 5],
                "tone": demo_catalog.TONES[j % 2],
                "faces": j % 5,
            }
            options.append(
                Variant(
                    variant_id=f"{title.title_id}-{j}", title_id=title.title_id, slot="artwork",
                    uri=f"/{title.title_id}-{j}.jpg", features=features, is_default=j == 0,
                )
            )  # fmt: skip
    tastes = invent_tastes(made[:120], 1000, rng)
    world = World(options, tastes, WorldSettings(base=-1.5), rng)
    contexts = [
        Context(genres={g: 50 * w for g, w in t.items()}, device=DEVICES[i % 4], hour=i % 24)
        for i, t in enumerate(tastes.values())
    ]
    return Setting(titles=made, variants=options, world=world, history=[], contexts=contexts)


def cpu(work: Callable[[], object], times: int) -> float:
    """Return the median CPU seconds of a call."""
    work()
    found = []
    for _ in range(times):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return statistics.median(found)


@dataclass(frozen=True, slots=True)
class Bench:
    """A trained model and a catalogue it is bound to."""

    here: Setting
    log: UniformLog
    bundle: Bundle

    @staticmethod
    def of(here: Setting, rows: int = 50_000) -> Bench:
        log = uniform_log(here, rows, np.random.default_rng(1))
        made = training.train(InMemory([log.block]), log.lookup, SLOT, HOW)
        return Bench(here, log, made.bundle)

    def state(self, variants: Sequence[Variant]) -> State:
        policy = self.bundle.policy(1)
        catalog = Catalog("artwork", variants)
        bound = policy.bind(catalog.columns)
        return State(
            generations={}, catalogs={"artwork": catalog}, cell_key=b"k",
            policies={("artwork", "live"): (policy, bound)}, cells=reallocate((), {"live": 1.0}),
        )  # fmt: skip

    def page(self, state: State, titles: int) -> Callable[[], object]:
        """Return a call that chooses for so many titles."""
        question = Question(
            request_id="r", member_id="m", slot=SLOT, context=self.here.contexts[0],
            title_ids=tuple(t.title_id for t in self.here.titles[:titles]),
        )  # fmt: skip
        return lambda: choose(question, state, b"d", 86_400.0, START)


def beside_peers(table: Table, bench: Bench) -> None:
    """Add the page of 800 titles beside VW and MABWiser."""
    here = bench.here
    state = bench.state(here.variants)
    catalog = state.catalogs["artwork"]
    ours = cpu(bench.page(state, 800), 100)
    view = catalog.view(here.contexts[0], START)
    rows = [found.rows for t in here.titles[:800] if (found := view.title(t.title_id))]
    policy = bench.bundle.policy(1)
    encoded = policy.model.context_encoder.encode([here.contexts[0]])[0]
    columns = policy.model.variant_encoder.encode(catalog.columns.features)
    # The peers need no products: they get the plain columns that are not 0.
    contexts = policy.model.context_encoder
    plain = encoded[: len(contexts.genres) + len(contexts.categories)]
    what = f"page of 800 titles x 9 of {len(here.variants):,} variants, CPU"
    for peer, seconds in (
        ("VW predict, one a title", _vw(plain, catalog, rows, ready=False)),
        ("VW predict, all text ready", _vw(plain, catalog, rows, ready=True)),
        ("loop over VW, one a variant", _vw_loop(bench, policy, encoded, columns, rows)),
        ("MABWiser LinUCB", _mabwiser(plain, rows)),
    ):
        shown = "not installed" if seconds is None else f"{seconds * 1e3:.0f} ms"
        ratio = "" if seconds is None else f"{seconds / ours:.0f}x less (goal 60)"
        if not peer.startswith("VW"):
            ratio = ratio.replace(" (goal 60)", "")
        table.add_row(what, f"{ours * 1e3:.2f} ms", f"{shown}, {peer}", ratio)


def _vw(encoded: Floats, catalog: Catalog, rows: list[np.ndarray], *, ready: bool) -> float:
    """Return the CPU seconds of VW's own exploration over the page."""
    import vowpalwabbit

    vw = vowpalwabbit.Workspace(
        "--cb_explore_adf --squarecb --cb_type mtr -q ut --quiet --power_t 0.3 -l 0.005"
    )

    def line(row: int) -> str:
        features = catalog.variants[row].features
        words = [f"{k}:{v}" if isinstance(v, int) else f"{k}={v}" for k, v in features.items()]
        return "|t " + " ".join(words).replace(" & ", "_")

    lines = [line(row) for row in range(len(catalog.variants))]
    rng = np.random.default_rng(1)
    for _ in range(200):
        some = rows[int(rng.integers(len(rows)))]
        shared = f"shared |u {vowpal_text.columns_texts(encoded[None])[0]}"
        shown = int(rng.integers(len(some)))
        label = f"{shown}:{-int(rng.random() < 0.2)}:{1 / len(some)} "
        vw.learn(
            [shared, *(f"{label if i == shown else ''}{lines[r]}" for i, r in enumerate(some))]
        )
    texts = [[lines[r] for r in some] for some in rows]

    def page() -> None:
        shared = f"shared |u {vowpal_text.columns_texts(encoded[None])[0]}"
        for some, of_title in zip(rows, texts, strict=True):
            vw.predict([shared, *(of_title if ready else [line(r) for r in some.tolist()])])

    found = cpu(page, 5)
    vw.finish()
    return found


def write_examples(path: Path, log: UniformLog, how: training.Settings) -> Form:
    """Write a log as VW's text; return its form."""
    found = survey(InMemory([log.block]), log.lookup, SLOT.reward.bounds, how.products)
    form = Form.of(Priors(), found.contexts, found.variants)
    with path.open("w") as out:
        ageing = Ageing(half_life=how.half_life)
        examples.write(out, InMemory([log.block]), log.lookup, found, form, SLOT, ageing)
    return form


def _vw_loop(
    bench: Bench, policy: ModelPolicy, encoded: Floats, columns: Floats, rows: list[np.ndarray]
) -> float:
    """Return the CPU seconds of scoring every variant with the serving model's own VW."""
    log = bench.log
    with tempfile.TemporaryDirectory() as folder:
        text, model = Path(folder, "x.txt"), Path(folder, "m.vw")
        form = write_examples(text, log, HOW)
        runner.train(text, model, f"{runner.ARGUMENTS} {form.interactions}", 1, 22)

        def page() -> None:
            for of_title in rows:
                scores = [predict(form.line(encoded, columns[r], None)) for r in of_title]
                policy.exploration.pmf(np.array(scores), np.array([0, len(scores)]))

        with runner.predictor(model) as predict:
            return cpu(page, 2)


def _mabwiser(encoded: Floats, rows: list[np.ndarray]) -> float | None:
    """Return the CPU seconds of one LinUCB with the page's nine arms, asked once a title."""
    try:
        from mabwiser.mab import MAB, LearningPolicy
    except ImportError:
        return None
    rng = np.random.default_rng(1)
    arms = list(range(len(rows[0])))
    bandit = MAB(arms, LearningPolicy.LinUCB(alpha=0.5), seed=1)
    contexts = rng.normal(size=(500, len(encoded)))
    bandit.fit(rng.choice(arms, 500), rng.integers(0, 2, 500), contexts)

    def page() -> None:
        for _ in rows:
            bandit.predict(encoded[None, :])

    return cpu(page, 2)


def growth(plots: Path) -> Table:
    """Return how the page's cost grows, and save it as a plot."""
    table = Table(title="CPU of a page as it grows (800 titles x 9 of 50,000 unless said)")
    for name in ("what grows", "sizes", "milliseconds"):
        table.add_column(name)
    found: dict[str, tuple[list[int], list[float]]] = {}
    base = Bench.of(setting(5_556, 9, 1), 20_000)
    state = base.state(base.here.variants)
    sizes = [1, 10, 100, 400, 800, 1_200, 2_000]
    found["titles"] = (sizes, [cpu(base.page(state, n), 30) for n in sizes])
    sizes = [2, 5, 10, 20, 40]
    found["variants per title"] = (sizes, [])
    for n in sizes:
        here = setting(800, n, 1)
        bench = Bench(here, base.log, base.bundle)
        found["variants per title"][1].append(cpu(bench.page(bench.state(here.variants), 800), 20))
    sizes = [1_000, 10_000, 50_000, 200_000]
    found["catalogue, a page of 100"] = (sizes, [])
    for n in sizes:
        here = setting(n // 9, 9, 1)
        bench = Bench(here, base.log, base.bundle)
        found["catalogue, a page of 100"][1].append(
            cpu(bench.page(bench.state(here.variants), 100), 30)
        )
    for what, (at, seconds) in found.items():
        table.add_row(
            what, " ".join(f"{n:,}" for n in at), " ".join(f"{s * 1e3:.2f}" for s in seconds)
        )
    _plot(found, plots / "page-growth.png")
    return table


def _plot(found: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3), sharey=True)
    for panel, (what, (at, seconds)) in zip(panels, found.items(), strict=True):
        panel.plot(at, [s * 1e3 for s in seconds], marker="o")
        panel.set_xlabel(what)
        panel.set_xscale("log" if "catalogue" in what else "linear")
        panel.set_ylim(0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("CPU of a page, ms")
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
