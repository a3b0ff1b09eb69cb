"""A page that stays open for long: lists change under it, other windows delete, files miss their place."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.backend.support import wait_until
from tests.e2e.support import Studio, Watch, draw, running_server

CLASSES = {f"{shape} with a rather long name of its own": 12 for shape in ("wide", "narrow")}
# As a browser tells of a file that is held over a place and let go there: whether the page took care of it.
LET_GO = """element => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File(["x"], "paper.pdf"));
  const told = (kind) => !element.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
  return [told("dragover"), told("drop")];
}"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[str]:
    """A server with four data sets and two models."""
    folder = tmp_path_factory.mktemp("long")
    with running_server(folder) as address:
        with api(address) as http:
            sets = [_send(http, folder, f"Set {place}", first=20 * place) for place in range(4)]
            for name in ("Old", "New"):
                order = {"dataset_id": sets[0], "method": "linear-probe", "backbone": "embedded", "name": name}
                http.post("/jobs", json=order | {"recipe": {"epochs": 1, "image_size": 64}}).raise_for_status()
                wait_until(lambda name=name: name in models(http), 300)
        yield address


def api(address: str) -> httpx.Client:
    return httpx.Client(base_url=f"{address}/api/v1", timeout=300, trust_env=False)


def models(http: httpx.Client) -> dict[str, str]:
    return {model["name"]: model["id"] for model in http.get("/models").json()["items"]}


def _send(http: httpx.Client, folder: Path, name: str, *, first: int) -> str:
    drawn = draw(folder / name, CLASSES, first=first)
    packed = folder / f"{name}.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in drawn:
            archive.write(path, path.relative_to(folder / name))
    made = http.post("/datasets", data={"name": name}, files={"files": (packed.name, packed.read_bytes())})
    known = str(made.raise_for_status().json()["id"])
    wait_until(lambda: http.get(f"/datasets/{known}").json()["status"] == "ready")
    return known


def drop(page: Page, place: Locator, files: list[Path]) -> None:
    """Let files go over a place, as a hand does."""
    box = place.bounding_box()
    assert box is not None
    data = {"items": [], "files": [str(path) for path in files], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": data}
        session.send("Input.dispatchDragEvent", event)


def test_the_page_stays_marked_and_folds_stay_as_they_were_left_when_they_are_rendered_anew(studio: Studio) -> None:
    page = studio.page
    studio.open("train")
    link = page.locator('#studio-header nav a[href="#train"]')
    expect(link).to_have_attribute("aria-current", "page")
    # Gradio renders in place: it takes away what the new text does not have.
    link.evaluate("link => link.removeAttribute('aria-current')")
    expect(link).to_have_attribute("aria-current", "page")
    story = page.locator("#train-job details.story")
    story.locator("summary").click()
    expect(story).to_have_attribute("open", "")
    story.evaluate("story => story.removeAttribute('open')")
    expect(story).to_have_attribute("open", "")


def test_what_is_chosen_far_down_a_list_comes_into_view(studio: Studio) -> None:
    page = studio.page
    page.set_viewport_size({"width": 1280, "height": 400})
    studio.open()
    page.locator("#data-list .row-button", has_text="Set 0").click()
    title = page.locator("#data-detail h2", has_text="Set 0")
    expect(title).to_be_in_viewport()
    studio.go("train")
    page.locator("#train-list").get_by_role("button", name="Old", exact=True).click()
    expect(page.locator("#train-job h2", has_text="Old")).to_be_in_viewport()


def test_a_table_that_is_wider_than_the_window_is_reached_by_the_keyboard(studio: Studio) -> None:
    page = studio.page
    studio.open()
    box = page.locator("#data-classes .table-wrap")
    expect(box).to_be_visible()
    expect(box).not_to_have_attribute("tabindex", "0")
    page.set_viewport_size({"width": 380, "height": 800})
    expect(box).to_have_attribute("tabindex", "0")
    expect(page.get_by_role("region", name="Images of each class and side")).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(box).not_to_have_attribute("tabindex", "0")


def test_a_file_that_misses_its_place_does_not_take_the_place_of_the_page(studio: Studio) -> None:
    studio.open("models")
    assert studio.page.locator("#models-list").evaluate(LET_GO) == [True, True]
    # A field that takes files takes them itself.
    assert studio.page.locator("#model-file").evaluate(LET_GO) == [False, False]


def test_several_zips_are_refused_before_they_are_sent(studio: Studio, tmp_path: Path) -> None:
    zips = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for path in zips:
        path.write_bytes(b"PK\x05\x06" + bytes(18))
    sent: list[str] = []
    studio.page.on("request", lambda request: sent.append(request.url) if "/api/v1/" in request.url else None)
    studio.open()
    drop(studio.page, studio.page.locator("#data-upload [data-part=zone]"), zips)
    told = "Zips are taken one at a time (seen: 2 zips, such as one.zip)."
    expect(studio.page.locator("#upload-meter")).to_contain_text(told)
    studio.go("classify")
    expect(studio.page.locator("#classify-model select")).to_be_visible()
    drop(studio.page, studio.page.locator("#classify-drop [data-part=zone]"), zips)
    expect(studio.page.locator("#classify-drop [data-part=meter]")).to_contain_text(told)
    assert not [url for url in sent if "/uploads" in url or "/files" in url]


def test_a_model_is_brought_in_once_though_its_button_is_pressed_twice(studio: Studio, tmp_path: Path) -> None:
    page = studio.page
    with api(studio.base) as http:
        before = len(http.get("/models").json()["items"])
        (tmp_path / "model.zip").write_bytes(http.get(f"/models/{models(http)['Old']}/download").content)
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method) if request.url.endswith("/models") else None)
        studio.open("models")
        page.locator("#bring-in > summary").click()
        page.locator("#model-file").set_input_files(tmp_path / "model.zip")
        page.get_by_role("button", name="Bring in this model").dblclick()
        expect(page.locator("#models-bring-in [role=status]")).to_contain_text("is here now")
        assert sent.count("POST") == 1
        assert len(http.get("/models").json()["items"]) == before + 1


