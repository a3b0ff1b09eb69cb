"""Names are planted wherever a file can hold them; afterwards every byte that the server wrote or said is searched."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from app.components.dataset import render_dataset
from app.pages import data
from backend.door import holds_raw
from backend.settings import Settings
from tests.backend.support import API, Studio, as_form, make_zip, png, serve, wait_until
from tests.backend.tus.support import Sender, packed
from tests.wara.data.test_grids import workbook

MRN = "88124070{:02d}"
SECRETS = ("Plantagenet", "Eleanora", "88124070", "19510203", "1951-02-03", "20190607", "ACC-5512", "Privatus",
           "Coordinatus", "Commentus", "1.2.826.77.4711", "Lackland", "Bouvines")  # fmt: skip
IMAGES = 8


def dicom(number: int, *, coarse: bool, **values: Any) -> bytes:
    texture = np.asarray(Image.open(io.BytesIO(png(number, coarse=coarse))))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.77.4711.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.77.4711.1000", "1.2.826.77.4711.1001"
    dataset.PatientName, dataset.PatientID = "Plantagenet^Eleanora", MRN.format(number)
    dataset.PatientBirthDate, dataset.StudyDate, dataset.AccessionNumber = "19510203", "20190607", "ACC-5512"
    dataset.InstitutionName, dataset.OperatorsName = "Bouvines", "Lackland^John"
    dataset.private_block(0x0009, "Privatus", create=True).add_new(0x01, "LO", "Plantagenet")
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "DX", "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = texture.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = texture.tobytes()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def raster(number: int, *, coarse: bool) -> bytes:
    image, buffer = Image.open(io.BytesIO(png(number, coarse=coarse))), io.BytesIO()
    if number % 4:
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", "Commentus Plantagenet")
        image.save(buffer, "PNG", pnginfo=text)
    else:
        exif = Image.Exif()
        exif[0x013B] = "Plantagenet"
        exif.get_ifd(0x8825)[29] = "Coordinatus"
        image.save(buffer, "JPEG", exif=exif, comment=b"Commentus")
    return buffer.getvalue()


def planted() -> dict[str, bytes]:
    """Two classes, half DICOM, half pictures; names in headers, private tags, EXIF, texts, files and folders."""
    files = {}
    for label in ("coarse", "fine"):
        for number in range(IMAGES):
            patient, coarse = number + (50 if label == "fine" else 0), label == "coarse"
            if number % 2:
                name = f"{MRN.format(patient)}.dcm" if number % 3 else "Eleanora/image.dcm"
                files[f"study/{label}/{number}/{name}"] = dicom(patient, coarse=coarse)
            else:
                name = "Lackland.jpg" if number == 4 else f"scan.{'png' if patient % 4 else 'jpg'}"
                files[f"study/{label}/{number}/{name}"] = raster(patient, coarse=coarse)
    return files | {"study/notes Plantagenet.txt": b"Plantagenet", "study/coarse/broken.png": b"Plantagenet was here"}


def table(files: dict[str, bytes], header: str = "file;label;Patient") -> list[list[str]]:
    rows = [[*header.split(";"), "Name", "born", "site"]]
    for index, name in enumerate(sorted(files)):
        parts = name.split("/")
        if parts[1] in ("coarse", "fine"):
            rows.append(["/".join(parts[1:]), parts[1], MRN.format(index), "Plantagenet, Eleanora", "1951-02-03", "A"])
    return rows


def as_csv(rows: list[list[str]]) -> bytes:
    return "\r\n".join(";".join(row) for row in rows).encode()


class Witness:
    """Keeps what a server said: addresses, headers and bodies of every answer."""

    def __init__(self, client: Any) -> None:
        self.said: list[tuple[str, bytes]] = []
        self._send = client.send
        client.send = self._heard

    def _heard(self, request: Any, **options: Any) -> Any:
        answer = self._send(request, **options)
        answer.read()
        self.said.append((str(answer.url), str(answer.headers).encode() + answer.content))
        return answer


def contents(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the data, and what is inside where it is a zip."""
    yield name, data
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                yield f"{name}!{member.filename}", archive.read(member) + member.extra + member.comment


def found(name: str, data: bytes) -> list[str]:
    hits = []
    for place, part in contents(name, data):
        part, place_bytes = part.lower(), place.lower().encode()
        for secret in SECRETS:
            forms = (secret.lower().encode(), secret.lower().encode("utf-16-le"))
            hits += [f"{secret} in {place}" for form in forms if form in part or form in place_bytes]
    return hits


def assert_nothing_planted(folder: Path, said: list[tuple[str, bytes]], log: str) -> None:
    written = list(folder.rglob("*"))
    assert len(written) > 10 and len(said) > 3
    hits: list[str] = []
    for path in written:
        hits += found(path.relative_to(folder).as_posix(), path.read_bytes() if path.is_file() else b"")
    for address, body in said:
        hits += found(address, body)
    assert hits + found("log", log.encode()) == []


def raw_is_gone(settings: Settings, dataset_id: str) -> None:
    wait_until(lambda: not holds_raw(settings.data_dir / "datasets" / dataset_id))


