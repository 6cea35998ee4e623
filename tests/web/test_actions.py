"""The pages' forms and files, without a browser: what they change, refuse and give away."""

import dataclasses
import datetime as dt
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from artwork_bandit.domain import VariantStatus
from artwork_bandit.settings import Settings
from artwork_bandit.store import catalog, changes, registry, reports, retention
from artwork_bandit.store.engine import Store
from artwork_bandit.web.app import create_app
from tests.operations.test_editing import model
from tests.operations.test_uploads import SVG, picture
from tests.samples import NOW, fill

HTML = {"Accept": "text/html", "Origin": "http://localhost"}


@pytest.fixture
def app(store: Store, database_url: str, tmp_path: Path) -> Iterator[Flask]:
    fill(store)
    made = create_app(
        Settings(database_url=database_url, reload_seconds=0.05, media_dir=str(tmp_path / "media"))
    )
    made.config["PROPAGATE_EXCEPTIONS"] = False
    yield made
    made.extensions["artwork_bandit"].service.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def post(client: FlaskClient, path: str, **fields: object):  # type: ignore[no-untyped-def]
    data = {"author": "Ann"} | fields
    return client.post(path, data=data, headers=HTML)


def latest(store: Store) -> changes.Change:
    with store.read() as connection:
        return changes.latest(connection, limit=1)[0]


def test_a_variant_is_added_from_a_file_changed_paused_and_undone(
    client: FlaskClient, store: Store
) -> None:
    done = post(
        client, "/titles/t0/variants", variant_id="t0-new", name="Nine faces", slot="artwork",
        file=(io.BytesIO(picture("PNG")), "x.exe"), features="faces: 9\ntags: a, b\ndark: true",
        countries="us, de", starts_at="2026-11-25T20:00",
    )  # fmt: skip
    assert done.status_code == 303
    page = client.get(done.location).text
    assert "Done, and in force" in page
    assert "Nine faces" in page
    with store.read() as connection:
        made = catalog.get_variant(connection, "t0", "t0-new")
    assert made.features == {"faces": 9.0, "tags": ["a", "b"], "dark": True}
    assert made.countries == ("US", "DE")
    with client.get(made.uri) as kept:
        assert kept.data == picture("PNG")
    edit = client.get("/titles/t0/variants/t0-new/edit").text
    assert "tags: a, b" in edit
    assert 'value="2026-11-25T20:00"' in edit
    assert post(client, "/titles/t0/variants/t0-new", status="paused").status_code == 303
    with store.read() as connection:
        paused = catalog.get_variant(connection, "t0", "t0-new")
    assert paused.status is VariantStatus.PAUSED
    assert paused.features == made.features  # a status alone leaves the rest
    assert (latest(store).author, latest(store).action) == ("Ann", "paused")
    undone = post(client, f"/changes/{latest(store).change_id}/undo")
    assert undone.status_code == 303
    with store.read() as connection:
        assert catalog.get_variant(connection, "t0", "t0-new").status is VariantStatus.ACTIVE
    assert "undone" in client.get("/changes").text


def test_what_the_edit_page_shows_saved_as_it_is_changes_nothing(
    client: FlaskClient, store: Store
) -> None:
    with store.read() as connection:
        before = catalog.get_variant(connection, "t0", "t0-a1")
    saved = post(
        client, "/titles/t0/variants/t0-a1", name="", status="active", uri=before.uri,
        features="\n".join(f"{k}: {v}" for k, v in before.features.items()),
        starts_at="", ends_at="", countries="", languages="", maturity="", slot="artwork",
    )  # fmt: skip
    assert "nothing" in saved.location
    assert "Nothing changed" in client.get(saved.location).text
    with store.read() as connection:
        assert catalog.get_variant(connection, "t0", "t0-a1") == before