def test_a_model_stays_chosen_for_the_comparison_when_the_list_changes(studio: Studio) -> None:
    page = studio.page
    studio.open("models")
    rows = page.locator("#models-list tbody tr")
    rows.filter(has_text="Old").last.get_by_role("checkbox").check()
    chosen = page.locator("#models-list input[name=compare]:checked")
    known = chosen.get_attribute("value")
    with api(studio.base) as http:
        http.delete(f"/models/{models(http)['New']}").raise_for_status()
    studio.go("data")
    studio.go("models")
    expect(rows.filter(has_text="New")).to_have_count(0)
    expect(chosen).to_have_count(1)
    expect(chosen).to_have_attribute("value", str(known))


def test_a_model_is_found_among_many_by_words_of_its_row(studio: Studio) -> None:
    page = studio.page
    with api(studio.base) as http:
        sent = http.get(f"/models/{models(http)['Old']}/download").content
        for name in ("apple", "pear", "plum", "fig", "lime", "date"):
            http.post("/models", data={"name": name}, files={"file": ("sent.zip", sent)}).raise_for_status()
    studio.open("models")
    found, rows = page.get_by_label("Find a model"), page.locator("#models-list tbody tr:visible")
    expect(rows.first).to_be_visible()
    everything = rows.count()
    found.fill("LAYER plum")
    expect(rows).to_have_count(1)
    expect(page.locator("#models-list [role=status]")).to_have_text(f"1 of {everything} models")
    rows.locator("input[name=compare]").check()
    found.fill("no such")
    expect(rows).to_have_count(0)
    found.fill("")
    expect(rows).to_have_count(everything)
    expect(page.locator("#models-list input[name=compare]:checked")).to_have_count(1)


def test_a_data_set_that_another_window_deleted_is_said_to_be_gone(studio: Studio, watch: Watch) -> None:
    watch.refusals_expected = True
    page = studio.page
    studio.open()
    shown = page.locator("#data-detail article")
    gone = shown.get_attribute("data-dataset")
    with api(studio.base) as http:
        http.delete(f"/datasets/{gone}").raise_for_status()
    page.locator("#data-images .chip").last.click()
    expect(page.locator("#data-detail")).to_contain_text("The data set that was shown here is no longer here")
    expect(shown).not_to_have_attribute("data-dataset", str(gone))
    page.locator("#data-list").get_by_role("button", name="Delete Set").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#data-list li")).to_have_count(2)
    expect(page.locator("#data-detail")).not_to_contain_text("no longer here")