def look_at_everything(studio: Studio, dataset_id: str) -> bytes:
    """Ask for all that is told of a data set; return the page that shows it."""
    base = f"{API}/datasets/{dataset_id}"
    report = studio.http.get(f"{base}/report").json()
    images = studio.http.get(f"{base}/images", params={"limit": 100}).json()
    for item in images["items"]:
        assert studio.http.get(item["url"]).status_code == 200
    assert studio.http.get(f"{base}/arrived").status_code == 200
    assert studio.http.post(f"{base}/mapping/preview", json=None).status_code == 200
    dataset, choice = studio.dataset(dataset_id), {"cls": None, "offset": 0}
    html = data.render_list([dataset], dataset_id) + render_dataset(dataset, report, images, choice)
    assert "passed over" in html
    return html.encode()


def test_the_search_finds_what_is_planted() -> None:
    files = planted()
    assert all(found(name, content) for name, content in files.items())
    assert found("x", make_zip({"a": files["study/notes Plantagenet.txt"]})) and found("x/Eleanora", b"")


def test_from_upload_to_download_no_planted_identifier_is_written_or_said(
    settings: Settings, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    files = planted()
    with serve(settings) as client:
        witness, studio = Witness(client), Studio(client)
        dataset = studio.ready(files | {"study/labels.csv": as_csv(table(files))})
        raw_is_gone(settings, dataset["id"])
        report = client.get(f"{API}/datasets/{dataset['id']}/report").json()
        assert (report["images"], report["patients"]) == (2 * IMAGES, 2 * IMAGES)
        reasons = {entry["reason"] for entry in report["passed_over"]["list"]}
        assert reasons == {"The file is a text file, not an image", "not an image of a kind that is read (.txt)"}
        page = look_at_everything(studio, dataset["id"])
        job = studio.ended(studio.train(dataset["id"], epochs=1)["id"])
        assert job["state"] == "succeeded", job
        model = f"{API}/models/{job['model_id']}"
        new = {f"Eleanora/{MRN.format(70)}.dcm": dicom(70, coarse=True), "text.dcm": b"Plantagenet"}
        for form in ("json", "csv"):
            assert client.post(f"{model}/predict", params={"format": form}, files=as_form(new)).status_code == 200
        zipped = as_form({"Plantagenet.zip": make_zip(new)})
        assert client.post(f"{model}/predict", files=zipped).status_code == 200
        for part in ("card", "download", "figures", "evaluation"):
            assert client.get(f"{model}/{part}").status_code == 200, part
        client.get(f"{API}/jobs/{job['id']}/events")
    output = capfd.readouterr()
    assert_nothing_planted(settings.data_dir, [*witness.said, ("page", page)], caplog.text + output.out + output.err)


def test_a_zip_with_names_inside_and_outside_holds_none_either(
    studio: Studio, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    witness = Witness(studio.http)
    files = planted()
    dataset = studio.ready({"Plantagenet_Eleanora.zip": make_zip(files)})
    raw_is_gone(settings, dataset["id"])
    before = len(witness.said)  # until it was checked the sender was told the name of the zip that was sent
    assert studio.dataset(dataset["id"])["name"] == "Data set"
    page = look_at_everything(studio, dataset["id"])
    listed = studio.http.get(f"{API}/datasets").json()["items"]
    assert [entry["images"] for entry in listed] == [2 * IMAGES]
    assert_nothing_planted(settings.data_dir, [*witness.said[before:], ("page", page)], caplog.text)


def test_a_resumable_upload_with_a_workbook_and_labels_that_a_person_points_at_holds_none(
    studio: Studio, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    files = planted()
    rows = table(files, "Scan;Diagnosis;MRN")
    files = {name.replace("/coarse/", "/all/").replace("/fine/", "/all/f"): content for name, content in files.items()}
    for row in rows[1:]:
        row[0] = row[0].replace("coarse/", "all/").replace("fine/", "all/f")
    files["study/Plantagenet.xlsx"] = workbook(all=rows)
    sender = Sender(studio, settings.data_dir)
    dataset_id = sender.dataset()
    sender.send(dataset_id, packed(files))
    assert sender.finish(dataset_id).json()["status"] == "mapping"
    witness = Witness(studio.http)
    # What a person is shown to choose by are names of columns and files; of patients there are no samples.
    mapping = {"source": "table", "table": "Plantagenet.xlsx",
               "columns": {"file": "Scan", "label": "Diagnosis", "patient": "MRN"}}  # fmt: skip
    answer = studio.http.put(f"{API}/datasets/{dataset_id}/mapping", json=mapping)
    assert answer.status_code == 202, answer.text
    ready = studio.checked(dataset_id)
    assert (ready["status"], ready["images"]) == ("ready", 2 * IMAGES)
    raw_is_gone(settings, dataset_id)
    page = look_at_everything(studio, dataset_id)
    said = studio.http.post(f"{API}/datasets/{dataset_id}/mapping/preview", json=None).json()["mapping"]
    assert said["columns"] == mapping["columns"] and said["table"].endswith(".csv")
    assert studio.http.put(f"{API}/datasets/{dataset_id}/mapping", json=said).status_code == 202
    assert studio.checked(dataset_id)["images"] == 2 * IMAGES
    assert_nothing_planted(settings.data_dir, [*witness.said, ("page", page)], caplog.text)
