"""The masking tool in a real browser: suggestions, rectangles by hand and by keyboard, the file's pixels gone."""

from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from tests.backend.api.test_masks import named
from tests.e2e import axe
from tests.e2e.support import Studio, Watch, artefacts, draw


def with_names(root: Path) -> Path:
    draw(root, {"wide": 8, "narrow": 8})
    for number in range(3):
        (root / "wide" / f"named_{number}.png").write_bytes(named(number))
    return root


def stored(tmp_path: Path, name: str) -> np.ndarray:
    [path] = (tmp_path / "data" / "datasets").rglob(name)
    return np.asarray(Image.open(path))


def test_text_in_a_picture_is_covered_for_good(studio: Studio, watch: Watch, tmp_path: Path) -> None:
    page = studio.page
    studio.open()
    studio.upload(with_names(tmp_path / "films"))
    detail = studio.uploaded(19)
    finding = detail.locator("section[data-finding=text]")
    expect(finding).to_contain_text("3 images in which text may stand, perhaps a name")
    expect(finding.locator(".lightbox img")).to_have_count(3)
    before = finding.locator(".lightbox img").first.get_attribute("src")
    finding.get_by_role("button", name="Look and cover").click()

    tool = page.locator("#data-detail [data-mask]")
    expect(tool).to_contain_text("Image 1 of 3")
    expect(tool.locator("li")).to_have_count(1)  # the detector's suggestion
    assert stored(tmp_path, "named_0.png")[:28, :100].max() > 200
    tool.get_by_role("button", name="Undo the last one").click()
    expect(tool.locator("li")).to_have_count(0)
    stage = tool.locator("[data-part=stage]")
    frame = stage.bounding_box()
    assert frame is not None
    page.mouse.move(frame["x"] + 1, frame["y"] + 1)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.5, frame["y"] + frame["height"] * 0.2, steps=4)
    page.mouse.up()
    expect(tool.locator(".mask-box")).to_have_count(1)
    folder = artefacts("masking")
    folder.mkdir(parents=True, exist_ok=True)
    checker = axe.script()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_function(
            "theme => document.documentElement.dataset.theme === theme && document.getAnimations().length === 0",
            arg=theme,
        )  # colours are on their way until then
        assert axe.violations(page, checker) == [], theme
        studio.nothing_is_cut_off()
        page.screenshot(path=folder / f"tool-{theme}.png", full_page=True)
    tool.get_by_role("button", name="Cover for good").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("Cover 1 rectangle in 1 image for good?")
    question.get_by_role("button", name="Cancel").click()
    assert stored(tmp_path, "named_0.png")[:28, :100].max() > 200
    tool.get_by_role("button", name="Cover for good").click()
    question.get_by_role("button", name="Cover for good").click()
    expect(tool).to_contain_text("1 image covered; 2 images left to look at.")
    covered = stored(tmp_path, "named_0.png")
    assert covered[:32, 1:120].max() == 0 and covered[40:, :].min() > 20

    # The rest by keyboard alone, with the suggestion that the next image comes with.
    expect(tool).to_contain_text("Image 1 of 2")
    expect(tool.locator("li")).to_have_count(1)
    tool.get_by_role("button", name="Add a rectangle").press("Enter")
    for value in ("50", "90", "50", "10"):
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.type(value)
        page.keyboard.press("Tab")
    tool.get_by_label("All 2 images on this list of the same size").check()
    tool.get_by_role("button", name="Cover for good").press("Enter")
    question.get_by_role("button", name="Cover for good").press("Enter")

    expect(page.locator("#data-detail")).to_contain_text("3 images covered.")
    expect(detail.locator("section[data-finding=text]")).to_have_count(0)
    expect(detail.locator("#data-decisions")).to_contain_text("Text in the picture: 2 images covered in 2 places")
    for number in (1, 2):
        pixels = stored(tmp_path, f"named_{number}.png")
        assert pixels[144:, 120:].max() == 0 and pixels[6:22, 6:86].max() == 0
    now = detail.locator("#data-images img").first.get_attribute("src")
    assert now is not None and before is not None and now.partition("?")[2] != before.partition("?")[2]
    page.screenshot(path=folder / "report.png", full_page=True)


def test_the_tool_fits_a_narrow_window_and_can_be_left(studio: Studio, tmp_path: Path) -> None:
    studio.page.set_viewport_size({"width": 800, "height": 900})
    studio.open()
    studio.upload(with_names(tmp_path / "films"))
    detail = studio.uploaded(19)
    detail.locator("section[data-finding=text]").screenshot(path=artefacts("masking") / "finding.png")
    detail.get_by_role("button", name="Look and cover").click()
    expect(studio.page.locator("[data-mask] li")).to_have_count(1)
    studio.nothing_is_cut_off()
    studio.page.screenshot(path=artefacts("masking") / "tool-narrow.png", full_page=True)
    studio.page.get_by_role("button", name="Back to the report").click()
    expect(detail.locator("section[data-finding=text]")).to_be_visible()
