"""Models over HTTP: what is told of them, downloading, classifying, the two analyses, deleting."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.backend.support import (
    API,
    Studio,
    as_form,
    assert_problem,
    dicom_without_pixels,
    jpeg,
    make_zip,
    png,
    serve,
    settings_for,
    study,
)

IMAGES = {"new/one.png": png(1000), "new/two.png": png(1001, coarse=True), "new/three.jpg": jpeg(1002)}


@pytest.fixture
def model(trained: tuple[Studio, dict[str, Any]]) -> str:
    return f"{API}/models/{trained[1]['model_id']}"


@pytest.fixture
def http(trained: tuple[Studio, dict[str, Any]]) -> Any:
    return trained[0].http


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, str]]:
    """A server with a linear probe, which has no adapter."""
    with serve(settings_for(tmp_path_factory.mktemp("plain"))) as client:
        studio = Studio(client)
        job = studio.ended(studio.train(studio.ready(study())["id"], method="linear-probe")["id"])
        assert job["state"] == "succeeded", job
        yield studio, f"{API}/models/{job['model_id']}"


def test_a_model_is_told_with_its_metrics_and_numbers(http: Any, model: str) -> None:
    found = http.get(model).json()
    assert found["classes"] == ["coarse", "fine"]
    assert found["pretrained"] is False and found["rank"] == 4 and found["seed"] == 0
    assert found["trainable_parameters"] > found["adapter_parameters"] > 0
    auroc = found["metrics"]["test"]["auroc"]
    assert auroc["low"] <= auroc["value"] <= auroc["high"]
    assert http.get(f"{API}/models").json()["items"] == [found]


def test_the_card_is_markdown_without_paths(http: Any, model: str, trained: tuple[Studio, dict[str, Any]]) -> None:
    answer = http.get(f"{model}/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text.startswith("#") and "not a medical device" in answer.text.lower()
    assert str(http.app.state.parts.settings.data_dir) not in answer.text


def test_the_card_is_a_page_to_print_too(http: Any, model: str) -> None:
    answer = http.get(f"{model}/card", params={"format": "html"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>") and "not a medical device" in answer.text
    assert answer.text.count("data:image/png;base64,") >= 4 and "<script" not in answer.text
    assert str(http.app.state.parts.settings.data_dir) not in answer.text
    assert_problem(http.get(f"{model}/card", params={"format": "pdf"}), 422, "field-invalid")


def test_the_download_is_the_whole_run_folder(http: Any, model: str) -> None:
    answer = http.get(f"{model}/download")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = {name.partition("/")[2] for name in archive.namelist()}
        top = {name.partition("/")[0] for name in archive.namelist()}
        recipe = json.loads(archive.read(f"{next(iter(top))}/recipe.json"))
    assert len(top) == 1
    for name in ("recipe.json", "split.csv", "history.csv", "metrics.json", "predictions.csv", "card.md", "card.html"):
        assert name in names
    assert any(name.startswith("adapter/") for name in names)
    assert recipe["method"] == "wara"


def test_several_images_are_classified_at_once(http: Any, model: str) -> None:
    broken = {"new/text.png": b"no image", "new/empty.dcm": dicom_without_pixels()}
    answer = http.post(f"{model}/predict", files=as_form(IMAGES | broken)).json()
    assert answer["classes"] == ["coarse", "fine"]
    assert answer["passed_over"] == 2
    items = {item["file"]: item for item in answer["items"]}
    assert list(items) == [*IMAGES, *broken]
    threshold = http.get(model).json()["metrics"]["operating_point"]["threshold"]
    for name in IMAGES:
        shares = items[name]["probabilities"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert items[name]["label"] == ("fine" if shares["fine"] >= threshold else "coarse")
        assert items[name]["error"] is None
    for name in broken:
        assert items[name]["label"] is None and items[name]["probabilities"] is None
        assert len(items[name]["error"]) > 10
    assert "SECRET" not in json.dumps(answer)


def test_the_table_of_predictions_holds_what_the_json_does(http: Any, model: str) -> None:
    files = as_form(IMAGES | {"new/text, odd.png": b"no image"})
    items = http.post(f"{model}/predict", files=files).json()["items"]
    answer = http.post(f"{model}/predict", params={"format": "csv"}, files=files)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["file"] for row in rows] == [item["file"] for item in items]
    assert float(rows[0]["probability_fine"]) == pytest.approx(items[0]["probabilities"]["fine"], abs=1e-6)
    assert rows[-1]["probability_fine"] == "" and rows[-1]["error"] == items[-1]["error"]


def test_a_zip_of_images_is_classified_without_unpacking(http: Any, model: str) -> None:
    direct = http.post(f"{model}/predict", files=as_form(IMAGES)).json()["items"]
    zipped = http.post(f"{model}/predict", files=as_form({"new.zip": make_zip(IMAGES)})).json()["items"]
    assert len(zipped) == 3
    shares = {item["file"].rpartition("/")[2]: item["probabilities"] for item in direct}
    for item in zipped:  # in another order, so in another place of the batch
        assert item["probabilities"] == pytest.approx(shares[item["file"].rpartition("/")[2]], abs=1e-2)
    assert_problem(http.post(f"{model}/predict", files=as_form({"bad.zip": b"PK no zip"})), 422, "zip-damaged")
    assert list((http.app.state.parts.settings.data_dir / "scratch").iterdir()) == []


def test_a_prediction_without_images_is_refused(http: Any, model: str) -> None:
    assert_problem(http.post(f"{model}/predict", files=[("x", (None, b"y"))]), 422, "empty-upload")
    assert_problem(http.post(f"{model}/predict"), 415, "not-multipart")
    assert_problem(http.post(f"{API}/models/none/predict", files=as_form(IMAGES)), 404, "model-not-found")


@pytest.mark.parametrize("of", ["tokens", "update"])
def test_shares_of_energy_sum_to_one(http: Any, model: str, of: str) -> None:
    data = http.get(f"{model}/analysis/subband-energy").json()
    assert data["classes"] == ["coarse", "fine"]
    for row in data["overall"][of]:
        assert sum(row) == pytest.approx(1, abs=1e-4)


def test_a_reading_in_plain_words_comes_with_the_data_and_follows_the_options(http: Any, model: str) -> None:
    energy = [
        http.get(f"{model}/analysis/subband-energy", params=options).json()["reading"]
        for options in ({}, {"of": "tokens"}, {"cls": "fine"})
    ]
    assert len(set(energy)) == 3
    assert "the class 'fine'" in energy[2]
    options = {"compare": model.rpartition("/")[2]}
    alone = http.get(f"{model}/analysis/singular-spectrum").json()["reading"]
    assert http.get(f"{model}/analysis/singular-spectrum", params=options).json()["reading"] != alone
    assert_problem(http.get(f"{model}/analysis/subband-energy?cls=other"), 422, "class-not-found")


@pytest.mark.parametrize(
    "path",
    [
        "subband-energy.png", "subband-energy.png?of=tokens&cls=fine&theme=dark", "singular-spectrum.png?theme=dark",
        "singular-spectrum.png?layer=LAYER&compare=SELF",
    ],
)  # fmt: skip
def test_both_analyses_are_drawn(http: Any, model: str, path: str) -> None:
    layer = http.get(f"{model}/analysis/singular-spectrum").json()["layers"][0]["name"]
    path = path.replace("LAYER", layer).replace("SELF", model.rpartition("/")[2])
    answer = http.get(f"{model}/analysis/{path}")
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.width > 600 and len(picture.convert("L").getcolors(256) or []) > 20


def test_one_layer_can_be_asked_for(http: Any, model: str) -> None:
    layers = http.get(f"{model}/analysis/singular-spectrum").json()["layers"]
    answer = http.get(f"{model}/analysis/singular-spectrum", params={"layer": layers[1]["name"]}).json()
    assert answer["layers"] == [layers[1]]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("subband-energy.png?cls=other", 422, "class-not-found"),
        ("subband-energy.png?of=nothing", 422, "field-invalid"),
        ("singular-spectrum.png?layer=none", 422, "layer-not-found"),
        ("singular-spectrum.png?compare=none", 404, "model-not-found"),
        ("singular-spectrum.png?theme=pink", 422, "field-invalid"),
    ],
)
def test_an_analysis_of_what_is_not_there_is_refused(http: Any, model: str, path: str, status: int, code: str) -> None:
    assert_problem(http.get(f"{model}/analysis/{path}"), status, code)


def test_the_figures_of_the_run_are_listed_and_sent(http: Any, model: str) -> None:
    figures = {figure["name"]: figure["url"] for figure in http.get(f"{model}/figures").json()["items"]}
    assert {"history", "confusion", "subband_energy", "singular_spectrum"} <= figures.keys()
    assert http.get(figures["confusion"]).content.startswith(b"\x89PNG")
    assert_problem(http.get(f"{model}/figures/..%2Frecipe.json"), 404, "not-found")
    assert_problem(http.get(f"{model}/figures/none.png"), 404, "figure-not-found")


def explain(http: Any, model: str, *images: bytes, **options: str) -> Any:
    files = [("file", (f"{place}.png", image, "image/png")) for place, image in enumerate(images)]
    return http.post(f"{model}/explain", params=options, files=files)


def test_an_image_is_explained_and_is_not_kept(http: Any, model: str) -> None:
    answer = explain(http, model, png(1000), theme="both").json()
    parts = sum(scale["contribution"] for scale in answer["scales"]) + answer["prefix"] + answer["score"]["residual"]
    assert parts == pytest.approx(answer["score"]["change"], abs=1e-4)
    assert answer["scales"][0]["name"] == "coarse"
    assert answer["label"] == answer["target"] and answer["sentence"].endswith(".")
    for theme in ("light", "dark"):
        kind, _, content = answer["figures"][theme].partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(content)[:4] == b"\x89PNG"
    assert list((http.app.state.parts.settings.data_dir / "scratch").iterdir()) == []


def test_another_class_can_be_explained_and_wrong_requests_are_refused(http: Any, model: str) -> None:
    assert explain(http, model, png(1000), cls="fine").json()["target"] == "fine"
    assert_problem(explain(http, model, png(1000), cls="other"), 422, "class-not-found")
    assert_problem(explain(http, model, png(1), png(2)), 422, "one-image")
    assert explain(http, model, b"no image").status_code == 422
    assert_problem(http.post(f"{model}/explain"), 415, "not-multipart")
    assert_problem(explain(http, f"{API}/models/none", png(1)), 404, "model-not-found")


def test_the_scales_of_each_class_are_told_with_intervals_and_drawn(http: Any, model: str) -> None:
    data = http.get(f"{model}/analysis/class-scales").json()
    assert list(data["per_class"]) == ["coarse", "fine"]
    for entry in data["per_class"].values():
        assert sum(part["share"]["value"] for part in entry["scales"]) == pytest.approx(1)
    assert "shuffled" not in data["reading"]  # said only where it was computed
    assert http.get(f"{model}/analysis/class-scales.png?theme=dark").content.startswith(b"\x89PNG")


def test_a_model_without_an_adapter_has_nothing_to_explain(plain: tuple[Studio, str]) -> None:
    studio, model = plain
    assert "linear-probe" in assert_problem(explain(studio.http, model, png(1)), 409, "no-adapter")["detail"]
    assert_problem(studio.http.get(f"{model}/analysis/class-scales"), 409, "no-adapter")


@pytest.mark.parametrize("name", ["subband-energy", "subband-energy.png", "singular-spectrum", "singular-spectrum.png"])
def test_a_model_without_an_adapter_says_so(plain: tuple[Studio, str], name: str) -> None:
    studio, model = plain
    assert "linear-probe" in assert_problem(studio.http.get(f"{model}/analysis/{name}"), 409, "no-adapter")["detail"]


def test_deleting_a_model_removes_its_folder_and_leaves_its_job(plain: tuple[Studio, str]) -> None:
    studio, model = plain
    job_id = studio.http.get(model).json()["job_id"]
    assert studio.http.post(f"{model}/predict", files=as_form(IMAGES)).status_code == 200
    parts = studio.http.app.state.parts
    assert parts.predictors.warm() == [model.rpartition("/")[2]]
    assert studio.http.delete(model).status_code == 204
    assert parts.predictors.warm() == []
    assert list((parts.settings.data_dir / "models").iterdir()) == []
    assert_problem(studio.http.get(model), 404, "model-not-found")
    assert_problem(studio.http.delete(model), 404, "model-not-found")
    assert studio.job(job_id)["state"] == "succeeded" and studio.job(job_id)["model_id"] is None


@pytest.mark.parametrize("name", ["=cmd|' -C calc'!A0.png", "+1.png", "-1.png", "@SUM(A1).png"])
def test_a_name_is_no_formula_in_the_table(trained: tuple[Studio, dict[str, Any]], name: str) -> None:
    studio, job = trained
    url = f"{API}/models/{job['model_id']}/predict"
    answer = studio.http.post(url, params={"format": "csv"}, files=as_form({name: png(1), "plain.png": b"no image"}))
    first, second = csv.DictReader(io.StringIO(answer.text))
    assert first["file"] == f"'{name}" and 0 <= float(first["probability_fine"]) <= 1
    assert second["file"] == "plain.png" and second["error"]
