"""How good a model is, in a real browser: images behind the matrix, another operating point, two models compared."""

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e import axe
from tests.e2e.support import TRAINING_MS, Studio, Watch, artefacts, draw, running_server

A_CLASS = 48
PROBE, WHOLE = "Last layer of rings", "Whole network of rings"


@dataclass
class Trained:
    """Two models of one data set: their ids by name, and which test images are filed under the wrong class."""

    http: httpx.Client
    ids: dict[str, str]
    misfiled: list[str]

    def evaluation(self, name: str, criterion: str | None = None) -> dict:
        params = {"criterion": criterion} if criterion else {}
        return self.http.get(f"/models/{self.ids[name]}/evaluation", params=params).raise_for_status().json()


def films(folder: Path) -> tuple[bytes, list[str]]:
    """Two images a patient, half of the patients for training; one patient of validation and of test is misfiled."""
    rows, misfiled = ["file,label,patient,split,sex"], []
    paths = draw(folder / "images", {"narrow": A_CLASS, "wide": A_CLASS})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for place, path in enumerate(paths):
            number, name = place % A_CLASS, path.relative_to(folder).as_posix()
            side = "train" if number < 24 else "val" if number < 36 else "test"
            label = path.parent.name
            if number // 2 in (12, 18):
                label = "wide" if label == "narrow" else "narrow"
                misfiled += [name] if side == "test" else []
            rows.append(f"{name},{label},{path.parent.name}{number // 2},{side},{'FM'[number // 2 % 2]}")
            archive.write(path, name)
        archive.writestr("labels.csv", "\n".join(rows))
    return buffer.getvalue(), misfiled


def settled(http: httpx.Client, path: str, key: str, wanted: str) -> dict:
    end = time.monotonic() + TRAINING_MS / 1000
    while (answer := http.get(path).json())[key] != wanted:
        assert answer[key] != "failed" and time.monotonic() < end, json.dumps(answer)
        time.sleep(0.1)
    return answer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("models")) as address:
        yield address


