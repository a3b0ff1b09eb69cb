"""Sex and age of DICOM headers, from an upload to the rows of a model's review; and nothing of them without consent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.door import holds_raw
from tests.backend.support import API, Studio, serve, settings_for, wait_until
from tests.backend.test_no_identifier_is_written import dicom


def scans(start: int) -> dict[str, bytes]:
    """Sixteen patients a class; of each class one half women of 30 to 37, the other men of 71 to 78."""
    return {
        f"s/{name}/{n}.dcm": dicom(
            start + n + 50 * (name == "b"), coarse=name == "a", PatientSex="FM"[n // 8],
            PatientAge=f"0{30 + n if n < 8 else 63 + n}Y",
        )
        for name in "ab" for n in range(16)
    }  # fmt: skip


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server, and its folders of data set and model with and without consent, by model id."""
    settings = settings_for(tmp_path_factory.mktemp("traits") / "data")
    with serve(settings) as client:
        studio, made = Studio(client), {}
        for start, band in ((0, "5"), (200, "")):
            dataset = studio.ready(scans(start), age_band=band)
            job = studio.ended(studio.train(dataset["id"], method="linear-probe", epochs=1, bootstrap=20)["id"])
            assert job["state"] == "succeeded", job
            folder = settings.data_dir / "datasets" / dataset["id"]
            wait_until(lambda folder=folder: not holds_raw(folder))
            made[bool(band)] = (job["model_id"], folder, settings.data_dir / "models" / job["model_id"])
        yield studio, made


def test_with_consent_a_models_review_has_rows_by_sex_and_by_age_band(studies: Any) -> None:
    studio, made = studies
    model_id, folder, run = made[True]
    items = json.loads((folder / "catalogue.json").read_text())["items"]
    assert {(item["sex"], item["age"]) for item in items} == {("F", 30.0), ("F", 35.0), ("M", 70.0), ("M", 75.0)}
    found = studio.http.get(f"{API}/models/{model_id}/evaluation").json()
    for trait, values in (("sex", ["F", "M"]), ("age", ["18 to 39 years", "65 years and over"])):
        rows = found["subgroups"][trait]["rows"]
        assert [row["value"] for row in rows] == values
        assert sum(row["n_images"] for row in rows) == found["n_images"] and found["subgroups"][trait]["unknown"] == 0
    assert "| 65 years and over |" in (run / "card.md").read_text()
    assert (run / "predictions.csv").read_text().splitlines()[0].endswith("patient,sex,age")


def test_without_consent_nothing_of_it_is_in_the_review_or_in_any_file(studies: Any) -> None:
    studio, made = studies
    model_id, folder, run = made[False]
    assert studio.http.get(f"{API}/models/{model_id}/evaluation").json()["subgroups"] is None
    items = json.loads((folder / "catalogue.json").read_text())["items"]
    assert {(item["sex"], item["age"]) for item in items} == {(None, None)}
    assert not (run / "predictions.csv").read_text().splitlines()[0].endswith("age")
    written: list[Path] = [path for top in (folder, run) for path in top.rglob("*") if path.is_file()]
    ages = [f"0{age}Y".encode() for age in (*range(30, 38), *range(71, 79))]
    assert len(written) > 40 and not [path for path in written if any(age in path.read_bytes() for age in ages)]
