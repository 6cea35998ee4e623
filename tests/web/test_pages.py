"""The pages in a real Chromium: no errors, no sideways scroll, both themes."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from artwork_bandit.operations import demo_catalog, drawing, imports
from artwork_bandit.operations.server_process import free_port, serving
from artwork_bandit.settings import Settings
from artwork_bandit.store.engine import Store
from tests.samples import NOW

CHROMIUM = next(
    (p for n in ("chromium", "google-chrome", "chromium-browser") if (p := shutil.which(n))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def address(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(sqlite_template, folder / "pages.db")
    settings = Settings(
        database_url=f"sqlite:///{folder}/pages.db", media_dir=str(folder), port=free_port(0)
    )
    store = Store(settings.database_url)
    titles, variants = demo_catalog.load(1)
    imports.import_catalog(store, titles, variants, NOW, dry_run=False)
    names = {t.title_id: t.name for t in titles}
    for variant in variants:
        picture = drawing.draw(variant, names[variant.title_id])
        (folder / f"{variant.variant_id}.svg").write_text(picture, "utf-8")
    store.close()
    with serving(settings, folder / "server.log"):
        yield f"http://127.0.0.1:{settings.port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update",
                  "--disable-sync"],
        )  # fmt: skip
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?slot=trailer",
        "/titles/stranger-things",
        "/titles/house-of-cards?slot=trailer",
        "/demo",
    ],
)
def test_pages_render_whole(
    browser: Browser, address: str, path: str, scheme: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.on(
        "response", lambda r: problems.append(f"{r.status} {r.url}") if r.status > 399 else None
    )
    page.goto(address + path)
    first = page.locator("main img").first
    assert first.evaluate("async i => { await i.decode(); return i.naturalWidth; }") > 0
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").count() == 1
    page.close()


def test_from_the_overview_to_the_ten_trailer_cuts(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.get_by_role("link", name="trailer").click()
    page.get_by_role("link", name="House of Cards").click()
    assert page.get_by_role("heading", level=1).inner_text() == "House of Cards"
    assert page.locator("table.variants tbody tr").count() == 10
    page.get_by_role("link", name="artwork", exact=True).click()
    assert page.locator("table.variants tbody tr").count() == 6
    page.goto(f"{address}/titles/stranger-things")
    assert page.locator("table.variants tbody tr").count() == 9
    page.close()


def test_the_catalogue_is_what_was_promised() -> None:
    titles, variants = demo_catalog.load(1)
    assert len(titles) >= 60
    assert len({v.variant_id for v in variants}) == len(variants)
    names = {t.title_id: t.name for t in titles}
    pictures = {drawing.draw(v, names[v.title_id]) for v in variants}
    assert len(pictures) == len(variants)
    for title_id, slot, count in (
        ("stranger-things", "artwork", 9),
        ("house-of-cards", "trailer", 10),
    ):
        assert sum((v.title_id, v.slot) == (title_id, slot) for v in variants) == count


def test_the_demo_homepage_chooses_reports_and_explains(address: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 700})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    sent: list[dict] = []
    page.on(
        "request",
        lambda r: r.url.endswith("/v1/events") and sent.append(json.loads(r.post_data or "{}")),
    )  # fmt: skip
    page.goto(f"{address}/demo")
    expect(page.locator("#said")).to_contain_text("chosen")
    first = page.locator("figure").first
    assert first.get_attribute("data-variant")
    first.locator("img").evaluate("i => i.decode()")
    with page.expect_response(lambda r: r.url.endswith("/v1/events")) as answered:
        page.wait_for_timeout(1)
    assert answered.value.json()["rejected"] == []

    def kinds() -> Counter[str]:
        return Counter(e["type"] for batch in sent for e in batch.get("events", []))

    def accepted() -> float:
        text = page.request.get(f"{address}/metrics").text()
        line = next(x for x in text.splitlines() if 'events_total{outcome="accepted"}' in x)
        return float(line.split()[1])

    seen = kinds()["impression"]
    tiles = page.locator("figure").count()
    assert 0 < seen < tiles  # those in view, not those below and beside
    page.locator("section").last.scroll_into_view_if_needed()
    with page.expect_response(lambda r: r.url.endswith("/v1/events")) as answered:
        page.wait_for_timeout(1)
    assert kinds()["impression"] > seen  # what scrolls into view is seen then
    first.scroll_into_view_if_needed()
    first.locator(".play").click()
    assert "Played" in page.locator("#said").inner_text()
    with page.expect_response(lambda r: r.url.endswith("/v1/events")) as answered:
        page.wait_for_timeout(1)
    assert answered.value.json()["rejected"] == []
    assert kinds()["click"] == kinds()["play"] == 1
    first.locator(".ask").click()
    page.wait_for_selector("dialog[open]")
    assert "the same" in page.locator("dialog").inner_text()
    page.keyboard.press("Escape")
    # What is not sent yet when the page goes leaves by beacon.
    before = accepted()
    first.locator(".play").click()
    page.goto("about:blank")
    deadline = time.monotonic() + 10
    while accepted() < before + 2 and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert accepted() == before + 2  # a click and a play
    assert errors == []
    page.close()


def test_the_browser_module_survives_a_service_that_is_not_there(
    address: str, browser: Browser
) -> None:
    page = browser.new_page()
    page.route("**/v1/*", lambda route: route.abort())
    page.goto(f"{address}/demo")
    expect(page.locator("#said")).to_contain_text("default")
    assert page.locator("figure img:visible").count() == 0
    ids = page.evaluate("""async () => {
        const { ArtworkBandit } = await import("/static/artwork-bandit.js");
        const bandit = new ArtworkBandit({ member: "m", flushAfter: 1e6 });
        const [choice] = await bandit.choose(["a"]);
        window.bandit = bandit;
        bandit.event("play", { decision_id: "r.0.x" });
        await bandit.flush();
        return [choice.fallback, choice.reason, choice.variant_id];
    }""")
    assert ids == [True, "unreachable", None]
    page.unroute("**/v1/*")
    with page.expect_request("**/v1/events") as request:
        page.evaluate("bandit.flush()")  # the same event, again
    assert json.loads(request.value.post_data)["events"][0]["type"] == "play"
    page.close()
