"""A first run on the demo's images, one next step after the other; then every page for everybody, in any light."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e import axe
from tests.e2e.support import PAGES, TRAINING_MS, Studio, Watch, artefacts, running_server
from wara.demo import files

DRAWING_MS = 180_000
CONTROLS = {
    "data": ("#data-upload label:has(#upload-folder)", "#data-demo", "#data-detail a[href='#train']"),
    "train": ("#train-start", "#train-job a[href='#classify']"),
    "classify": ("#classify-model select", "#classify-drop label:has(#classify-images)", "#classify-demo button"),
    "analyse": ("#analyse-choice select[name=model]", "#analyse-choice select[name=cls]", "#plot-energy a[download]"),
    "models": ("#models-list button[data-action=card]", "#models-list a[download]"),
}
# Controls of a page that lie on one another, or reach beyond the window; a control inside another one is part of it.
COLLISIONS = """page => {
  const shown = [...document.querySelectorAll('#studio-header :is(a, button), #page-' + page +
    ' :is(a.button, a.link, button, select, summary, label.button, label.choice, .field input)')]
    .filter(node => !node.matches('.skip') && node.checkVisibility({visibilityProperty: true}));
  const found = [];
  const name = node => (node.textContent || node.name || node.id).trim().slice(0, 40);
  const boxes = shown.map(node => node.getBoundingClientRect());
  shown.forEach((one, i) => {
    if (boxes[i].left < -1 || boxes[i].right > innerWidth + 1) found.push(name(one) + ' reaches beyond the window');
    shown.slice(i + 1).forEach((other, j) => {
      const a = boxes[i], b = boxes[i + 1 + j];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && tall > 1 && !one.contains(other) && !other.contains(one))
        found.push(name(one) + ' lies on ' + name(other));
    });
  });
  return found;
}"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[str]:
    """One server for the whole module: what the first run leaves is what the pages show afterwards."""
    with running_server(tmp_path_factory.mktemp("first-run")) as address:
        yield address


@pytest.fixture
def unseen(tmp_path: Path) -> list[Path]:
    """An image of every class that the demo data set does not hold."""
    paths = []
    for name, content in files(3, seed=1, dicom_share=0):
        paths.append(tmp_path / Path(name).name)
        paths[-1].write_bytes(content)
    return paths


def test_an_empty_page_leads_from_the_demo_to_both_plots(studio: Studio, unseen: list[Path]) -> None:
    page = studio.page
    studio.open()
    expect(page.locator("#data-detail")).to_contain_text("try the demo")
    page.get_by_role("button", name="Try the demo").click()
    expect(page.locator("#data-detail section[data-state=drawing]")).to_contain_text("300 synthetic images")
    detail = page.locator("#data-detail article[data-state=ready]")
    expect(detail).to_be_visible(timeout=DRAWING_MS)
    expect(detail.locator("#data-classes")).to_contain_text("fine_cluster")
    expect(detail.locator(".tile").nth(2)).to_contain_text("patients")

    page.get_by_role("button", name="Try the demo").click()
    expect(page.locator("#data-detail section[data-state=drawing]")).to_have_count(0)
    expect(detail).to_be_visible()
    expect(page.locator("#data-list li")).to_have_count(1)

    detail.get_by_role("link", name="Train on these images").click()
    studio.start(method="wara", preset="quick", epochs="1")
    done = studio.job("succeeded", TRAINING_MS)
    done.get_by_role("link", name="Classify images").click()
    results = studio.classify(unseen[1:2])
    expect(results.locator(".chance")).to_have_count(3)
    page.get_by_role("button", name="Classify demo images").click()
    expect(results.locator(".result[data-state=read]")).to_have_count(3)
    page.wait_for_function(
        "[...document.querySelectorAll('img[data-local]')].every(image => image.naturalWidth == 224)"
    )
    results.get_by_role("link", name="See what it learned").click()
    studio.plots_are_drawn()
    page.locator("#analyse-figures").get_by_role("link", name="Go to Models").click()
    expect(page.locator("#models-list tbody tr")).to_have_count(1)