@pytest.fixture(scope="module")
def trained(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Both models, trained once for the whole module."""
    content, misfiled = films(tmp_path_factory.mktemp("rings"))
    with httpx.Client(base_url=f"{base}/api/v1", timeout=300, trust_env=False) as http:
        dataset = http.post("/datasets", files={"files": ("rings.zip", content)}).json()["id"]
        settled(http, f"/datasets/{dataset}", "status", "ready")
        backbone = next(item["id"] for item in http.get("/backbones").json()["items"] if item["available"])
        jobs = {}
        for name, method, epochs in ((PROBE, "linear-probe", 4), (WHOLE, "full", 2)):
            order = {"dataset_id": dataset, "method": method, "backbone": backbone, "preset": "quick", "name": name}
            order["recipe"] = {"epochs": epochs, "batch_size": 8, "image_size": 64}
            jobs[name] = http.post("/jobs", json=order).raise_for_status().json()["id"]
        ids = {name: settled(http, f"/jobs/{job}", "state", "succeeded")["model_id"] for name, job in jobs.items()}
        yield Trained(http, ids, misfiled)


def opened(studio: Studio, name: str) -> Page:
    """Open the results of a model."""
    studio.open("models")
    row = studio.page.locator("#models-list tbody tr", has_text=name)
    row.get_by_role("button", name="Results").click()
    expect(studio.page.locator("#results-head h2")).to_have_text(f"How good is {name}?")
    expect(studio.page.locator("#results-head h2")).to_be_focused()
    return studio.page


def matrix(page: Page) -> list[list[int]]:
    rows = page.locator("table.confusion tbody tr").all()
    return [[int(re.match(r"\d+", cell.inner_text())[0]) for cell in row.locator("td").all()] for row in rows]


def captions(box: Locator) -> list[str]:
    box.locator("details > summary").evaluate_all("all => all.forEach(one => { one.parentElement.open = true; })")
    return [str(name.get_attribute("title")) for name in box.locator("figcaption b").all()]


def test_a_cell_of_the_matrix_opens_its_images_by_mouse_and_by_keyboard(studio: Studio, trained: Trained) -> None:
    known = trained.evaluation(PROBE)
    page = opened(studio, PROBE)
    assert matrix(page) == known["confusion"]["matrix"]
    box = page.locator("#models-cell")
    for place, cell in enumerate(known["confusion"]["cells"]):
        said = f"truly {cell['label']}, called {cell['predicted']}"
        button = page.locator("table.confusion").get_by_role("button", name=said)
        if place % 2:
            button.click()
        else:
            button.focus()
            page.keyboard.press("Enter")
        expect(box.locator("h3")).to_contain_text(said)
        expect(box.locator("h3")).to_be_focused()
        expect(button).to_have_attribute("aria-pressed", "true")
        assert captions(box) == cell["files"]
    image = box.locator("img").first
    image.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 60", arg=image.element_handle())
    box.get_by_role("button", name="Close these images").click()
    expect(box).to_have_count(0)
    assert captions(page.locator("#models-errors"))[: len(trained.misfiled)] == [
        error["file"] for error in known["confident_errors"]
    ][: len(trained.misfiled)]
    assert set(trained.misfiled) & set(captions(page.locator("#models-errors")))


def test_another_threshold_changes_matrix_and_figures_and_can_be_put_to_use(studio: Studio, trained: Trained) -> None:
    own, asked = trained.evaluation(PROBE), trained.evaluation(PROBE, "sensitivity=1")
    assert own["confusion"]["matrix"] != asked["confusion"]["matrix"]
    page = opened(studio, PROBE)
    point = page.locator("#models-point")
    expect(point).to_contain_text("chosen on the validation images")
    expect(point).to_contain_text("when the model was trained")
    expect(point.locator("tbody tr").first.locator("td").first).to_contain_text(
        f"{own['operating_point']['test']['sensitivity']['value']:.3f}"
    )
    page.locator("#point-form select").select_option("sensitivity")
    page.locator("#point-form input[name=sensitivity]").fill("100")
    page.locator("#point-form").get_by_role("button", name="Show what it would do").click()
    expect(point.locator("h3")).to_contain_text(f"{asked['operating_point']['threshold']:.3f}")
    assert matrix(page) == asked["confusion"]["matrix"]
    for row, entry in zip(point.locator("tbody tr").all(), asked["operating_point"]["test"].values(), strict=True):
        expect(row.locator("td").first).to_contain_text(
            f"{entry['value']:.3f}" if entry["value"] is not None else "–"
        )
    expect(page.locator("#models-figures tbody tr").nth(1)).to_contain_text(
        f"{asked['measured']['balanced_accuracy']['value']:.3f}"
    )

    point.get_by_role("button", name="Use this operating point").click()
    expect(point).to_contain_text("chosen after training")
    expect(point.locator("h3")).to_be_focused()
    page.locator("#results-head").get_by_role("button", name="Model card").click()
    expect(page.locator("#models-card-text")).to_contain_text("Operating point in use")
    page.get_by_role("button", name="Close the card").click()
    page.reload()
    opened(studio, PROBE)
    expect(page.locator("#point-form select")).to_have_value("sensitivity")
    assert matrix(page) == asked["confusion"]["matrix"]
    point.get_by_role("button", name="Back to the training's own").click()
    expect(point).to_contain_text("when the model was trained")
    assert matrix(page) == own["confusion"]["matrix"]
    expect(page.locator("#point-form select")).to_have_value("youden")


def test_a_rule_that_cannot_be_used_is_answered_in_a_sentence(studio: Studio, trained: Trained) -> None:
    page = opened(studio, PROBE)
    page.locator("#point-form select").select_option("cost")
    expect(page.locator("#models-point")).to_contain_text("what-if")
    page.locator("#point-form input[name=cost]").fill("much")
    page.keyboard.press("Enter")
    expect(page.locator("#results-point [role=alert]")).to_contain_text("cannot be used (seen: cost=much)")
    expect(page.locator("#point-form")).not_to_have_attribute("aria-busy", "true")


def test_a_model_is_saved_for_other_programs_under_the_name_that_the_server_gives(
    studio: Studio, trained: Trained
) -> None:
    page = opened(studio, PROBE)
    box = page.locator("#models-exports")
    assert box.locator("h4").all_inner_texts() == [
        "Model card to print", "Everything, to keep or to move", "ONNX file", "Merged weights",
    ]  # fmt: skip
    onnx = box.locator("li", has=page.get_by_role("button", name="Save ONNX file"))
    button = onnx.get_by_role("button")
    with page.expect_download(timeout=TRAINING_MS) as came:
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-busy", "true")
        expect(onnx.get_by_role("status")).to_contain_text("Making the file")
        # A change of the threshold meanwhile leaves the file in the making alone.
        page.locator("#point-form select").select_option("cost")
        expect(page.locator("#models-point")).to_contain_text("what-if")
    assert came.value.suggested_filename == "Last_layer_of_rings-onnx.zip"
    with zipfile.ZipFile(came.value.path()) as archive:
        assert {"model.onnx", "model.onnx.json", "card.md"} == set(archive.namelist())
    expect(onnx.get_by_role("status")).to_contain_text("Saved as Last_layer_of_rings-onnx.zip")
    expect(button).to_be_focused()
    expect(button).not_to_have_attribute("aria-busy", "true")

    with page.expect_download() as whole:
        box.get_by_role("link", name="Save everything").click()
    assert whole.value.suggested_filename == "Last_layer_of_rings.zip"
    with page.expect_popup() as opening:
        box.get_by_role("link", name="Open the card to print").click()
    expect(opening.value.locator("h1")).to_contain_text("Model card")
    opening.value.close()


def test_a_model_from_elsewhere_is_brought_in_by_its_zip(
    studio: Studio, watch: Watch, trained: Trained, tmp_path: Path
) -> None:
    watch.refusals_expected = True
    page = studio.page
    studio.open("models")
    field = page.locator("#bring-in")
    field.locator("summary").click()
    field.get_by_role("button", name="Bring in this model").click()
    expect(field.get_by_role("alert")).to_contain_text("No file is chosen")
    (tmp_path / "other.zip").write_bytes(films(tmp_path / "films")[0])
    field.locator("input").set_input_files(tmp_path / "other.zip")
    field.get_by_role("button", name="Bring in this model").click()
    expect(field.get_by_role("alert")).to_contain_text("This is no trained model")

    content = trained.http.get(f"/models/{trained.ids[PROBE]}/download").content
    (tmp_path / "away.zip").write_bytes(content)
    field.locator("input").set_input_files(tmp_path / "away.zip")
    field.get_by_role("button", name="Bring in this model").click()
    expect(field.get_by_role("status")).to_contain_text("is here now", timeout=TRAINING_MS)
    name = "Last_layer_of_rings"
    row = page.locator("#models-list tbody tr", has_text=name)
    expect(row).to_contain_text("imported on")
    studio.nothing_is_cut_off()
    row.get_by_role("button", name="Results").click()
    expect(page.locator("#results-head h2")).to_have_text(f"How good is {name}?")
    page.locator("table.confusion button").first.click()
    expect(page.locator("#models-cell")).to_contain_text("is on another machine")
    studio.open("classify")
    expect(page.locator("#page-classify option", has_text=name)).to_be_attached()
    [made] = [m["id"] for m in trained.http.get("/models").json()["items"] if m["name"] == name]
    trained.http.delete(f"/models/{made}").raise_for_status()


def test_an_export_that_the_server_refuses_is_a_sentence_on_the_page(
    studio: Studio, watch: Watch, trained: Trained
) -> None:
    watch.refusals_expected = True
    page = opened(studio, WHOLE)
    merged = page.locator("#models-exports li", has=page.get_by_role("button", name="Save merged weights"))
    # What a model without an adapter is told where somebody asks for one: the page itself offers none.
    button = merged.get_by_role("button")
    button.evaluate("node => { node.dataset.export = node.dataset.export.replace('merged', 'peft'); }")
    button.click()
    expect(merged.get_by_role("alert")).to_contain_text("This method has no adapter (seen: full). Export it as merged")
    expect(merged.locator("[data-part=state]")).to_be_hidden()
    expect(button).not_to_have_attribute("aria-busy", "true")
    studio.nothing_is_cut_off()


def test_two_models_are_compared_by_curves_difference_and_costs(studio: Studio, trained: Trained) -> None:
    page = studio.page
    studio.open("models")
    page.locator("#models-list").get_by_role("button", name="Compare the chosen models").click()
    expect(page.locator("#models-comparison")).to_contain_text("Choose at least two models")
    for name in (PROBE, WHOLE):
        page.get_by_role("checkbox", name=f"Compare {name}").check()
    page.locator("#models-list").get_by_role("button", name="Compare the chosen models").click()
    compared = page.locator("#compared")
    expect(compared.locator("h2")).to_have_text(f"{WHOLE} beside {PROBE}")
    params = {"a": trained.ids[WHOLE], "b": trained.ids[PROBE]}
    found = trained.http.get("/models/compare", params=params).json()
    row = compared.locator("tbody tr")
    expect(row).to_contain_text(f"{found['difference']:+.3f}")
    expect(row).to_contain_text(f"[{found['low']:+.3f}, {found['high']:+.3f}]")
    expect(row).to_contain_text("bootstrap over patients")
    expect(page.locator("#compared-curves svg[role=img] polyline.curve")).to_have_count(2)
    costs = trained.http.get("/models/compare/costs", params={"model": list(params.values())}).json()["items"]
    for line, cost in zip(page.locator("#compared-costs tbody tr").all(), costs, strict=True):
        expect(line).to_contain_text(f"{cost['trained']:,}")
        assert line.locator("td").all_inner_texts()[-2:] == [f"{cost['ppe']:.3f}", f"{cost['pme']:.3f}"]
    assert costs[0]["share"] == 1 and costs[1]["full"]["name"] == WHOLE
    studio.nothing_is_cut_off()
    compared.get_by_role("button", name="Close the comparison").click()
    expect(compared).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    browser: Browser, base: str, watch: Watch, trained: Trained, width: int, theme: str
) -> None:
    checker = axe.script()
    folder = artefacts("models")
    folder.mkdir(parents=True, exist_ok=True)
    studio = Studio(browser, base, watch, viewport={"width": width, "height": 900}, color_scheme=theme)
    page = opened(studio, PROBE)
    page.locator("table.confusion button").first.click()
    expect(page.locator("#models-cell")).to_be_visible()
    page.locator("#point-form select").select_option("cost")
    expect(page.locator("#models-point")).to_contain_text("what-if")
    page.locator("table.confusion button").first.click()
    expect(page.locator("#models-cell")).to_be_visible()
    page.locator("#models-exports [data-part=alert]").last.evaluate("node => { node.textContent = 'It is so.'; }")
    studio.nothing_is_cut_off()
    assert axe.violations(page, checker) == [], f"results, {width} px, {theme}"
    page.screenshot(path=folder / f"results-{width}-{theme}.png", full_page=True)
    for name in (PROBE, WHOLE):
        page.get_by_role("checkbox", name=f"Compare {name}").check()
    page.locator("#models-list").get_by_role("button", name="Compare the chosen models").click()
    expect(page.locator("#compared")).to_be_visible()
    expect(page.locator("#models-results")).to_be_hidden()
    studio.nothing_is_cut_off()
    assert axe.violations(page, checker) == [], f"comparison, {width} px, {theme}"
    page.screenshot(path=folder / f"comparison-{width}-{theme}.png", full_page=True)
    studio.context.close()
