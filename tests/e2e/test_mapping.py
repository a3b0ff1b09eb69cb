"""Labels from where people have them: an Excel file with columns of its own, and file names with a pattern."""

from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import Workbook
from playwright.sync_api import expect

from tests.e2e import axe
from tests.e2e.support import Studio, artefacts, draw


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    """24 images in one folder, beside a workbook whose columns are named as a clinic names them."""
    folder = tmp_path / "ward"
    book = Workbook()
    sheet = book.active
    sheet.append(["Scan No", "Befund 2024", "MRN", "Machine"])
    for place, path in enumerate(draw(tmp_path / "drawn", {"wide": 12, "narrow": 12})):
        name = f"scan_{place:03d}"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        path.rename(folder / "images" / f"{name}.png")
        if place != 5:  # one image that nobody has labelled
            sheet.append([name, "ill" if path.name.startswith("wide") else "healthy", 70000 + place // 2, "A"])
    book.save(folder / "reading list.xlsx")
    return folder


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """24 images whose names hold patient, eye and class."""
    folder = tmp_path / "eyes"
    folder.mkdir()
    for place, path in enumerate(draw(tmp_path / "drawn", {"wide": 12, "narrow": 12})):
        kind = "glaucoma" if path.name.startswith("wide") else "healthy"
        path.rename(folder / f"P{place // 2:03d}_{'LR'[place % 2]}_{kind}.png")
    return folder


def picture(studio: Studio, name: str) -> None:
    folder = artefacts("mapping")
    folder.mkdir(parents=True, exist_ok=True)
    studio.nothing_is_cut_off()
    studio.page.screenshot(path=folder / f"{name}.png", full_page=True)


def test_a_workbook_with_columns_of_its_own_is_mapped_and_checked(studio: Studio, workbook: Path) -> None:
    studio.open()
    studio.upload(workbook)
    form = studio.page.locator("#data-mapping form")
    expect(form).to_be_visible()
    expect(studio.page.locator("#data-list li").first).to_contain_text("labels not known yet")
    expect(form.get_by_label("Table", exact=True)).to_have_value("reading list.xlsx")
    expect(form.get_by_label("File", exact=True)).to_have_value("Scan No")
    expect(form.get_by_label("Class", exact=True)).to_have_value("Befund 2024")
    expect(form.locator("select[name=column_patient]")).to_have_value("MRN")
    expect(form).to_contain_text("23 of 23 rows match")
    preview = studio.page.locator("#data-mapping-preview [data-preview=ready]")
    expect(preview.locator(".tile").first).to_contain_text("23")
    expect(preview.locator("#mapping-unused")).to_contain_text("not named in the table")
    assert "70001" not in studio.page.content(), "a patient's number stands on the page"
    assert axe.violations(studio.page, axe.script()) == []
    picture(studio, "table")

    form.get_by_label("Class", exact=True).select_option("")
    expect(studio.page.locator("#data-mapping-preview")).to_contain_text("the column of the label is missing")
    form.get_by_label("Class", exact=True).select_option("Befund 2024")
    form.locator("summary").click()
    form.get_by_label("Names one a line").fill("ill = glaucoma")
    expect(preview).to_contain_text("glaucoma")
    form.get_by_role("button", name="Use these labels").click()
    detail = studio.uploaded(23)
    expect(detail.locator("#data-classes")).to_contain_text("glaucoma")
    expect(detail.locator(".tile").nth(2)).to_contain_text("12")
    expect(detail.locator("#data-passed-over")).to_contain_text("not named in the table")
    expect(form).to_have_count(0)


def test_a_pattern_is_tried_out_while_it_is_written(studio: Studio, named: Path) -> None:
    studio.open()
    studio.upload(named)
    form = studio.page.locator("#data-mapping form")
    expect(form).to_be_visible()
    form.locator("label.choice").filter(has_text="File names").click()
    preview = studio.page.locator("#data-mapping-preview")
    pattern = form.locator("input[name=pattern]")
    pattern.press_sequentially("(?P<patient>P")
    expect(preview).to_contain_text("missing )")
    pattern.fill("")
    pattern.press_sequentially(r"(?P<patient>P\d+)_(?P<eye>L|R)_(?P<label>[a-z]+)")
    expect(pattern).to_be_focused()
    expect(preview.locator(".tile").first).to_contain_text("24")
    expect(preview.locator(".tile").nth(2)).to_contain_text("12")
    expect(preview.locator("#mapping-rows thead")).to_contain_text("eye")
    expect(preview).to_contain_text("glaucoma")
    picture(studio, "pattern")
    studio.page.keyboard.press("Enter")
    detail = studio.uploaded(24)

    detail.get_by_role("button", name="Change where labels come from").click()
    expect(form.locator("input[name=pattern]")).to_have_value(r"(?P<patient>P\d+)_(?P<eye>L|R)_(?P<label>[a-z]+)")
    form.locator("input[name=pattern]").fill(r"_(?P<label>L|R)_")
    expect(preview).to_contain_text("No patients are known here")
    form.get_by_role("button", name="Leave it as it is").click()
    expect(studio.page.locator("#data-detail #data-classes")).to_contain_text("glaucoma")
    expect(form).to_have_count(0)
