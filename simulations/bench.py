"""Speed, each figure beside a peer's or a limit, in one run: `make bench`.

1. Choosing a page in process, without log, against Vowpal Wabbit's own Python `predict` on the
   same action sets and the same model.
2. Choices over HTTP with a durable log on SQLite, against an empty endpoint of the same server.
3. Retraining from SQL, against VW alone reading the prepared examples of the same log.

Figures are medians of CPU or wall times on this machine; what carries over is the ratios.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.domain import Context, Title, Variant
from artwork_bandit.operations import demo_catalog, imports
from artwork_bandit.operations.audience import World, WorldSettings, invent_tastes
from artwork_bandit.operations.server_process import free_port, serving
from artwork_bandit.policies import vowpal
from artwork_bandit.policies.cells import reallocate
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.serving.catalog import Catalog
from artwork_bandit.serving.chooser import Question, choose
from artwork_bandit.serving.state import State
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import cells, migrate, registry
from artwork_bandit.store.engine import Store
from artwork_bandit.training import examples
from artwork_bandit.training import train as training
from artwork_bandit.training import vowpal as runner
from simulations.worlds import START, Setting, UniformLog, uniform_log

SLOT = SLOTS["artwork"]


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
    contexts = [Context(genres={g: 50 * w for g, w in t.items()}) for t in tastes.values()]
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


def page_in_process(table: Table, here: Setting, log: UniformLog) -> None:
    trained = training.train(lambda: [log.block], log.lookup, SLOT, training.Settings())
    policy = trained.bundle.policy(1)
    catalog = Catalog("artwork", here.variants)
    state = State(
        generations={}, catalogs={"artwork": catalog}, cell_key=b"k",
        policies={("artwork", "live"): (policy, policy.bind(catalog.columns))},
        cells=reallocate((), {"live": 1.0}),
    )  # fmt: skip
    titles = tuple(t.title_id for t in here.titles[:800])
    question = Question(
        request_id="r", member_id="m", slot=SLOT, title_ids=titles, context=here.contexts[0]
    )
    ours = cpu(lambda: choose(question, state, b"d", 86_400.0, START), 20)
    theirs = _vw_page(log, policy, catalog, titles, here.contexts[0])
    table.add_row(
        f"page of 800 titles x 9 of {len(here.variants):,} variants", f"{ours * 1e3:.1f} ms CPU",
        f"{theirs * 1e3:.1f} ms CPU, VW's predict", f"{theirs / ours:.0f}x less",
    )  # fmt: skip


def _vw_page(
    log: UniformLog, policy: ModelPolicy, catalog: Catalog, titles: tuple[str, ...],
    context: Context,
) -> float:  # fmt: skip
    """Return the CPU seconds of scoring and exploring the same page with VW in Python."""
    with tempfile.TemporaryDirectory() as folder:
        text, model = Path(folder, "x.txt"), Path(folder, "m.vw")
        found = examples.survey(lambda: [log.block], log.lookup)
        with text.open("w") as out:
            half_life = training.Settings().half_life
            examples.write(out, lambda: [log.block], log.lookup, found, SLOT, half_life)
        runner.train(text, model, runner.ARGUMENTS, 1)
        pairs = found.pairs(SLOT.genre_feature)
        encoded = found.contexts.encode([context])[0]
        view = catalog.view(context, START)
        rows = [view.rows_of[t] for t in titles]
        columns = policy.model.variant_encoder.encode(catalog.columns.features)

        def page() -> None:
            for of_title in rows:
                scores = [predict(vowpal.line(encoded, columns[r], None, pairs)) for r in of_title]
                offsets = np.array([0, len(scores)])
                policy.exploration.pmf(np.array(scores), offsets)

        with runner.predictor(model) as predict:
            return cpu(page, 2)


def over_http(table: Table, here: Setting, log: UniformLog) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database_url=f"sqlite:///{folder}/b.db", port=free_port(0))
        store = Store(settings.database_url)
        migrate.migrate(store)
        imports.import_catalog(store, here.titles, here.variants, START, dry_run=False)
        made = training.train(lambda: [log.block], log.lookup, SLOT, training.Settings()).bundle
        with store.write() as connection:
            cells.set_shares(connection, {"live": 1.0})
            version = registry.register(
                connection, slot="artwork", data=made.encode(), window=(None, None), rows=1,
                settings={}, now=START,
            )  # fmt: skip
            registry.promote(connection, version, "benchmark", START)
        store.close()
        with serving(settings, Path(folder, "server.log")):
            titles = [t.title_id for t in here.titles[:800]]
            page = _latencies(settings.port, titles, clients=1, requests=100)
            one = _rate(settings.port, titles[:1], clients=32, requests=3000)
            empty = _rate(settings.port, None, clients=32, requests=3000)
    p50, p99 = np.percentile(page, [50, 99]) * 1e3
    table.add_row(
        "page of 800 titles over HTTP, durable log", f"p50 {p50:.0f} ms, p99 {p99:.0f} ms", "", ""
    )
    table.add_row(
        "one title over HTTP, durable log, 32 clients", f"{one:,.0f} requests/s",
        f"{empty:,.0f} requests/s, empty endpoint", f"{one / empty:.2f} of it",
    )  # fmt: skip


def _latencies(port: int, titles: list[str] | None, clients: int, requests: int) -> list[float]:
    def client(number: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        found = []
        for i in range(requests // clients):
            begun = time.perf_counter()
            if titles is None:
                connection.request("GET", "/livez")
            else:
                body = {"member_id": f"m{number}-{i}", "title_ids": titles}
                connection.request("POST", "/v1/choices", json.dumps(body))
            response = connection.getresponse()
            response.read()
            assert response.status == 200, response.status
            found.append(time.perf_counter() - begun)
        connection.close()
        return found

    with ThreadPoolExecutor(clients) as pool:
        return [seconds for each in pool.map(client, range(clients)) for seconds in each]


def _rate(port: int, titles: list[str] | None, clients: int, requests: int) -> float:
    begun = time.perf_counter()
    done = _latencies(port, titles, clients, requests)
    return len(done) / (time.perf_counter() - begun)


def retraining(table: Table, log: UniformLog) -> None:
    begun = time.perf_counter()
    training.train(lambda: [log.block], log.lookup, SLOT, training.Settings())
    whole = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "x.txt")
        found = examples.survey(lambda: [log.block], log.lookup)
        with text.open("w") as out:
            half_life = training.Settings().half_life
            examples.write(out, lambda: [log.block], log.lookup, found, SLOT, half_life)
        begun = time.perf_counter()
        runner.train(text, Path(folder, "m.vw"), runner.ARGUMENTS, 1)
        alone = time.perf_counter() - begun
    table.add_row(
        f"training on {len(log.block):,} decisions", f"{whole:.1f} s",
        f"{alone:.1f} s, VW alone on prepared text", f"{whole / alone:.1f}x its time",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--titles", type=int, default=5_556)
    arguments = parser.parse_args()
    here = setting(arguments.titles, 9, 1)
    log = uniform_log(here, 50_000, np.random.default_rng(1))
    table = Table(title="artwork-bandit beside its peers")
    for name in ("what", "here", "beside", "ratio"):
        table.add_column(name)
    page_in_process(table, here, log)
    over_http(table, here, log)
    retraining(table, log)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