def test_a_demo_that_cannot_be_drawn_is_answered_in_a_plain_sentence(browser: Browser, tmp_path: Path) -> None:
    with running_server(tmp_path, WARA_MIN_FREE_MB="999999999") as address:
        watch = Watch(address)
        studio = Studio(browser, address, watch)
        studio.open()
        studio.page.get_by_role("button", name="Try the demo").click()
        expect(studio.page.locator("#data-detail [role=alert]")).to_contain_text("not enough disk space")
        expect(studio.page.locator("#data-detail section[data-state=drawing]")).to_have_count(0)
        studio.context.close()
        assert watch.seen == []


@pytest.fixture
def first_run(base: str) -> None:
    """The demo and one model; made here only when this test runs without the one before."""
    with httpx.Client(base_url=f"{base}/api/v1", timeout=DRAWING_MS / 1000, trust_env=False) as http:
        demo = http.post("/datasets/demo").json()["id"]
        _await(http, f"/datasets/{demo}", "status", "ready")
        if not http.get("/models").json()["items"]:
            backbone = next(item for item in http.get("/backbones").json()["items"] if item["available"])
            order = {"dataset_id": demo, "method": "wara", "backbone": backbone["id"], "preset": "quick"}
            job = http.post("/jobs", json=order | {"recipe": {"epochs": 1}}).json()["id"]
            _await(http, f"/jobs/{job}", "state", "succeeded")


def _await(http: httpx.Client, path: str, key: str, wanted: str) -> None:
    end = time.monotonic() + TRAINING_MS / 1000
    while (answer := http.get(path).json())[key] != wanted:
        assert answer[key] != "failed" and time.monotonic() < end, json.dumps(answer)
        time.sleep(0.1)


@pytest.fixture
def seen(first_run: None, browser: Browser, base: str, watch: Watch, width: int, theme: str) -> Iterator[Studio]:
    """A window of this width that prefers this light, with the first run's results behind it."""
    studio = Studio(browser, base, watch, viewport={"width": width, "height": 900}, color_scheme=theme)
    studio.open()
    yield studio
    studio.context.close()


def show(studio: Studio, page: str, unseen: list[Path]) -> Page:
    """Bring a page to the state in which it shows the most."""
    studio.go(page)
    shown = studio.page
    if page == "data":
        expect(shown.locator("#data-images figure").first).to_be_visible()
    if page == "train":
        expect(shown.locator("#train-result")).to_be_visible()
        expect(shown.locator("#train-form form")).to_be_visible()
    if page == "classify":
        studio.classify(unseen)
    if page == "analyse":
        studio.plots_are_drawn()
        shown.evaluate("window.scrollTo(0, 0)")
    if page == "models":
        shown.locator("#models-list").get_by_role("button", name="Card").first.click()
        expect(shown.locator("#models-card-text")).to_contain_text("not a medical device")
    for fold in shown.locator(f"#page-{page} details > summary").all():
        fold.click()
    shown.evaluate("document.fonts.ready")
    return shown


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800])
def test_no_page_is_wider_than_its_window_and_its_controls_can_be_reached(
    seen: Studio, unseen: list[Path], width: int, theme: str
) -> None:
    expect(seen.page.locator("html")).to_have_attribute("data-theme", theme)
    folder = artefacts("first-run")
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        page = show(seen, name, unseen)
        for control in CONTROLS[name]:
            expect(page.locator(f"#page-{name} {control}").first).to_be_visible()
        seen.nothing_is_cut_off()
        assert page.evaluate(COLLISIONS, name) == [], name
        page.screenshot(path=folder / f"{name}-{width}-{theme}.png", full_page=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800])
def test_axe_finds_nothing_serious_or_critical_on_any_page(
    seen: Studio, unseen: list[Path], width: int, theme: str
) -> None:
    checker = axe.script()
    for name in PAGES:
        page = show(seen, name, unseen)
        assert axe.violations(page, checker) == [], f"{name}, {width} px, {theme}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_or_critical_on_pages_without_anything(
    browser: Browser, tmp_path: Path, theme: str
) -> None:
    checker = axe.script()
    with running_server(tmp_path) as address:
        watch = Watch(address)
        studio = Studio(browser, address, watch, color_scheme=theme)
        studio.open()
        for name in PAGES:
            studio.go(name)
            assert axe.violations(studio.page, checker) == [], f"{name}, {theme}"
        studio.context.close()
        assert watch.seen == []
