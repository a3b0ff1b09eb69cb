"""From a folder of generated images to both plots, in a real browser, with the embedded backbone."""

import csv
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.support import PAGES, STEP_MS, TRAINING_MS, Studio, Watch, artefacts, draw, screenshots


@pytest.fixture
def images(tmp_path: Path) -> Path:
    draw(tmp_path / "rings", {"wide": 24, "narrow": 20})
    (tmp_path / "rings" / "wide" / "note.png").write_text("a note, not an image")
    return tmp_path / "rings"


@pytest.fixture
def unseen(tmp_path: Path) -> list[Path]:
    paths = draw(tmp_path / "new", {"wide": 2, "narrow": 2}, first=100)
    text = tmp_path / "new" / "letter.png"
    text.write_text("a letter, not an image")
    return [*paths, text]


def test_upload_train_refresh_classify_and_look_at_the_plots(
    studio: Studio, browser: Browser, base: str, watch: Watch, images: Path, unseen: list[Path]
) -> None:
    page = studio.page
    studio.open()
    expect(page.locator("#studio-header .device")).not_to_be_empty(timeout=STEP_MS)  # found after the start
    expect(page.locator("#studio-notice")).to_be_empty()
    studio.upload(images)
    detail = studio.uploaded(44)
    expect(detail.locator("#data-classes tbody tr").filter(has_text="narrow")).to_contain_text("20")
    expect(detail.locator("#data-passed-over")).to_contain_text("note.png")
    expect(detail.locator("#data-images figure")).to_have_count(24)
    detail.get_by_role("button", name="narrow").click()
    expect(detail.locator("#data-images figure")).to_have_count(20)

    studio.go("train")
    studio.start(method="wara", preset="quick", epochs="12", patience="12", batch_size="8", name="Rings by WaRA")
    expect(studio.job("running").locator(".chart")).to_have_count(2, timeout=TRAINING_MS)

    page.reload()
    expect(studio.job("running")).to_contain_text("Rings by WaRA")
    other = Studio(browser, base, watch)
    other.open("train")
    expect(other.job("running")).to_contain_text("Rings by WaRA")
    other.context.close()
    expect(studio.job("succeeded", TRAINING_MS).locator("#train-result")).to_contain_text("test AUROC")

    studio.go("classify")
    results = studio.classify(unseen)
    expect(results.get_by_role("heading").first).to_have_text("4 images classified, 1 could not be read")
    expect(results.locator(".result[data-state=unread]")).to_contain_text("text file")
    expect(results.locator(".result[data-state=read] .chance")).to_have_count(8)
    with page.expect_download() as download:
        results.get_by_role("link", name="Download CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [row["file"] for row in rows] == [path.name for path in unseen]
    assert float(rows[0]["probability wide"]) + float(rows[0]["probability narrow"]) == pytest.approx(1, abs=1e-4)
    assert rows[-1]["label"] == "" and rows[-1]["error"]

    studio.go("analyse")
    studio.plots_are_drawn()
    before = page.locator("#plot-energy img:visible").get_attribute("src")
    page.locator("#analyse-choice").get_by_label("Class").select_option("narrow")
    expect(page.locator("#plot-energy img:visible")).not_to_have_attribute("src", before)
    studio.plots_are_drawn()

    studio.go("models")
    row = page.locator("#models-list tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Rings by WaRA")
    expect(row).to_contain_text("embedded")
    expect(row).not_to_contain_text("untrained")
    row.get_by_role("button", name="Card").click()
    expect(page.locator("#models-card-text")).to_contain_text("not a medical device")
    with page.expect_download() as archive:
        row.get_by_role("link", name="Download").click()
    assert Path(archive.value.path()).read_bytes()[:2] == b"PK"

    screenshots(browser, base, watch, artefacts("generated"), unseen)


def test_a_training_can_be_cancelled_and_its_data_set_deleted(studio: Studio, images: Path) -> None:
    page = studio.page
    studio.open()
    studio.upload(images)
    studio.uploaded(44)
    studio.go("train")
    studio.start(epochs="200", patience="200")
    studio.job("running").get_by_role("button", name="Pause").click()
    expect(studio.job("paused")).to_contain_text("What it has learned so far is kept")
    studio.job("paused").get_by_role("button", name="Go on").click()
    expect(studio.job("running")).to_contain_text("Asked to pause")  # what happened is told
    studio.job("running").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Keep").click()
    expect(studio.job("running")).to_be_visible()
    studio.job("running").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Stop it").click()
    studio.job("cancelled")

    studio.go("data")
    page.get_by_role("button", name="Delete rings").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#data-detail")).to_contain_text("No images yet")


def test_wrong_input_is_answered_in_a_plain_sentence(studio: Studio, watch: Watch, tmp_path: Path) -> None:
    watch.refusals_expected = True
    page = studio.page
    studio.open()
    answer = page.locator("#data-upload [role=alert]")
    (tmp_path / "empty").mkdir()
    studio.upload(tmp_path / "empty")
    expect(answer).to_contain_text("holds no files")

    draw(tmp_path / "single", {"wide": 6})
    studio.upload(tmp_path / "single")
    expect(page.locator("#data-detail [role=status]")).to_contain_text("only one class (seen: wide)")
    expect(page.locator("#data-mapping form")).to_be_visible()

    for number in range(8):
        text = tmp_path / "texts" / "ab"[number % 2] / f"{number}.png"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"text {number}")
    studio.upload(tmp_path / "texts")
    expect(page.locator("#data-detail h2")).to_have_text("texts")
    expect(page.locator("#data-detail [role=alert]")).to_contain_text("It cannot be used.")

    draw(tmp_path / "twice", {"wide": 8, "narrow": 8})
    studio.upload(tmp_path / "twice")
    studio.uploaded(16)
    studio.upload(tmp_path / "twice")
    expect(answer).not_to_be_empty()
    expect(page.locator("#data-list li", has_text="twice")).to_have_count(1)

    studio.go("train")
    studio.start(rank="0")
    expect(page.locator("#train-answer [role=alert]")).to_contain_text("rank")
    page.locator("#weights > summary").click()
    page.locator("#weights-name").fill("no_such_network")
    page.locator("#weights-file").set_input_files(
        {"name": "weights.safetensors", "mimeType": "application/octet-stream", "buffer": b"nothing"}
    )
    page.get_by_role("button", name="Add the file").click()
    expect(page.locator("#weights [role=alert]")).to_contain_text("no_such_network")
    assert "Traceback" not in page.content()


