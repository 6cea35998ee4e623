"""The HTTP API: contract, problems in words, hostile text."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from typing import Any

import openapi_spec_validator
import pytest
from flask import Flask
from flask.testing import FlaskClient

from artwork_bandit.domain import Context
from artwork_bandit.settings import Settings
from artwork_bandit.store import pauses
from artwork_bandit.store.engine import Store
from artwork_bandit.web.app import LARGEST_BODY_BYTES, create_app
from tests.samples import NOW, fill

HOSTILE = {
    "vw syntax": "Mission: Impossible | x:1e9",
    "newline": "x\ny",
    "nul": "x\x00y",
    "emoji": "😀🎬",
    "right to left": "משימה בלתי אפשרית",
    "10,000 characters": "x" * 10_000,
    "lone surrogate": "\ud800",
    "empty": "",
    "slash": "a/b",
    "markup": "<script>alert(1)</script>",
    "sql": "'; DROP TABLE requests; --",
}


@pytest.fixture
def app(store: Store, database_url: str) -> Iterator[Flask]:
    fill(store)
    made = create_app(Settings(database_url=database_url, reload_seconds=0.05))
    made.config["PROPAGATE_EXCEPTIONS"] = False
    yield made
    made.extensions["artwork_bandit"].service.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()


def choose(client: FlaskClient, **body: Any) -> Any:
    body = {"member_id": "m1", "title_ids": ["t0", "t1"]} | body
    return client.post("/v1/choices", data=json.dumps(body))


def test_choices_have_the_contracts_shape(client: FlaskClient) -> None:
    context = {
        "device": "tv", "country": "US", "language": "en-GB", "surface": "homepage",
        "maturity": "TV-14", "local_time": "2026-11-23T20:15:00-05:00",
        "genres": {"TV Horror": 3.5, "TV Dramas": 1},
    }  # fmt: skip
    answer = choose(client, context=context, request_id="r-1").get_json()
    assert set(answer) == {"request_id", "cell", "policy", "model_version", "choices"}
    assert answer["request_id"] == "r-1"
    assert answer["model_version"] is None
    for choice, title in zip(answer["choices"], ["t0", "t1"], strict=True):
        assert choice["title_id"] == title
        assert choice["uri"] == f"/media/{choice['variant_id']}.svg"
        assert 0 < choice["propensity"] <= 1
        assert choice["fallback"] is False
    assert choose(client, context=context, request_id="r-1").get_json() == answer


def test_the_context_is_stored_as_it_was(client: FlaskClient, app: Flask) -> None:
    from artwork_bandit.store import requests

    local = "2026-11-23T20:15:00-05:00"
    choose(client, request_id="r", context={"local_time": local, "language": "pt_BR"})
    with app.extensions["artwork_bandit"].service.store.read() as connection:
        logged, _ = requests.get(connection, "r")
    assert logged.context == Context(hour=20, weekday=0, language="pt")


def test_events_roundtrip(client: FlaskClient) -> None:
    decision = choose(client).get_json()["choices"][0]["decision_id"]
    sound = {"event_id": "e1", "type": "impression", "occurred_at": now(), "decision_id": decision}
    bad: list[Any] = [
        sound | {"event_id": "e2", "type": "dance"},
        sound | {"event_id": "e3", "occurred_at": "2026-11-23T20:15:00"},
        sound | {"event_id": "e4", "seconds_watched": -1},
        sound | {"event_id": "e5", "unknown_field": 1},
        17,
    ]
    answer = client.post("/v1/events", data=json.dumps({"events": [*bad, sound]}))
    report = answer.get_json()
    assert (report["accepted"], report["duplicates"]) == (1, 0)
    assert [r["index"] for r in report["rejected"]] == [0, 1, 2, 3, 4]
    assert [r["event_id"] for r in report["rejected"]] == ["e2", "e3", "e4", "e5", None]
    assert all(r["reason"] for r in report["rejected"])


@pytest.mark.parametrize("query", [r'"pizza \ud83d"', "NaN", "-Infinity", "1e999"])
def test_what_is_no_json_in_one_event_loses_no_other(client: FlaskClient, query: str) -> None:
    sound = {"event_id": "fine", "type": "search", "member_id": "m1", "occurred_at": now()}
    bad = json.dumps(sound | {"event_id": "bad", "query": "?"}).replace('"?"', query)
    for i, whole in enumerate((f"[{bad}, %s]", f"[%s, {bad}]")):
        good = json.dumps(sound | {"event_id": f"fine {query} {i}"})
        answer = client.post("/v1/events", data=f'{{"events": {whole % good}}}').get_json()
        assert answer["accepted"] == 1
        (refused,) = answer["rejected"]
        assert (refused["index"], refused["event_id"]) == (i, "bad")
        assert refused["reason"]
    for body in (f'{{"events": [{bad}}}', f"[{bad}]", f'{{"event": [{bad}]}}'):
        assert client.post("/v1/events", data=body).status_code in (400, 422)


def test_events_that_count_for_nothing_are_shown_by_reason(client: FlaskClient) -> None:
    events = [
        {"event_id": f"e{i}", "type": "play", "member_id": "m1", "title_id": "t0",
         "occurred_at": f"2026-01-0{1 + i}T10:00:00Z"}
        for i in range(4)
    ]  # fmt: skip
    events.append({"event_id": "s", "type": "search", "member_id": "m1", "query": "x",
                   "occurred_at": "2026-01-02T11:00:00Z"})  # fmt: skip
    assert client.post("/v1/events", data=json.dumps({"events": events})).status_code == 200
    told = client.get("/v1/events/unjoined?limit=2").get_json()
    assert told["by_reason"] == {"no_impression": 4, "no_title": 1}
    assert [(e["event_id"], e["reason"]) for e in told["latest"]] == [
        ("e3", "no_impression"), ("e2", "no_impression"), ("s", "no_title"),
    ]  # fmt: skip
    assert told["latest"][0] | {"reason": None} == {
        "event_id": "e3", "reason": None, "type": "play", "occurred_at": "2026-01-04T10:00:00Z",
        "member_id": "m1", "title_id": "t0", "request_id": None,
    }  # fmt: skip
    some = client.get("/v1/events/unjoined?from=2026-01-02&to=2026-01-03&reason=no_title")
    assert some.get_json()["by_reason"] == {"no_impression": 2, "no_title": 1}
    assert [e["event_id"] for e in some.get_json()["latest"]] == ["s"]
    assert client.get("/v1/events/unjoined?limit=-1").status_code == 422
    wrong = client.get("/v1/events/unjoined?reason=foo")
    assert (wrong.status_code, "outside_window" in wrong.get_data(as_text=True)) == (422, True)


def test_catalogue_changes_reach_serving_without_a_restart(client: FlaskClient, app: Flask) -> None:
    title = {"name": "New", "genres": ["TV Horror"]}
    assert client.put("/v1/titles/new", data=json.dumps(title)).status_code == 200
    for i in range(2):
        body = {"uri": f"/media/n{i}.svg", "slot": "trailer", "features": {"genre": "TV Horror"}}
        put = client.put(f"/v1/titles/new/variants/n{i}", data=json.dumps(body))
        assert put.status_code == 200, put.text
    service = app.extensions["artwork_bandit"].service
    service.state.refresh()
    answer = choose(client, title_ids=["new"], slot="trailer").get_json()
    assert answer["choices"][0]["variant_id"] in ("n0", "n1")
    paused = client.patch("/v1/titles/new/variants/n0", data='{"status": "paused"}')
    assert paused.get_json()["status"] == "paused"
    service.state.refresh()
    for i in range(8):
        again = choose(client, member_id=f"x{i}", title_ids=["new"], slot="trailer").get_json()
        assert again["choices"][0]["variant_id"] == "n1"
    listed = client.get("/v1/titles/new/variants?slot=trailer").get_json()["variants"]
    assert [v["variant_id"] for v in listed] == ["n0", "n1"]
    pages = client.get("/v1/titles?limit=2").get_json()
    assert [t["title_id"] for t in pages["titles"]] == ["new", "t0"]
    assert pages["next_after"] == "t0"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("post", "/v1/choices", "{", 400),
        ("post", "/v1/choices", "", 400),
        ("post", "/v1/choices", b"\xff\xfe", 400),
        ("post", "/v1/choices", "[" * 100_000, 422),
        ("post", "/v1/choices", '{"context": {"genres": {"x": ' + "[" * 100_000, 422),
        ("post", "/v1/choices", "[]", 422),
        ("post", "/v1/choices", '{"member_id": "m", "title_ids": []}', 422),
        ("post", "/v1/choices", '{"member_id": "m", "title_ids": ["a", "a"]}', 422),
        ("post", "/v1/choices", '{"member_id": "m", "title_ids": ["a"], "slot": "hat"}', 422),
        ("post", "/v1/choices", '{"member_id": "m", "title_ids": ["a"], "new": 1}', 422),
        ("post", "/v1/choices", '{"member_id": 1, "title_ids": ["a"]}', 422),
        ("post", "/v1/choices", '{"member_id": "m", "title_ids": ["a"], "request_id": "a.b"}', 422),
        ("post", "/v1/choices",
         '{"member_id": "m", "title_ids": ["a"], "context": {"genres": {"x": 1e999}}}', 422),
        ("post", "/v1/choices",
         '{"member_id": "m", "title_ids": ["a"], "context": {"genres": {"x": NaN}}}', 400),
        ("post", "/v1/events", '{"events": 1}', 422),
        ("put", "/v1/titles/x", '{"genres": []}', 422),
        ("put", "/v1/titles/none/variants/v", '{"uri": "/x"}', 404),
        ("put", "/v1/titles/t1/variants/t0-a0", '{"uri": "/x"}', 409),
        ("patch", "/v1/titles/t0/variants/none", "{}", 404),
        ("patch", "/v1/titles/t0/variants/t0-a0", '{"status": "gone"}', 422),
        ("get", "/v1/titles/none", None, 404),
        ("get", "/v1/titles/t0/comparison?slot=hat", None, 422),
        ("get", "/v1/titles/t0/comparison?from=yesterday", None, 422),
        ("get", "/v1/titles/t0/comparison?from=2026-02-01&to=2026-01-01", None, 422),
        ("get", "/v1/cells/comparison?from=2026-02-01&to=2026-01-01", None, 422),
        ("get", "/v1/titles?limit=x", None, 422),
        ("get", "/nothing", None, 404),
        ("delete", "/v1/choices", None, 405),
    ],
)  # fmt: skip
def test_problems_are_said_in_words(
    client: FlaskClient, method: str, path: str, body: Any, status: int
) -> None:
    answer = getattr(client, method)(path, data=body)
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    problem = json.loads(answer.data)
    assert problem["status"] == status
    assert problem["title"]
    assert len(answer.data) < 1_000


def test_text_that_ends_in_a_newline_is_no_identifier_and_no_rating(client: FlaskClient) -> None:
    for body in (
        {"member_id": "m\n"}, {"title_ids": ["t0\n"]}, {"request_id": "r\n"},
        {"context": {"maturity": "TV-14\n"}}, {"context": {"country": "US\n"}},
    ):  # fmt: skip
        assert choose(client, **body).status_code == 422, body
    body = json.dumps({"uri": "/x", "maturity": "TV-MA\n"})
    assert client.put("/v1/titles/t0/variants/t0-a1", data=body).status_code == 422


def test_what_was_sent_never_comes_back_whole(client: FlaskClient) -> None:
    long = "x" * 10_000
    answers = [
        choose(client, **{long: 1}),
        client.get(f"/v1/titles/{long[:5000]}"),
        client.post("/v1/events", data=json.dumps({"events": [{"event_id": "e", "type": long}]})),
    ]
    assert all(len(answer.data) < 1_000 for answer in answers)


def test_bytes_that_are_no_text_lose_one_event_only(client: FlaskClient) -> None:
    good = json.dumps({"event_id": "g", "type": "search", "occurred_at": now(), "member_id": "m"})
    data = b'{"events": [{"event_id": "\xff\xfe"}, ' + good.encode() + b"]}"
    report = client.post("/v1/events", data=data).get_json()
    assert (report["accepted"], [r["index"] for r in report["rejected"]]) == (1, [0])


def test_a_date_beyond_all_calendars_is_refused(client: FlaskClient) -> None:
    body = json.dumps({"ends_at": "9999-12-31T23:59:59-05:00"})
    answer = client.patch("/v1/titles/t0/variants/t0-a1", data=body)
    assert answer.status_code == 422
    assert "out of range" in answer.text


@pytest.mark.parametrize("path", ["/v1/titles/%00", "/v1/members/%00", "/titles/%00"])
def test_nul_in_an_address_is_no_crash(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code in (200, 404, 422)


def test_a_put_without_status_does_not_undo_a_pause(client: FlaskClient) -> None:
    path = "/v1/titles/t0/variants/t0-a1"
    client.patch(path, data='{"status": "paused"}')
    assert client.put(path, data='{"uri": "/new"}').get_json()["status"] == "paused"
    again = client.put(path, data='{"uri": "/new", "status": "active"}').get_json()
    assert again["status"] == "active"


def test_a_body_too_large_is_refused(client: FlaskClient) -> None:
    answer = client.post("/v1/events", data=b"x" * (LARGEST_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert answer.mimetype == "application/problem+json"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_gets_the_right_answer_or_a_clear_4xx(client: FlaskClient, text: str) -> None:
    bodies = [
        {"member_id": text},
        {"title_ids": ["t0", text]},
        {"context": {"device": text}},
        {"context": {"surface": text}},
        {"context": {"genres": {text: 1.0}}},
        {"context": {"language": text}},
        {"slot": text},
        {"only": [text, "t0-a1", "t1-a1"]},
        {"request_id": text},
    ]
    for body in bodies:
        answer = choose(client, **body)
        assert answer.status_code in (200, 400, 422), (body, answer.text[:200])
        if answer.status_code == 200:
            found = answer.get_json()["choices"]
            assert len(found) == 2
            assert found[0]["variant_id"].startswith("t0-")
    event = {"event_id": uuid.uuid4().hex, "type": "search", "occurred_at": now()}
    for more in ({"member_id": text}, {"member_id": "m", "query": text}, {"event_id": text}):
        answer = client.post("/v1/events", data=json.dumps({"events": [event | more]}))
        if answer.status_code == 400:  # a lone surrogate is no JSON
            assert text == "\ud800"
            continue
        assert answer.status_code == 200
        report = answer.get_json()
        assert report["accepted"] + report["duplicates"] + len(report["rejected"]) == 1
    features = {"genre": text, text: 1}
    answer = client.put(
        "/v1/titles/t0/variants/t0-a3", data=json.dumps({"uri": "/x", "features": features})
    )
    assert answer.status_code in (200, 400, 422)
    answer = client.put("/v1/titles/h", data=json.dumps({"name": text, "genres": [text]}))
    assert answer.status_code in (200, 400, 422)
    page = client.get("/")
    assert page.status_code == 200
    assert "<script>alert" not in page.text


def test_hostile_names_of_catalogue_entries_train_and_serve(
    client: FlaskClient, app: Flask
) -> None:
    for i, text in enumerate(["Mission: Impossible | x:1e9", "😀🎬", "<b>'\"</b>"]):
        body = {"uri": "/x", "features": {"genre": text, text: text}}
        put = client.put(f"/v1/titles/t0/variants/h{i}", data=json.dumps(body))
        assert put.status_code == 200
    app.extensions["artwork_bandit"].service.state.refresh()
    answer = choose(client, title_ids=["t0"], only=["h0", "h1", "h2"]).get_json()
    assert answer["choices"][0]["variant_id"] in ("h0", "h1", "h2")


def test_comparison_member_and_health_endpoints(client: FlaskClient) -> None:
    compared = client.get("/v1/titles/t0/comparison").get_json()
    assert [v["variant"]["variant_id"] for v in compared["variants"]] == [
        f"t0-a{i}" for i in range(4)
    ]
    assert compared["variants"][0]["raw"]["rate"] is None
    cells = client.get("/v1/cells/comparison").get_json()["cells"]
    assert [c["cell"] for c in cells] == ["explore", "baseline", "live"]
    nobody = client.get("/v1/members/nobody").get_json()
    assert (nobody["genres"], nobody["tastes_as_of"]) == ({}, None)
    assert nobody["as_of"].endswith("Z")
    assert client.get("/v1/members/a%2Fb").get_json()["member_id"] == "a/b"  # choices take it
    assert client.get("/v1/members/m/matches?title_ids=t0").status_code == 404  # none such yet
    for path in ("/livez", "/readyz", "/version"):
        assert client.get(path).status_code == 200


def test_a_spool_that_cannot_be_used_is_told_and_takes_no_server_away(
    client: FlaskClient, app: Flask
) -> None:
    path = app.extensions["artwork_bandit"].service.spool.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"garbage" * 1_000)
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["without"]) == (200, ["spool"])
    assert ready.get_json()["spool_entries"] is None
    choices = {"member_id": "m", "title_ids": ["t0"]}
    assert client.post("/v1/choices", json=choices).get_json()["choices"][0]["decision_id"]


def test_a_pause_is_told_to_who_watches_the_server(client: FlaskClient, app: Flask) -> None:
    service = app.extensions["artwork_bandit"].service

    def told() -> tuple[list[str], bool]:
        text = client.get("/metrics").get_data(as_text=True)
        paused = 'artwork_bandit_paused{slot="artwork"} 1.0' in text
        return client.get("/readyz").get_json()["paused"], paused

    assert told() == ([], False)
    with service.store.write() as connection:
        pauses.switch(connection, "artwork", True, "for the test", NOW)
    service.state.refresh()
    assert told() == (["artwork"], True)
    service.state.broken_challengers["artwork"] = 7
    ready = client.get("/readyz").get_json()
    assert (ready["status"], ready["without"]) == ("degraded", ["challenger:artwork"])


def test_openapi_is_valid_and_names_every_route(client: FlaskClient, app: Flask) -> None:
    document = client.get("/openapi.json").get_json()
    openapi_spec_validator.validate(document)
    served = {
        (r.rule.replace("<path:", "{").replace("<", "{").replace(">", "}"), m.lower())
        for r in app.url_map.iter_rules()
        for m in r.methods - {"HEAD", "OPTIONS"}
        if r.endpoint.startswith("api.")
    }
    described = {(p, m) for p, methods in document["paths"].items() for m in methods}
    assert served == described


def test_pages_are_guarded(client: FlaskClient) -> None:
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/media/../setup.cfg").status_code == 404