def test_features_that_a_form_cannot_say_stay_when_nobody_touches_them(
    client: FlaskClient, store: Store
) -> None:
    odd = {
        "director": "Lynch, David", "small": 1e-05, "year": "1984", "word": "true",
        "tags": ["dark"], "kind:sub": "x",
    }  # fmt: skip
    begun = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    with store.write() as connection:
        before = catalog.get_variant(connection, "t0", "t0-a1")
        catalog.put_variants(
            connection, [dataclasses.replace(before, features=odd, starts_at=begun)], begun
        )
    page = client.get("/titles/t0/variants/t0-a1/edit").text
    text = html.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)[1])
    seen = re.search(r'name="seen" value="(\w+)"', page)[1]
    form = {"status": "active", "uri": before.uri, "starts_at": "2026-01-02T03:04", "seen": seen}
    saved = post(client, "/titles/t0/variants/t0-a1", name="a name", features=text, **form)
    assert saved.status_code == 303
    with store.read() as connection:
        after = catalog.get_variant(connection, "t0", "t0-a1")
    assert (after.name, after.features, after.starts_at) == ("a name", odd, begun)
    late = post(client, "/titles/t0/variants/t0-a1", name="another", features=text, **form)
    assert late.status_code == 409
    # Whose change it was, what was typed, and where the two differ.
    words = html.unescape(re.sub(r"<[^>]+>", " ", late.text))
    assert re.search(r"changed by somebody else since your form was opened\s*: Ann", words)
    assert re.search(r"name\s+a name\s+another", words)
    assert 'value="another"' in late.text
    with store.read() as connection:
        assert catalog.get_variant(connection, "t0", "t0-a1") == after
    form["seen"] = re.search(r'name="seen" value="(\w+)"', late.text)[1]
    again = post(client, "/titles/t0/variants/t0-a1", name="another", features=text, **form)
    assert again.status_code == 303
    with store.read() as connection:
        assert catalog.get_variant(connection, "t0", "t0-a1").name == "another"


def test_an_address_that_is_none_is_refused_and_one_that_is_there_breaks_no_page(
    client: FlaskClient, store: Store
) -> None:
    refused = post(client, "/titles/t0/variants", variant_id="n", uri="https://[cdn/x.png")
    assert refused.status_code == 422
    assert "is no address" in refused.text
    told = {"uri": "JavaScript:alert(1)"}
    assert client.put("/v1/titles/t0/variants/n", json=told).status_code == 422
    with store.write() as connection:
        before = catalog.get_variant(connection, "t0", "t0-a0")
        broken = dataclasses.replace(before, uri="https://[cdn/x.png")
        catalog.put_variants(connection, [broken], NOW)
    for path in ("/", "/titles/t0", "/titles/t0/variants/t0-a0/edit"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("/titles/t0/variants", {"variant_id": "x"}, "choose a file"),
        ("/titles/t0/variants", {"variant_id": "", "uri": "/x.svg"}, "needs an id"),
        ("/titles/t0/variants", {"variant_id": "a/b", "uri": "/x.svg"}, "the id"),
        ("/titles/t0/variants", {"variant_id": "t0-a1", "uri": "/x.svg"}, "already"),
        ("/titles/t0/variants", {"variant_id": "x", "uri": "javascript:alert(1)"}, "https"),
        ("/titles/t0/variants", {"variant_id": "x", "uri": "/x", "countries": "USA"}, "countries"),
        ("/titles/t0/variants", {"variant_id": "x", "uri": "/x", "features": "nonsense"}, "line"),
        ("/titles/t0/variants", {"variant_id": "x", "uri": "/x", "slot": "nope"}, "unknown"),
        ("/titles/t0/variants", {"variant_id": "x", "uri": "/x", "starts_at": "soon"}, "time like"),
        ("/titles/t0/variants/t0-a1", {"status": "gone"}, "status must be"),
        ("/titles/t0/notes", {"day": "yesterday", "text": "x"}, "a day like"),
        ("/titles/t0/notes", {"day": "2026-11-25", "text": " "}, "1 to 200"),
        ("/titles/nope/notes", {"day": "2026-11-25", "text": "x"}, "does not exist"),
        ("/models/77/promote", {}, "does not exist"),
        ("/slots/artwork/rollback", {}, "no live model"),
        ("/changes/77/undo", {}, "no change 77"),
        ("/titles/t0/variants/t0-a1", {"author": "", "status": "paused"}, "say who you are"),
    ],
)
def test_what_is_wrong_is_said_on_a_page_and_nothing_is_changed(
    client: FlaskClient, store: Store, path: str, fields: dict[str, str], message: str
) -> None:
    answer = post(client, path, **fields)
    assert 400 <= answer.status_code < 500
    assert answer.mimetype == "text/html"
    assert message.lower() in answer.text.lower()
    with store.read() as connection:
        assert changes.latest(connection) == []
        assert len(catalog.list_variants(connection)) == 12


def test_hostile_files_are_refused_and_not_kept(client: FlaskClient, tmp_path: Path) -> None:
    evil = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    answer = post(client, "/titles/t0/variants", variant_id="x", file=(io.BytesIO(evil), "a.svg"))
    assert answer.status_code == 422
    assert "must not be active" in answer.text
    assert not (tmp_path / "media").exists()
    # By hand: the test client's own encoder leaves its temporary file open.
    fields = {"author": "Ann", "variant_id": "x"}
    parts = [f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
             for k, v in fields.items()]  # fmt: skip
    head = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.svg"\r\n\r\n'
    body = "".join([*parts, head]).encode() + SVG + b" " * (33 << 20) + b"\r\n--b--\r\n"
    large = client.post("/titles/t0/variants", data=body, headers=HTML,
                        content_type="multipart/form-data; boundary=b")  # fmt: skip
    assert large.status_code == 422
    assert "larger than 32 MiB" in large.text


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
def test_forms_of_other_sites_are_refused(
    client: FlaskClient, store: Store, headers: dict[str, str]
) -> None:
    answer = client.post(
        "/titles/t0/variants/t0-a1", data={"author": "Eve", "status": "retired"}, headers=headers
    )
    assert answer.status_code == 422
    with store.read() as connection:
        assert catalog.get_variant(connection, "t0", "t0-a1").status is VariantStatus.ACTIVE


