"""A folder classified with progress: a lost server, a reload, the same folder again, and the table at the end."""

import csv
import time
from pathlib import Path

import httpx
from playwright.sync_api import expect

from tests.e2e import axe
from tests.e2e.support import STEP_MS, Studio, Watch, artefacts, draw


def a_model(base: str, folder: Path) -> None:
    """Train over HTTP, by the network that needs no weights: what it answers does not matter here."""
    draw(folder, {"wide": 10, "narrow": 10})
    files = [("files", (str(path.relative_to(folder.parent)), path.read_bytes())) for path in folder.rglob("*.png")]
    with httpx.Client(base_url=f"{base}/api/v1", timeout=60, trust_env=False) as http:
        dataset = http.post("/datasets", files=files).json()["id"]
        wait(lambda: http.get(f"/datasets/{dataset}").json()["status"] == "ready")
        order = {"dataset_id": dataset, "backbone": "vit_tiny_untrained", "method": "wara", "name": "Rings"}
        recipe = {"epochs": 1, "batch_size": 8, "bootstrap": 20, "rank": 4}
        job = http.post("/jobs", json=order | {"recipe": recipe}).json()["id"]
        wait(lambda: http.get(f"/jobs/{job}").json()["state"] == "succeeded")


def wait(condition: object, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_folder_goes_on_after_a_break_and_ends_in_one_table(
    studio: Studio, watch: Watch, base: str, tmp_path: Path
) -> None:
    a_model(base, tmp_path / "rings")
    page = studio.page
    images = draw(tmp_path / "ward", {"wide": 7, "narrow": 6}, first=50)
    (tmp_path / "ward" / "letter.png").write_text("a letter, not an image")
    studio.open("classify")
    expect(page.locator("#classify-model select")).to_be_visible()
    folder = page.locator("#classify-folder")

    # The first four files arrive; then the server is not there any more.
    sent = []
    watch.failures_expected = True

    def route(call: object) -> None:
        sent.append(call.request.url)
        call.continue_() if len(sent) == 1 else call.abort()

    page.route("**/batches/*/files", route)
    folder.set_input_files(tmp_path / "ward")
    meter = page.locator("#classify-drop [data-part=text]")
    expect(meter).to_contain_text("trying again", timeout=STEP_MS)
    page.unroute("**/batches/*/files")
    page.reload()

    results = page.locator("#classify-results section[data-state=ready]")
    expect(results.get_by_role("heading").first).to_contain_text("4 of 14 images done", timeout=STEP_MS)
    expect(results.get_by_text("What is done is not sent again")).to_be_visible()
    folder.set_input_files(tmp_path / "ward")
    expect(results.get_by_role("heading").first).to_have_text(
        "13 images classified, 1 could not be read", timeout=STEP_MS
    )
    expect(results.locator(".result")).to_have_count(14)
    expect(results.locator("#classify-unread")).to_contain_text("text file")
    expect(results.locator("[data-part=ask]").first).to_be_visible()
    page.wait_for_function("document.querySelector('img[data-local]').naturalWidth > 0")
    with page.expect_download() as download:
        results.get_by_role("link", name="Download CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    names = {f"ward/{path.parent.name}/{path.name}" for path in images} | {"ward/letter.png"}
    assert {row["file"] for row in rows} == names and len(rows) == 14
    assert {(row["model"], bool(row["version"])) for row in rows} == {("Rings", True)}
    assert [row["file"] for row in rows if row["error"]] == ["ward/letter.png"]

    studio.nothing_is_cut_off()
    shots = artefacts("batches")
    shots.mkdir(parents=True, exist_ok=True)
    assert axe.violations(page, axe.script()) == []
    for theme in ("light", "dark"):
        for width in (1280, 800):
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=shots / f"classify-{width}-{theme}.png", full_page=True)
            studio.nothing_is_cut_off()
        page.get_by_role("button", name="Light or dark").click()

    page.get_by_label("A data set that is here").select_option(index=0)
    page.get_by_role("button", name="Classify this data set").click()
    expect(results.get_by_role("heading").first).to_have_text("20 images classified", timeout=STEP_MS)
    expect(results.locator("[data-part=ask]")).to_have_count(0)
    page.locator("#earlier > summary").click()
    page.locator("#earlier [data-open]").nth(1).click()
    expect(results.get_by_role("heading").first).to_have_text("13 images classified, 1 could not be read")
    page.locator("#earlier").get_by_role("button", name="Remove").nth(1).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#classify-results")).to_contain_text("No results yet")
