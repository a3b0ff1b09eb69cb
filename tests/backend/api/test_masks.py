"""Text in the picture over HTTP: found, shown, covered in the stored files for good, or looked at and accepted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pydicom
from PIL import Image, ImageDraw, ImageFont
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from backend.settings import Settings
from backend.thumbnails import THUMBNAILS_FILE
from tests.backend.support import API, Studio, assert_problem, make_zip, png, study

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def named(seed: int, size: tuple[int, int] = (240, 160)) -> bytes:
    """A soft picture with a name at its upper border."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    blob = 40 + 120 * np.exp(-(((columns - size[0] / 2) / 60) ** 2) - ((rows - size[1] / 2) / (40 + seed)) ** 2)
    image = Image.fromarray(blob.astype(np.uint8))
    ImageDraw.Draw(image).text((6, 6), "DOE JANE", font=ImageFont.truetype(str(FONT), 16), fill=240)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def with_names() -> dict[str, bytes]:
    """Twelve images of either class, and four with a name, one of another size."""
    images = study(12)
    for number in range(3):
        images[f"study/fine/named_{number}.png"] = named(number)
    return images | {"study/coarse/named_9.png": named(9, (300, 160))}


def report_of(studio: Studio, dataset: dict[str, Any]) -> dict[str, Any]:
    return studio.http.get(f"{API}/datasets/{dataset['id']}/report").json()


def finding_of(studio: Studio, dataset: dict[str, Any]) -> dict[str, Any] | None:
    return next((f for f in report_of(studio, dataset)["findings"] if f["kind"] == "text"), None)


def flagged(studio: Studio, dataset: dict[str, Any]) -> list[dict[str, Any]]:
    return studio.http.get(f"{API}/datasets/{dataset['id']}/text").json()["items"]


def cover(studio: Studio, dataset: dict[str, Any], number: int, scope: str = "image", **box: int) -> Any:
    order = {"image": number, "rectangles": [{"left": 0, "top": 0, "right": 110, "bottom": 28} | box], "scope": scope}
    return studio.http.post(f"{API}/datasets/{dataset['id']}/masks", json=order)


def file_of(settings: Settings, dataset: dict[str, Any], name: str) -> Path:
    return settings.data_dir / "datasets" / dataset["id"] / "clean" / name


def test_names_in_pictures_are_a_finding_with_its_images_and_where_they_stand(studio: Studio) -> None:
    dataset = studio.ready(with_names())
    finding = finding_of(studio, dataset)
    assert finding is not None and finding["sentence"].startswith("4 images in which text may stand, perhaps a name.")
    assert [fix["fix"] for fix in finding["fixes"]] == ["accept", "drop"]
    items = flagged(studio, dataset)
    assert [(item["file"], item["same_size"]) for item in items] == [
        ("coarse/named_9.png", 1), ("fine/named_0.png", 3), ("fine/named_1.png", 3), ("fine/named_2.png", 3),
    ]  # fmt: skip
    place = f"{API}/datasets/{dataset['id']}/images/{items[1]['number']}"
    text = studio.http.get(f"{place}/text").json()
    assert (text["width"], text["height"]) == (240, 160)
    [box] = text["rectangles"]
    assert box["left"] <= 7 and 80 < box["right"] < 110 and box["top"] <= 8 and 20 <= box["bottom"] <= 36
    view = studio.http.get(items[1]["url"])
    assert view.headers["content-type"] == "image/png" and view.headers["cache-control"] == "private, no-store"
    assert Image.open(io.BytesIO(view.content)).size == (240, 160)


