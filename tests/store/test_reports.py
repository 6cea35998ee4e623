"""Kept reports: shown, and only so many."""

import pytest

from artwork_bandit.errors import NotFound
from artwork_bandit.settings import Settings
from artwork_bandit.store import reports
from artwork_bandit.store.engine import Store
from artwork_bandit.web.app import create_app
from tests.samples import NOW, fill

SUMMARY = {
    "rows": 1234, "verdict": "CAUTION",
    "targets": {
        "live": {"verdict": "CAUTION", "estimate": 0.125, "lower": 0.1, "upper": 0.15},
        "uniform": {"verdict": "REFUSE", "estimate": None, "lower": None, "upper": None},
    },
}  # fmt: skip


def test_the_latest_are_kept_and_the_oldest_go(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "KEPT", 3)
    with store.write() as connection:
        numbers = [
            reports.add(connection, slot, "worker", {"rows": i}, "{}", f"page {i}", NOW)
            for i in range(5) for slot in ("artwork", "trailer")
        ]  # fmt: skip
        listed = reports.latest(connection, "artwork", 9)
    assert [r.summary["rows"] for r in listed] == [4, 3, 2]
    with store.read() as connection:
        assert reports.page(connection, numbers[-2]) == "page 4"
        assert len(reports.latest(connection, "trailer", 9)) == 3
        with pytest.raises(NotFound, match="no report"):
            reports.page(connection, numbers[0])


def test_they_are_listed_and_shown_with_their_own_style_only(
    store: Store, database_url: str
) -> None:
    fill(store)
    with store.write() as connection:
        number = reports.add(connection, "artwork", "Ann", SUMMARY, '{"a": 1}', "<p>page</p>", NOW)
    app = create_app(Settings(database_url=database_url))
    client = app.test_client()
    page = client.get("/policies").text
    assert "12.50% (10.00% to 15.00%) · caution" in page
    assert "the log cannot tell" in page
    shown = client.get(f"/reports/{number}")
    assert shown.text == "<p>page</p>"
    policy = shown.headers["Content-Security-Policy"]
    assert "style-src 'unsafe-inline'" in policy
    assert "script" not in policy
    assert client.get(f"/reports/{number}.json").get_json() == {"a": 1}
    assert client.get("/reports/99", headers={"Accept": "text/html"}).status_code == 404
    app.extensions["artwork_bandit"].service.close()
