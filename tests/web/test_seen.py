"""What pages say of a log, without a browser."""

import csv
import html
import io
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from flask.testing import FlaskClient

from artwork_bandit.comparison.segments import by_segment
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.policies.audiences import Audiences
from artwork_bandit.policies.communities import Communities
from artwork_bandit.policies.encoding import ContextEncoder
from artwork_bandit.policies.segments import FIELDS, Segments
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import registry, rollups
from artwork_bandit.store.engine import Store
from artwork_bandit.web import api, pages
from artwork_bandit.web.app import create_app
from tests.conftest import Postgres
from tests.samples import NOW
from tests.simulated import WINDOW, Simulation
from tests.web.test_actions import HTML, post


@pytest.fixture(scope="module")
def sqlite_log(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a log, made once: each test has a copy."""
    path = tmp_path_factory.mktemp("log") / "log.db"
    shutil.copy(sqlite_template, path)
    _simulate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def postgres_log(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    _simulate(postgres.create("seen", postgres_template))
    yield "seen"
    postgres.drop("seen")


def _simulate(url: str) -> None:
    shares = {"explore": 0.5, "baseline": 0.1, "live": 0.4}
    store = Store(url)
    simulation = Simulation.begin(store, url, titles=2, members=1500, shares=shares)
    simulation.visits(1500)
    join_rewards(store, SLOTS["artwork"], simulation.settings, simulation.now + WINDOW * 2)
    simulation.service.close()
    store.close()


@pytest.fixture
def sqlite_url(sqlite_log: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(sqlite_log, tmp_path / 'test.db')}"


@pytest.fixture
def postgres_url(postgres: Postgres, postgres_log: str) -> Iterator[str]:
    yield postgres.create("copied", postgres_log)
    postgres.drop("copied")


@pytest.fixture
def simulated(store: Store, database_url: str, tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_app(Settings(database_url=database_url, media_dir=str(tmp_path)))
    yield app.test_client()
    app.extensions["artwork_bandit"].service.close()


def test_what_is_seen_can_be_taken_away(simulated: FlaskClient) -> None:
    answer = simulated.get("/titles/t0/comparison.csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    body = simulated.get("/v1/titles/t0/comparison").get_json()
    assert [r["variant_id"] for r in rows] == [
        v["variant"]["variant_id"] for v in body["variants"]
    ]  # fmt: skip
    for row, given in zip(rows, body["variants"], strict=True):
        estimate = given["corrected"]["estimate"]
        assert row["corrected_rate"] == ("" if estimate is None else str(estimate))
        assert int(row["units"]) == given["raw"]["count"]
    assert body["verdict"]["word"]
    assert body["units"] == sum(int(r["units"]) for r in rows)
    for path in (
        "/titles/t0/comparison.parquet", "/titles/t0/course.parquet", "/overview.parquet",
        "/titles/t0/segments.parquet?by=taste", "/features.parquet", "/policies.parquet",
    ):  # fmt: skip
        frame = pd.read_parquet(io.BytesIO(simulated.get(path).data))
        assert len(frame) or "features" in path
    listed = simulated.get("/overview.json?search=0").get_json()["rows"]
    assert [(r["title_id"], r["units"]) for r in listed] == [("t0", body["units"])]
    assert simulated.get("/titles/t0/comparison.xls").status_code == 422
    assert simulated.get("/titles/nope/comparison.csv").status_code == 404
    assert simulated.get("/titles/t0/charts/nope.svg").status_code == 404


def test_a_variant_that_the_live_model_took_for_misleading_is_named(
    simulated: FlaskClient, store: Store
) -> None:
    words = "a click on it comes to far less"

    def registered(misleading: dict[str, float] | None) -> int:
        with store.write() as connection:
            return registry.register(
                connection, slot="artwork", data=b"none", window=(None, None), rows=1_000, now=NOW,
                settings={"misleading": misleading},
            )  # fmt: skip

    def serves(version: int) -> str:
        with store.write() as connection:
            registry.promote(connection, version, "by hand", NOW)
        return simulated.get("/titles/t0").text

    assert words not in simulated.get("/titles/t0").text
    version = registered({"t0-a1": 0.97, "t9-a1": 0.8})
    assert words not in simulated.get("/titles/t0").text  # it does not serve
    page = serves(version)
    assert page.count(f"Model {version}: {words}") == 1
    rows = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    assert [("t0-a1" in row) for row in rows if words in row] == [True]
    page = serves(registered(None))
    assert "t0-a1" in page
    assert words not in page


def test_names_that_look_like_formulas_are_harmless_in_a_spreadsheet(
    simulated: FlaskClient, store: Store
) -> None:
    post(simulated, "/titles/t0/variants/t0-a1", name="=HYPERLINK(1)", status="active",
         features="", uri="/x.svg")  # fmt: skip
    text = simulated.get("/titles/t0/comparison.csv").text
    assert "'=HYPERLINK(1)" in text


def test_segments_add_up_to_the_whole(simulated: FlaskClient) -> None:
    for by in FIELDS:
        assert simulated.get(f"/titles/t0?by={by}").status_code == 200
        text = simulated.get(f"/titles/t0/segments.csv?by={by}").text
        rows = list(csv.DictReader(io.StringIO(text)))
        body = simulated.get(f"/v1/titles/t0/comparison?by={by}").get_json()
        units = {r["segment"]: int(r["units"]) for r in rows}
        assert {s["name"]: s["units"] for s in body["segments"]} == units, by
        assert sum(units.values()) == body["units"], by
        assert by_segment([], {}, [], Segments(by), "t0", 0.05) == []


def test_days_narrow_what_is_compared(simulated: FlaskClient, store: Store) -> None:
    with store.read() as connection:
        days = {row.day for row in rollups.of_title(connection, "artwork", "t0")}
    day = rollups.start_of(min(days)).date().isoformat()
    whole = simulated.get("/v1/titles/t0/comparison").get_json()
    some = simulated.get(f"/v1/titles/t0/comparison?from={day}T00:00:00Z").get_json()
    none = simulated.get("/v1/titles/t0/comparison?to=2020-01-01T00:00:00Z").get_json()
    assert some["units"] == whole["units"]
    assert none["units"] == 0
    assert none["verdict"]["word"] == "Not enough data yet"
    assert simulated.get("/titles/t0?to=2020-01-01").status_code == 200
    for by in ("", "&by=taste"):  # the ends of what a calendar holds
        wide = f"from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z{by}"
        assert simulated.get(f"/v1/titles/t0/comparison?{wide}").get_json()["units"] > 0
        assert simulated.get(f"/titles/t0?from=0001-01-01&to=9999-12-31{by}").status_code == 200
    assert simulated.get("/titles/t0?from=soon", headers=HTML).status_code == 422
    assert simulated.get("/titles/t0?from=2026-02-02&to=2026-01-01").status_code == 422


def test_the_overview_searches_filters_sorts_and_pages(simulated: FlaskClient) -> None:
    def names(query: str) -> list[str]:
        page = simulated.get(f"/?{query}", headers=HTML).text
        return re.findall(r'<span class="name">([^<]*)</span>', page)

    assert sorted(names("")) == ["Title 0", "Title 1"]
    assert names("search=title+1") == ["Title 1"]
    assert names("search=%25") == []
    assert names("sort=name") == ["Title 0", "Title 1"]
    assert names("verdict=Winner&warned=on") == []
    assert names("page=9") == []
    assert names("page=-1&sort=nope&verdict=%00") == []


ODD = ("-5", "1e9", "0x", "\x00", "%00", "a" * 3000, "<script>", "9" * 40, "ß", "'--")


def test_odd_addresses_are_answered_in_words(simulated: FlaskClient) -> None:
    paths = (
        "/", "/titles/t0", "/policies", "/features", "/changes", "/overview.csv",
        "/titles/t0/comparison.csv", "/titles/t0/charts/rates.svg",
    )  # fmt: skip
    names = ("slot", "from", "to", "by", "page", "search", "sort", "done")
    for name, value, path in itertools.product(names, ODD, paths):
        answer = simulated.get(path, query_string={name: value}, headers=HTML)
        assert answer.status_code in (200, 404, 422), (path, name, value)
        assert "<script>" not in answer.text.replace('<script defer src="', "")


def test_numbers_that_no_database_holds_are_answered_in_words(simulated: FlaskClient) -> None:
    huge = "9" * 20
    for path in (f"/?page={'9' * 5000}", f"/v1/titles?limit={'9' * 5000}", f"/reports/{huge}",
                 f"/reports/{huge}.json", f"/models/{huge}/promote",
                 "/v1/cells/comparison?from=9999-12-31T23:30:00Z",
                 "/v1/cells/comparison?to=9999-12-31T23:59:59Z"):  # fmt: skip
        assert simulated.get(path, headers=HTML).status_code in (200, 404, 422), path
    assert simulated.post(f"/changes/{huge}/undo", headers=HTML).status_code == 404
    odd = {"Accept": "text/html", "Origin": "http://["}
    assert simulated.post("/titles/t0/exploration", headers=odd).status_code == 422


def test_days_are_taken_as_from_and_to_and_empty_is_left_out(simulated: FlaskClient) -> None:
    whole = simulated.get("/v1/titles/t0/comparison?from=&to=").get_json()
    assert whole["units"] > 0
    same = simulated.get(f"/v1/titles/t0/comparison?from={whole['first_day']}").get_json()
    assert same["units"] == whole["units"]
    # A last day is part of what is asked for, as it is on the pages; an instant is an end.
    days = {}
    for to in ("first_day", "last_day"):
        days[to] = simulated.get(f"/v1/titles/t0/comparison?to={whole[to]}").get_json()["units"]
    assert 0 < days["first_day"] <= days["last_day"] == whole["units"]
    instant = f"{whole['first_day']}T00:00:00Z"
    none = simulated.get(f"/v1/titles/t0/comparison?to={instant}").get_json()
    assert none["units"] == 0
    assert "a day or" in simulated.get("/v1/titles/t0/comparison?from=x").get_json()["detail"]


def test_the_page_links_to_json_of_what_is_seen(simulated: FlaskClient, store: Store) -> None:
    with store.read() as connection:
        day = rollups.of_title(connection, "artwork", "t0")[0].day
    on = rollups.start_of(day).date().isoformat()
    page = simulated.get(f"/titles/t0?from={on}&to={on}&by=device").text
    link = html.unescape(re.search(r'href="(/v1/titles/t0/comparison[^"]*)"', page)[1])
    body = simulated.get(link).get_json()
    assert body["segments_by"] == "device"
    assert body["first_day"] == body["last_day"] == on
    listed = csv.DictReader(io.StringIO(simulated.get("/overview.csv?sort=name").text))
    names = [row["name"] for row in listed]
    assert len(names) > 1
    assert names == sorted(names)


def test_pages_are_compressed_for_those_who_take_it(simulated: FlaskClient) -> None:
    plain = simulated.get("/")
    small = simulated.get("/", headers={"Accept-Encoding": "gzip"})
    assert small.headers["Content-Encoding"] == "gzip"
    assert len(small.data) < len(plain.data) / 2
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert "Content-Encoding" not in simulated.get(
        "/v1/titles", headers={"Accept-Encoding": "gzip"}
    ).headers  # fmt: skip


def test_a_first_visit_is_below_100_kilobytes(simulated: FlaskClient) -> None:
    page = simulated.get("/", headers={"Accept-Encoding": "gzip"})
    html = simulated.get("/").text
    sent = len(page.data)
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', html):
        sent += len(simulated.get(path, headers={"Accept-Encoding": "gzip"}).data)
    assert sent < 100_000


def test_segments_by_community_are_of_the_model_that_serves(
    simulated: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "by community" not in simulated.get("/titles/t0").text
    refused = simulated.get("/v1/titles/t0/comparison?by=community")
    assert (refused.status_code, "no communities yet" in refused.text) == (422, True)
    audiences = Audiences(
        genres=[[1.0], [-1.0]], titles={}, center=[0.0], communities=[[1.0], [-1.0]]
    )
    encoder = ContextEncoder(
        genres={"TV Dramas": 0.5, "TV Horror": 0.5}, categories=[], audiences=audiences
    )
    monkeypatch.setattr(api, "communities", lambda slot: Communities(encoder))
    monkeypatch.setattr(pages, "communities", api.communities)
    assert "by community" in simulated.get("/titles/t0").text
    body = simulated.get("/v1/titles/t0/comparison?by=community").get_json()
    assert sum(s["units"] for s in body["segments"]) == body["units"]
    assert {s["name"][:2] for s in body["segments"]} <= {"1:", "2:", "no"}
    page = simulated.get("/titles/t0?by=community").text
    assert "For whom? By community" in page
    told = [s for s in body["segments"] if any(r["estimate"] for r in s["rates"].values())]
    assert ("of which too little is known" in page) == (len(told) < len(body["segments"]))


def test_segments_by_place_are_of_whole_logs(simulated: FlaskClient) -> None:
    answer = simulated.get("/titles/t0?by=position", headers=HTML)
    assert answer.status_code == 422
    assert "of whole logs" in answer.text