def test_what_is_covered_is_gone_from_file_thumbnail_view_and_report(studio: Studio, settings: Settings) -> None:
    dataset = studio.ready(with_names())
    before = report_of(studio, dataset)
    item = flagged(studio, dataset)[1]
    path = file_of(settings, dataset, "fine/named_0.png")
    content, pixels = path.read_bytes(), np.asarray(Image.open(path))
    thumbnail = f"{API}/datasets/{dataset['id']}/images/{item['number']}/thumbnail"
    shown = studio.http.get(thumbnail).content
    kept = settings.data_dir / "datasets" / dataset["id"] / THUMBNAILS_FILE
    # A picture lies in pages; what stands in its middle stands in one.
    part = shown[len(shown) // 2 :][:64]
    assert part in kept.read_bytes()
    answer = cover(studio, dataset, item["number"])
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"images": 1, "refused": []}
    after = np.asarray(Image.open(path))
    assert after[:28, :110].max() == 0
    np.testing.assert_array_equal(after[28:], pixels[28:])
    assert [entry["file"] for entry in flagged(studio, dataset)][1] == "fine/named_1.png"
    assert studio.http.get(thumbnail).content != shown
    # Nowhere in the data folder is another copy of it.
    assert not [p for p in settings.data_dir.rglob("*") if p.is_file() and p.read_bytes() in (content, shown)]
    assert part not in kept.read_bytes()
    report = report_of(studio, dataset)
    [mask] = report["masks"]
    assert (mask["images"], mask["rectangles"], mask["size"]) == (1, [[0, 0, 110, 28]], [240, 160])
    assert report["fingerprint"] != before["fingerprint"]
    assert [(d["finding"], d["fix"], d["images"]) for d in report["decisions"]] == [("text", "mask", 1)]
    undone = studio.http.delete(f"{API}/datasets/{dataset['id']}/decisions/0")
    assert_problem(undone, 409, "mask-final")
    assert (report["images"], report["splits"]) == (before["images"], before["splits"])


def test_all_flagged_images_of_a_size_are_covered_at_once_and_others_are_left_alone(
    studio: Studio, settings: Settings
) -> None:
    dataset = studio.ready(with_names())
    other = file_of(settings, dataset, "coarse/named_9.png").read_bytes()
    number = flagged(studio, dataset)[2]["number"]
    assert cover(studio, dataset, number, "same-size").json() == {"images": 3, "refused": []}
    for place in range(3):
        assert np.asarray(Image.open(file_of(settings, dataset, f"fine/named_{place}.png")))[:28, :110].max() == 0
    assert [entry["file"] for entry in flagged(studio, dataset)] == ["coarse/named_9.png"]
    assert file_of(settings, dataset, "coarse/named_9.png").read_bytes() == other


def test_where_text_is_still_seen_in_an_image_that_nobody_saw_it_stays_flagged(studio: Studio) -> None:
    dataset = studio.ready(with_names())
    number = flagged(studio, dataset)[1]["number"]
    assert cover(studio, dataset, number, "same-size", top=100, bottom=120).json()["images"] == 3
    assert [entry["file"] for entry in flagged(studio, dataset)] == [
        "coarse/named_9.png", "fine/named_1.png", "fine/named_2.png",
    ]  # fmt: skip


def test_a_person_who_has_looked_ends_the_finding_and_may_take_it_back(studio: Studio) -> None:
    dataset = studio.ready(with_names())
    before = report_of(studio, dataset)
    made = studio.http.post(f"{API}/datasets/{dataset['id']}/decisions", json={"finding": "text", "fix": "accept"})
    assert [(d["finding"], d["fix"], d["images"]) for d in made.json()["items"]] == [("text", "accept", 4)]
    after = report_of(studio, dataset)
    assert finding_of(studio, dataset) is None and flagged(studio, dataset) == []
    assert (after["images"], after["fingerprint"]) == (before["images"], before["fingerprint"])
    studio.http.delete(f"{API}/datasets/{dataset['id']}/decisions/0")
    assert report_of(studio, dataset) == before