def test_a_zip_is_taken_like_a_folder_and_named_after_its_file(studio: Studio, images: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "all rings"), "zip", images.parent, images.name)
    studio.open()
    studio.page.locator("#upload-zip").set_input_files(archive)
    detail = studio.uploaded(44)
    expect(detail.locator("h2.big")).to_have_text("all rings")


def test_text_from_files_is_shown_as_text(studio: Studio, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    draw(tmp_path / "names", {hostile: 6, "${alert(2)}": 6})
    studio.page.on("dialog", lambda dialog: pytest.fail(f"a name ran as script: {dialog.message}"))
    studio.open()
    studio.upload(tmp_path / "names")
    detail = studio.uploaded(12)
    expect(detail.locator("#data-classes")).to_contain_text(hostile)
    expect(detail.locator("#data-classes")).to_contain_text("${alert(2)}")


def test_options_that_a_method_lacks_are_neither_shown_nor_sent(studio: Studio, images: Path) -> None:
    page = studio.page
    studio.open()
    studio.upload(images)
    studio.uploaded(44)
    studio.go("train")
    page.locator("#advanced > summary").click()
    page.locator("#f-rank").fill("4")
    page.locator("#f-wavelet").select_option("db2")
    page.get_by_label("Last layer only").check()
    expect(page.locator("#f-wavelet")).to_be_hidden()
    expect(page.locator("#f-rank")).to_be_hidden()
    sent = page.evaluate("Object.fromEntries(new FormData(document.querySelector('#train-form form')))")
    assert sent["method"] == "linear-probe" and "wavelet" not in sent and "rank" not in sent
    page.get_by_label("LoRA").check()
    expect(page.locator("#f-rank")).to_be_visible()
    expect(page.locator("#f-wavelet")).to_be_hidden()


def test_the_keyboard_reaches_pages_choices_and_theme(studio: Studio, images: Path) -> None:
    page = studio.page
    studio.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#page-data h1")).to_be_focused()
    page.locator("#studio-header nav a").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#page-train h1")).to_be_focused()
    assert page.evaluate("document.activeElement.textContent") == "Train"

    theme = page.get_by_role("button", name="Light or dark")
    theme.focus()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("body")).to_have_class("dark")


def test_every_page_without_data_names_the_next_step(studio: Studio) -> None:
    studio.open()
    expect(studio.page.locator("#data-detail")).to_contain_text("Choose the folder")
    for name in PAGES[1:]:
        studio.go(name)
        step = studio.page.locator(f"#page-{name} .empty a.button:visible")
        expect(step).to_have_count(1)
    expect(studio.page.locator("#studio-footer")).to_contain_text("Research tool, not a medical device")