def test_the_proxys_word_for_who_asks_goes_before_what_is_typed(
    store: Store, database_url: str
) -> None:
    fill(store)
    app = create_app(Settings(database_url=database_url, user_header="X-User"))
    client = app.test_client()
    page = client.get("/titles/t0").text
    assert "Your name" not in page
    refused = post(client, "/titles/t0/variants/t0-a1", status="paused")
    assert refused.status_code == 422
    client.post("/titles/t0/variants/t0-a1", data={"author": "Eve", "status": "paused"},
                headers=HTML | {"X-User": "ann@example.com"})  # fmt: skip
    assert latest(store).author == "ann@example.com"
    client.patch("/v1/titles/t0/variants/t0-a1", json={"status": "active"},
                 headers={"X-User": "robot"})  # fmt: skip
    assert latest(store).author == "robot"
    app.extensions["artwork_bandit"].service.close()


def test_changes_by_the_api_are_recorded_too(client: FlaskClient, store: Store) -> None:
    client.patch("/v1/titles/t0", json={"exploration_paused": True})
    assert (latest(store).author, latest(store).action) == ("API", "exploration paused")


def test_forms_say_in_words_what_is_wrong(client: FlaskClient) -> None:
    def refused(**fields: str) -> str:
        answer = post(client, "/titles/t0/variants/t0-a1", uri="/x.svg", **fields)
        assert answer.status_code == 422
        return answer.text.lower()

    assert "two letters each, such as us de" in refused(countries="Germany")
    assert "there twice" in refused(features="faces: 4\nfaces: 5")


def test_policies_are_seen_side_by_side_as_reports_come(client: FlaskClient, store: Store) -> None:
    def told(day: int, *, bounds: list[int] | None = None, **values: float | None) -> None:
        targets = {
            name.replace("_", "-"): {
                "verdict": "REFUSE" if value is None else "OK", "estimate": value,
                "lower": None if value is None else value - 0.01,
                "upper": None if value is None else value + 0.01,
            }
            for name, value in values.items()
        }  # fmt: skip
        summary = {"rows": 1000, "verdict": "OK", "targets": targets}
        summary |= {} if bounds is None else {"bounds": bounds}
        at = NOW + dt.timedelta(days=day)
        with store.write() as connection:
            reports.add(connection, "artwork", "worker", summary, "{}", "", at)

    told(0, uniform=0.1, best_single=0.11)
    assert "by report" not in client.get("/policies").text  # one is no course
    assert "no model is live" in client.get("/policies").text
    assert "Played is: 50% of the title or 20 minutes watched." in client.get("/policies").text
    told(1, uniform=0.1, best_single=0.12, live=0.13)
    told(2, uniform=0.1, best_single=0.12, live=None)
    page = client.get("/policies").text
    chart = page[page.index("Expected reward per impression of each policy, by report") :]
    chart = chart[: chart.index("</svg>")]
    assert re.findall(r">([a-z-]+)</text>", chart).count("best-single") == 1
    assert "uniform</text>" in chart
    assert "live</text>" in chart
    assert "challenger</text>" not in chart
    assert "%</text>" in chart
    told(3, bounds=[0, 3600], uniform=1200.0, live=1300.0)
    told(4, bounds=[0, 3600], uniform=1250.0, live=1280.0)
    page = client.get("/policies").text
    chart = page[page.index("Expected reward per impression of each policy, by report") :]
    chart = chart[: chart.index("</svg>")]
    assert ">500</text>" in chart
    assert "%</text>" not in chart
    assert "best-single</text>" not in chart  # of another rule
    assert "<dd>1250 (1250 to 1250)" in page


def test_a_model_that_is_kept_no_more_is_offered_to_nobody(
    client: FlaskClient, store: Store
) -> None:
    version = model(store)
    assert f"/models/{version}/promote" in client.get("/policies").text
    with store.write() as connection:
        assert retention.delete(connection, version, NOW)
    page = client.get("/policies").text
    assert f"/models/{version}/promote" not in page
    assert "it never chose</small>" in page
    for answer in (
        client.get(f"/models/{version}/promote", headers=HTML),
        post(client, f"/models/{version}/promote"),
    ):
        assert answer.status_code == 409
        assert f"Model {version} is not kept any more" in answer.text


