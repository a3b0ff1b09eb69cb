"""What people send never comes back as a page or a drawing that a browser would run, whatever it is called or holds."""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
from typing import Any

import pytest
from PIL import Image

from tests.backend.support import API, Studio, assert_problem, png, study

SCRIPT = b"<html><script>alert('served')</script></html>"
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert("served")</script></svg>'
HARMLESS = {
    "application/json", "application/problem+json", "application/zip", "image/png", "image/webp", "image/jpeg",
    "text/csv", "text/markdown", "text/plain", "text/event-stream", "application/octet-stream",
}  # fmt: skip
# The model card as a page: made by the program of escaped text, and shown without any right to run something.
PAGES = {"/models/{model_id}/card.html"}


def polyglot() -> bytes:
    """A sound PNG that is also a page, for whoever looks at its end."""
    return png(1) + SCRIPT


def gif_page() -> bytes:
    return b"GIF89a/*" + SCRIPT + b"*/"


def test_pages_and_drawings_among_images_are_passed_over_and_a_picture_with_a_page_in_it_comes_back_without(
    studio: Studio,
) -> None:
    sent = study(6) | {
        "study/coarse/page.html": SCRIPT, "study/coarse/drawing.svg": DRAWING, "study/coarse/drawing.png": DRAWING,
        "study/coarse/page.gif": gif_page(), "study/coarse/both.png": polyglot(),
    }  # fmt: skip
    dataset = studio.ready(sent)
    assert dataset["images"] == 13  # with both.png, of which the picture is kept
    report = studio.http.get(f"{API}/datasets/{dataset['id']}/report").json()
    named = str(report["passed_over"])
    assert all(name in named for name in ("page.html", "drawing.svg", "drawing.png", "page.gif")), named
    for item in studio.http.get(f"{API}/datasets/{dataset['id']}/images").json()["items"]:
        shown = studio.http.get(item["thumbnail"] if "thumbnail" in item else item["url"])
        assert shown.headers["content-type"] == "image/jpeg"
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert b"script" not in shown.content
        Image.open(io.BytesIO(shown.content)).verify()


def test_every_answer_about_a_model_is_of_a_harmless_type(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    paths = studio.http.get("/api/openapi.json").json()["paths"]
    known = {"model_id": job["model_id"], "dataset_id": job["dataset_id"], "job_id": job["id"]}
    seen = set()
    for path, operations in paths.items():
        names = set(re.findall(r"{(\w+)}", path))
        if "get" not in operations or not names <= known.keys() or path.endswith("/events"):
            continue
        answer = studio.http.get(path.format(**known))
        kind = answer.headers["content-type"].partition(";")[0]
        relative = path.removeprefix(API)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        if relative in PAGES:
            assert kind == "text/html" and "script-src" not in answer.headers["content-security-policy"], path
            assert "default-src 'none'" in answer.headers["content-security-policy"], path
        else:
            assert kind in HARMLESS, (path, kind)
        seen.add(kind)
    assert {"application/json", "image/png", "application/zip", "text/csv"} <= seen


@pytest.mark.parametrize("packed", [False, True], ids=["files", "zip"])
def test_names_that_differ_in_the_form_of_their_letters_alone_are_both_kept_or_one_is_named(
    studio: Studio, packed: bool
) -> None:
    one, other = (unicodedata.normalize(form, "study/coarse/é.png") for form in ("NFC", "NFD"))
    assert one != other
    files = study(6) | {one: png(100), other: png(200)}
    if packed:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        files = {"study.zip": buffer.getvalue()}
    answer = studio.upload(files)
    if answer.status_code != 201:
        assert answer.status_code == 422 and "é" in unicodedata.normalize("NFC", answer.json()["detail"])
        return
    found = studio.checked(answer.json()["id"])
    assert found["images"] + found["passed_over"] == 14, found


def test_a_table_made_on_another_system_finds_files_whose_letters_are_written_otherwise(studio: Studio) -> None:
    files = {f"pictures/é_{number}.png": png(number, coarse=number % 2 == 0) for number in range(12)}
    rows = ["file,label"] + [
        f"{unicodedata.normalize('NFD', name.removeprefix('pictures/'))},{'ab'[number % 2]}"
        for number, name in enumerate(files)
    ]
    files["pictures/labels.csv"] = ("\n".join(rows) + "\n").encode()
    found = studio.ready(files)
    assert found["images"] == 12 and {item["name"] for item in found["classes"]} == {"a", "b"}


@pytest.mark.parametrize("name", ["a\u202egnp.exe.png", "a\u2066b.png"])
def test_a_name_that_is_shown_as_another_than_it_is_is_refused(studio: Studio, name: str) -> None:
    answer = studio.upload(study(6) | {f"study/coarse/{name}": png(300)})
    assert_problem(answer, 422, "unsafe-name")