def test_what_cannot_be_covered_is_refused_in_a_sentence(studio: Studio, settings: Settings) -> None:
    dataset = studio.ready(with_names())
    number = flagged(studio, dataset)[1]["number"]
    content = file_of(settings, dataset, "fine/named_0.png").read_bytes()
    assert_problem(cover(studio, dataset, number, left=240, right=260), 422, "mask-rectangle")
    assert_problem(cover(studio, dataset, number, left=-1), 422, "field-invalid")
    assert_problem(cover(studio, dataset, number, "everything"), 422, "field-invalid")
    assert_problem(cover(studio, dataset, 999), 404, "image-not-found")
    assert_problem(cover(studio, {"id": "none"}, 0), 404, "data-set-not-found")
    assert_problem(studio.http.get(f"{API}/datasets/{dataset['id']}/images/999/view"), 404, "image-not-found")
    assert_problem(studio.http.get(f"{API}/datasets/{dataset['id']}/images/999/text"), 404, "image-not-found")
    assert file_of(settings, dataset, "fine/named_0.png").read_bytes() == content
    assert report_of(studio, dataset)["masks"] == []


def test_nothing_is_covered_while_a_training_uses_the_images(studio: Studio) -> None:
    dataset = studio.ready(with_names())
    number = flagged(studio, dataset)[1]["number"]
    assert cover(studio, dataset, number).status_code == 201
    job = studio.train(dataset["id"], epochs=1)
    assert_problem(cover(studio, dataset, number), 409, "dataset-in-use")
    ended = studio.ended(job["id"])
    assert ended["state"] == "succeeded", ended
    card = studio.http.get(f"{API}/models/{ended['model_id']}/card").text
    assert "1 image masked where text stood in the picture (text)" in card
    assert cover(studio, dataset, number).status_code == 201


def test_images_inside_a_zip_are_refused_or_lie_in_a_folder_by_now(studio: Studio) -> None:
    packed = make_zip({name.removeprefix("study/"): data for name, data in with_names().items()})
    dataset = studio.ready({"study.zip": packed})
    answer = cover(studio, dataset, flagged(studio, dataset)[1]["number"])
    if answer.status_code != 201:
        assert_problem(answer, 409, "mask-zip")


def test_flagged_images_can_be_left_out(studio: Studio) -> None:
    dataset = studio.ready(with_names() | {"study/fine/last.png": png(77)})
    made = studio.http.post(f"{API}/datasets/{dataset['id']}/decisions", json={"finding": "text", "fix": "drop"})
    assert made.status_code == 201
    assert report_of(studio, dataset)["images"] == 25
    assert flagged(studio, dataset) == []


def ultrasound(seed: int) -> bytes:
    """A DICOM file with one ultrasound region, colours as RGB, and a band of noise above it."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(30, 220, (100, 140, 3), dtype=np.uint8)
    region = pydicom.Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 139, 99
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UltrasoundImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(seed)])
    dataset.Modality, dataset.PatientID, dataset.SequenceOfUltrasoundRegions = "US", f"P{seed}", [region]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PlanarConfiguration = 100, 140, 3, 0
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_what_lies_outside_ultrasound_regions_is_suggested_and_covered(studio: Studio, settings: Settings) -> None:
    files = {f"study/{name}/{n}.dcm": ultrasound(n + 10 * place) for place, name in enumerate("ab") for n in range(4)}
    dataset = studio.ready(files)
    finding = finding_of(studio, dataset)
    assert finding is not None and finding["groups"][0]["note"].startswith("ultrasound")
    items = flagged(studio, dataset)
    assert [item["same_size"] for item in items] == [8] * 8
    text = studio.http.get(f"{API}/datasets/{dataset['id']}/images/{items[0]['number']}/text").json()
    assert text["rectangles"] == [{"left": 0, "top": 0, "right": 140, "bottom": 20}]
    assert cover(studio, dataset, items[0]["number"], "same-size", right=140, bottom=20).json()["images"] == 8
    assert finding_of(studio, dataset) is None
    for place, name in enumerate("ab"):
        for n in range(4):
            stored = [path for path in (settings.data_dir / "datasets" / dataset["id"]).rglob("*.dcm")
                      if path.parent.name == name][n]  # fmt: skip
            pixels = pydicom.dcmread(stored).pixel_array
            assert pixels[:20].max() == 0 and pixels[20:].min() >= 30, place