def test_the_interval_of_a_look_says_its_level(client: FlaskClient, store: Store) -> None:
    version = model(store)
    told = {
        "value": 0.2, "incumbent": "uniform", "incumbent_value": 0.1, "difference": 0.1,
        "difference_lower": 0.05, "difference_upper": 0.15,
    }  # fmt: skip
    for level, shown in ((None, "+0.0500 to +0.1500)<"), (0.985, "+0.0500 to +0.1500 at 98.5%)<")):
        more = {} if level is None else {"level": level}
        with store.write() as connection:
            registry.judged_again(connection, version, "for the test", told | more)
        assert shown in client.get("/policies").text


def test_the_overview_says_what_was_changed_this_week(client: FlaskClient, store: Store) -> None:
    assert "New this week" not in client.get("/").text
    post(client, "/titles/t0/variants/t0-a1", status="paused")
    page = client.get("/").text
    assert "New this week" in page
    assert re.search(r'<data value="1">1</data> change</a> by people', page)
    post(client, f"/models/{model(store)}/promote")
    page = client.get("/").text
    assert "model 1 chooses the artwork" in page
    assert "changes</a> by people" in page


def test_two_who_roll_back_at_once_go_back_once(client: FlaskClient, store: Store) -> None:
    versions = [model(store) for _ in range(2)]
    for version in versions:
        post(client, f"/models/{version}/promote")
    confirm = client.get("/slots/artwork/rollback").text
    assert f"Model {versions[0]}, which was live before it, will choose again" in confirm
    (seen,) = re.findall(r'name="seen" value="(\d+)"', confirm)
    assert post(client, "/slots/artwork/rollback", seen=seen).status_code == 303
    late = post(client, "/slots/artwork/rollback", seen=seen)
    assert late.status_code == 409
    assert "was faster" in late.text
    with store.read() as connection:
        assert registry.live(connection, "artwork").version == versions[0]
    assert "No model was live before it" in client.get("/slots/artwork/rollback").text


def test_all_changes_can_be_found_however_many_they_are(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artwork_bandit.web.pages.CHANGES_SHOWN", 10)
    post(client, "/titles/t0/variants/t0-a1", status="paused")
    for i in range(60):
        post(client, "/titles/t0/notes", day="2026-11-25", text=f"note {i}")
    form = client.get("/titles/t0/variants/t0-a1/edit").text
    assert "Nothing has been changed" not in form
    assert "paused" in form
    assert "/changes?title_id=t0" in client.get("/titles/t0").text
    address, seen = "/changes?title_id=t0", []
    while address:
        page = client.get(address).text
        seen += re.findall(r"note \d+", page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        address = older.group(1).replace("&amp;", "&") if older else ""
    assert len(set(seen)) == 60
    assert "paused" in page


def test_a_page_says_what_was_done_here_and_now_only(client: FlaskClient, store: Store) -> None:
    done = post(client, "/titles/t0/variants/t0-a1", status="paused").location
    assert "Done, and in force" in client.get(done).text
    for elsewhere in ("/titles/t1", "/policies", "/titles/t0?done=999", "/titles/t0?done=x"):
        address = elsewhere if "?" in elsewhere else f"{elsewhere}?{done.partition('?')[2]}"
        assert "Done, and in force" not in client.get(address).text
    post(client, f"/changes/{latest(store).change_id}/undo")
    assert "Done, and in force" not in client.get(done).text


@pytest.mark.parametrize("uri", ["http://cdn.example/x.png", "//cdn.example/x.png", "x.png"])
def test_addresses_that_the_pages_cannot_show_are_refused(client: FlaskClient, uri: str) -> None:
    answer = post(client, "/titles/t0/variants/t0-a1", uri=uri)
    assert answer.status_code == 422
    assert "must begin with https:// or /" in answer.text


@pytest.mark.parametrize("name", ["..", "."])
def test_ids_that_mean_something_else_in_an_address_are_refused(
    client: FlaskClient, name: str
) -> None:
    assert post(client, "/titles/t0/variants", variant_id=name, uri="/x.png").status_code == 422
    assert post(client, "/titles/t0/variants", variant_id=name + "x", uri="/x").status_code == 303


def test_a_table_without_rows_still_has_its_columns(client: FlaskClient) -> None:
    for address in (
        "/overview.csv?search=nothing-like-it", "/titles/t0/comparison.csv?slot=trailer",
        "/titles/t0/course.csv", "/features.csv", "/policies.csv?slot=trailer",
    ):  # fmt: skip
        lines = client.get(address).text.splitlines()
        assert "," in lines[0], address
