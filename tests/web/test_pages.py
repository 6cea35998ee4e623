"""The pages in a real Chromium: no errors, no sideways scroll, both themes."""

import datetime as dt
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from artwork_bandit.operations import catalog_import, demo_catalog, drawing
from artwork_bandit.operations.reporting import keep_latest
from artwork_bandit.operations.server_process import free_port, serving
from artwork_bandit.operations.summing import sum_up
from artwork_bandit.policies.profile import Sign
from artwork_bandit.settings import Settings
from artwork_bandit.slots import slot_named
from artwork_bandit.store import profiles, registry, tables
from artwork_bandit.store.engine import Store
from simulations.bench_pages import fill
from tests.samples import NOW

CHROMIUM = next(
    (p for n in ("chromium", "google-chrome", "chromium-browser") if (p := shutil.which(n))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


FEW = ("stranger-things", "house-of-cards", "dark", "black-mirror", "bridgerton", "cheer")
"""Titles that four weeks of decisions are made for, the first most of them."""


@pytest.fixture(scope="module")
def address(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(sqlite_template, folder / "pages.db")
    settings = Settings(
        database_url=f"sqlite:///{folder}/pages.db", media_dir=str(folder), port=free_port(0),
        demo_homepage="live",
    )  # fmt: skip
    store = Store(settings.database_url)
    titles, variants = demo_catalog.load(1)
    catalog_import.import_catalog(store, titles, variants, NOW, dry_run=False)
    names = {t.title_id: t.name for t in titles}
    for variant in variants:
        picture = drawing.draw(variant, names[variant.title_id])
        (folder / f"{variant.variant_id}.svg").write_text(picture, "utf-8")
    now = dt.datetime.now(dt.UTC)
    fill(
        store,
        [t for t in titles if t.title_id in FEW],
        [v for v in variants if v.title_id in FEW and v.slot == "artwork"],
        18_000,
        now=now,
    )
    sum_up(store, "artwork", settings, now)
    with store.write() as connection:
        found = {"value": 0.1, "incumbent": "uniform", "incumbent_value": 0.08, "difference": 0.02,
                 "difference_lower": -0.01, "difference_upper": 0.05}  # fmt: skip
        for judged in ({"status": "rejected", "reason": "could be worse", "metrics": found}, {}):
            registry.register(
                connection, slot="artwork", data=b"none", window=(NOW, now), rows=1000,
                settings={"explored_share": 0.05, "priors": {"own": 1.0}}, now=now, **judged,
            )  # fmt: skip
    assert keep_latest(store, slot_named("artwork"), now) is not None
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


PAGES = (
    "/", "/?slot=trailer", "/?search=nothing+like+it", "/titles/stranger-things",
    "/titles/stranger-things?by=taste", "/titles/house-of-cards?slot=trailer", "/policies",
    "/features", "/changes", "/titles/dark/variants/new", "/titles/dark/variants/dark-a01/edit",
    "/reports/1", "/models/1/promote", "/slots/artwork/rollback", "/demo",
)  # fmt: skip
WITH_PICTURES = ("/titles/s", "/titles/house", "/?slot", "/demo")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1280)])
@pytest.mark.parametrize("path", PAGES)
def test_pages_render_whole_and_without_barriers(
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
    if path == "/" or path.startswith(WITH_PICTURES):
        first, deadline = page.locator("main img").first, time.monotonic() + 20
        while not first.evaluate("i => i.naturalWidth") and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        assert first.evaluate("i => i.naturalWidth") > 0
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").count() == 1
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()


@pytest.mark.parametrize("path", [p for p in PAGES if not p.endswith((".json", ".csv"))])
def test_no_page_scrolls_sideways_at_any_width(browser: Browser, address: str, path: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address + path)
    for width in (320, 360, 480, 600, 601, 640, 768, 900, 1000, 1023, 1100, 1101, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
    page.close()


def test_a_long_name_is_broken_not_scrolled_to(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(f"{address}/titles/dark/variants/new")
    page.get_by_label("Id").fill("dark-long")
    page.get_by_label("Name", exact=True).fill("Donaudampfschifffahrt" * 5)
    page.get_by_label("or its address").fill("/media/none.svg")
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Add").click()
    page.wait_for_url("**/titles/dark?*")  # with its styles
    for width in (390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
    page.get_by_role("button", name="Undo", exact=True).first.click()
    page.close()


def test_enter_in_a_name_changes_nothing(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/titles/cheer/variants/cheer-a02/edit")
    page.locator("#quick").fill("Kim")
    page.locator("#quick").press("Enter")
    page.wait_for_timeout(300)
    assert page.url.endswith("/edit")
    assert page.get_by_role("button", name="Pause").count() == 1  # not paused
    page.close()


def test_going_back_shows_the_list_and_the_form_of_that_time(
    browser: Browser, address: str
) -> None:
    page = browser.new_page()
    page.goto(address)
    page.get_by_label("Search").press_sequentially("bridger")
    expect(page.locator(".grid-cards article")).to_have_count(1)
    page.get_by_label("Order").select_option("name")
    expect(page).to_have_url(re.compile("sort=name"))
    page.go_back()
    expect(page).not_to_have_url(re.compile("sort=name"))
    expect(page.get_by_label("Search")).to_have_value("bridger")
    expect(page.locator(".grid-cards article")).to_have_count(1)
    page.close()


def test_a_list_that_could_not_be_renewed_says_so(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.route("**/?*", lambda route: route.fulfill(status=503, body="no"))
    page.get_by_label("Search").press_sequentially("bridger")
    expect(page.get_by_role("alert")).to_contain_text("did not answer")
    page.close()


def test_without_javascript_pages_can_be_read_and_forms_sent(
    browser: Browser, address: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    page.get_by_label("Search").fill("stranger")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".grid-cards article").count() == 1
    page.get_by_role("link", name="Stranger Things", exact=True).click()
    page.get_by_label("For whom").select_option("taste")
    page.get_by_role("button", name="Show").click()
    assert page.locator("table.heat tbody tr").count() > 3
    assert "by=taste" in page.url
    page.get_by_label("What happened").fill("a premiere")
    page.locator("#note-author").fill("Ann")
    page.get_by_role("button", name="Write").click()
    assert "Done" in page.get_by_role("status").inner_text()
    assert page.get_by_text("a premiere").count() >= 1
    page.get_by_role("button", name="Undo", exact=True).first.click()
    assert page.locator(".forms li", has_text="a premiere").count() == 0
    context.close()


def test_searching_shows_what_is_found_while_one_types(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.get_by_label("Search").press_sequentially("bridger")
    expect(page.locator(".grid-cards article")).to_have_count(1)
    expect(page.locator("#count")).to_contain_text("1 title")
    assert "search=bridger" in page.url  # the address can be sent to somebody
    page.get_by_label("Search").fill("")
    expect(page.locator("#count")).to_contain_text("titles")
    page.close()


def test_a_variant_is_added_shown_to_members_and_paused_within_seconds(
    browser: Browser, address: str, tmp_path: Path
) -> None:
    page = browser.new_page()
    page.goto(f"{address}/titles/cheer")
    before = page.locator("table.variants tbody tr").count()
    page.get_by_role("button", name="Add a variant").or_(
        page.get_by_role("link", name="Add a variant")
    ).first.click()
    Image.new("RGB", (640, 360), "teal").save(tmp_path / "teal.png")
    page.get_by_label("Id").fill("cheer-teal")
    page.get_by_label("Name", exact=True).fill("Teal")
    page.get_by_label("File").set_input_files(tmp_path / "teal.png")
    page.get_by_label("Features").fill("genre: Docuseries\nfaces: 0")
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Add").click()
    assert "Done" in page.get_by_role("status").inner_text()
    assert page.locator("table.variants tbody tr").count() == before + 1
    picture = page.locator("tr", has_text="Teal").locator("img")
    assert picture.evaluate("async i => { await i.decode(); return i.naturalWidth; }") == 640

    def choosable() -> bool:
        answer = page.request.post(
            f"{address}/v1/choices",
            data={
                "member_id": "m",
                "title_ids": ["cheer"],
                "only": ["cheer-teal"],
                "preview": True,
            },
        )
        return bool(answer.json()["choices"][0]["variant_id"] == "cheer-teal")

    def within_seconds(wanted: bool) -> bool:
        deadline = time.monotonic() + 10
        while choosable() is not wanted and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        return choosable() is wanted

    assert within_seconds(True)
    page.get_by_role("link", name=re.compile(r"^Edit #7")).click()
    assert page.get_by_label("Your name").first.input_value() == "Ann"  # remembered
    page.get_by_role("button", name="Pause").click()
    assert within_seconds(False)
    page.get_by_role("button", name="Undo", exact=True).first.click()
    assert within_seconds(True)
    page.goto(f"{address}/changes")
    assert page.locator(".history li").count() >= 3
    page.close()


def test_times_and_numbers_are_as_the_reader_writes_them(browser: Browser, address: str) -> None:
    context = browser.new_context(locale="de-DE", timezone_id="Europe/Berlin")
    page = context.new_page()
    page.goto(f"{address}/policies")
    expect(page.locator("footer time")).to_contain_text(re.compile(r"MEZ|GMT\+1"))
    assert re.search(r"\d\.\d{3}", page.locator("table.cells tbody td").first.inner_text())
    page.goto(f"{address}/titles/stranger-things")
    rates = page.locator("table.variants td strong").first
    expect(rates).to_have_text(re.compile(r"^\d+,\d\s%$"))
    assert not re.search(r"\d\.\d+%", page.locator("main").inner_text())
    context.close()


def test_a_page_that_fails_says_what_to_do(browser: Browser, address: str) -> None:
    page = browser.new_page()
    assert page.goto(f"{address}/titles/nope").status == 404
    assert "does not exist" in page.get_by_role("alert").inner_text()
    assert page.goto(f"{address}/titles/dark?by=nonsense").status == 422
    assert "use one of taste" in page.get_by_role("alert").inner_text().lower()
    page.close()


def test_from_the_overview_to_the_ten_trailer_cuts(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.get_by_role("link", name="trailer", exact=True).click()
    page.get_by_role("link", name="House of Cards", exact=True).click()
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
    first = page.locator("figure").first
    with page.expect_response(lambda r: r.url.endswith("/v1/events")) as answered:
        page.goto(f"{address}/demo")
        expect(page.locator("#said")).to_contain_text("chosen")
        assert first.get_attribute("data-variant")
        first.locator("img").evaluate("i => i.decode()")
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
    with page.expect_response(lambda r: r.url.endswith("/v1/events")) as answered:
        page.locator("section").last.scroll_into_view_if_needed()
    assert kinds()["impression"] > seen  # what scrolls into view is seen then
    first.scroll_into_view_if_needed()
    with page.expect_response(lambda r: '"play"' in (r.request.post_data or "")) as answered:
        first.locator(".play").click()
        assert "Played" in page.locator("#said").inner_text()
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


def test_the_demo_homepage_of_a_service_is_a_preview_and_leaves_nothing_behind(
    store: Store, database_url: str, browser: Browser, tmp_path: Path
) -> None:
    titles, variants = demo_catalog.load(1)
    catalog_import.import_catalog(store, titles, variants, NOW, dry_run=False)
    liked = {"a-real-member": [Sign(moment=NOW, genres={"TV Horror": 1.0})]}
    with store.write() as connection:
        profiles.add(connection, liked, lambda: liked, dt.timedelta(days=1))
    settings = Settings(database_url=database_url, port=free_port(0))
    page = browser.new_page(viewport={"width": 1280, "height": 700})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with serving(settings, tmp_path / "server.log"):
        page.goto(f"http://127.0.0.1:{settings.port}/demo")
        expect(page.locator("#said")).to_contain_text("chosen")
        assert "This is a preview" in page.locator("hgroup").inner_text()
        assert "a-real-member" not in page.content()
        first = page.locator("figure").first
        shown = first.get_attribute("data-variant")
        assert shown
        first.locator(".play").click()
        expect(page.locator("#said")).to_contain_text("nothing is reported")
        first.locator(".ask").click()
        page.wait_for_selector("dialog[open]")
        said = page.locator("dialog").inner_text()
        assert f"{shown} of " in said
        assert "A preview: in no log." in said
        page.keyboard.press("Escape")
        page.locator("#member").fill("somebody")
        page.locator("#member").press("Tab")
        expect(page.locator("#said")).to_contain_text("chosen")
        page.wait_for_timeout(1_500)  # what is on screen would have been reported by now
    page.close()
    assert errors == []
    with store.read() as connection:
        for table in (tables.requests, tables.impressions, tables.events):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0


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
