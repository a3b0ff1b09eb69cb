"""Why a model chose a class: asked for below a classified image, by mouse and by keyboard, in a real browser."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.e2e import axe
from tests.e2e.support import TRAINING_MS, Studio, Watch, artefacts, draw


@pytest.fixture
def images(tmp_path: Path) -> Path:
    draw(tmp_path / "rings", {"wide": 16, "narrow": 16})
    return tmp_path / "rings"


def test_an_answer_is_explained_below_its_image(studio: Studio, watch: Watch, images: Path, tmp_path: Path) -> None:
    page = studio.page
    studio.open()
    studio.upload(images)
    studio.uploaded(32)
    studio.go("train")
    studio.start(method="wara", preset="quick", epochs="2", batch_size="8", name="Rings")
    studio.job("succeeded", TRAINING_MS)

    studio.go("classify")
    unseen = draw(tmp_path / "new", {"wide": 1, "narrow": 1}, first=100)
    results = studio.classify(unseen)
    first, second = (results.locator(".why").nth(place) for place in (0, 1))
    ask = first.get_by_role("button")
    expect(ask).to_have_attribute("aria-expanded", "false")
    ask.focus()
    page.keyboard.press("Enter")
    expect(first).to_have_attribute("data-state", "open", timeout=TRAINING_MS)
    expect(ask).to_have_attribute("aria-expanded", "true")
    picture = first.locator("img:visible")
    expect(picture).to_have_count(1)
    page.wait_for_function("image => image.complete && image.naturalWidth > 900", arg=picture.element_handle())
    sentence = re.compile("scales, .*(carried|hardly changed)|hardly changed")
    expect(picture).to_have_attribute("alt", sentence)
    expect(first.locator("figcaption")).to_contain_text(sentence)
    expect(second.locator("img")).to_have_count(0)
    studio.nothing_is_cut_off()
    folder = artefacts("explanation")
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / "classify-light.png", full_page=True)
    assert axe.violations(page, axe.script()) == []
    page.get_by_role("button", name="Light or dark").click()
    expect(first.locator("img:visible")).to_have_class("only-dark")
    page.screenshot(path=folder / "classify-dark.png", full_page=True)

    page.keyboard.press("Escape")
    ask.click()
    expect(first.locator("img")).to_have_count(0)

    watch.refusals_expected = watch.failures_expected = True
    page.route("**/explain*", lambda route: refuse(route))
    second.get_by_role("button").click()
    expect(second.get_by_role("alert")).to_have_text("It cannot be explained. Do another thing.")
    expect(second).to_have_attribute("data-state", "closed")
    page.unroute("**/explain*")

    studio.classify(unseen[:1])
    expect(page.locator(".why img")).to_have_count(0)

    studio.go("analyse")
    plot = page.locator("#plot-classes")
    drawn = plot.locator("img:visible")
    drawn.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 300", arg=drawn.element_handle())
    expect(plot).to_contain_text("'wide' used")
    studio.nothing_is_cut_off()
    page.screenshot(path=folder / "analyse-dark.png", full_page=True)


def refuse(route: Route) -> None:
    problem = '{"detail": "It cannot be explained. Do another thing."}'
    route.fulfill(status=409, content_type="application/problem+json", body=problem)
