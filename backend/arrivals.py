"""What an upload is: the folder or zip in it, its table of labels, its name, and whether it was here before."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from backend.storage import write_atomically
from wara.data.catalogue import Catalogue, read_catalogue, require_trainable
from wara.data.folders import is_disc_index
from wara.data.grids import is_table_name
from wara.data.sources import Source, open_source
from wara.errors import InputError
from wara.imaging import is_image_name, is_raster_name
from wara.imaging.deidentify import Consent

LABELS_FOLDER = "labels"
# Folders of one patient each may well be no classes at all.
UNKNOWN_LABELS = frozenset(
    {"no-classes", "one-class", "too-few-patients", "csv-column-missing", "csv-column-twice", "csv-files-missing"}
)


def read_band(written: str) -> int | None:
    """Return the width of the bands of ages that may be kept, as a form writes it: "5" or "10"; None for "".

    Raises:
        InputError: another width; code "age-band".
    """
    text = written.strip()
    if not text:
        return None
    return Consent(True, int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else -1).years


def list_upload(staging: Path, source: str, labels: str | None) -> Catalogue:
    """List an upload's images with their classes.

    Raises:
        InputError: it cannot be trained on, or its labels cannot be told (see ``labels_are_unknown``).
    """
    with open_source(staging / source) as opened:
        labels_file = None
        if labels is not None:
            # A copy under a path of our own: the name comes from outside and must never be opened as it is.
            labels_file = staging / LABELS_FOLDER / PurePosixPath(labels).name
            labels_file.parent.mkdir(exist_ok=True)
            write_atomically(labels_file, _labels_bytes(opened, staging, labels))
        catalogue = read_catalogue(opened, labels_file)
    require_trainable(catalogue)
    return catalogue


def count_images(folder: Path, source: str) -> int:
    """Return how many files of an upload may be images, by their names."""
    with open_source(folder / source) as opened:
        return sum(is_image_name(name) and not is_disc_index(name) for name in opened.names())


def labels_are_unknown(error: InputError, staging: Path, source: str) -> bool:
    """Whether the images may well be good and only their labels stand elsewhere: a person can then say where."""
    if error.code in UNKNOWN_LABELS:
        return True
    if error.code != "class-too-small":
        return False
    # A folder for each patient looks like classes of one image; a table beside them says that they are none, and
    # headers may.
    with open_source(staging / source) as opened:
        names = opened.names()
    return any(is_table_name(name) for name in names) or not any(is_raster_name(name) for name in names)


def _labels_bytes(source: Source, staging: Path, labels: str) -> bytes:
    # The browser's path begins with the chosen folder's name, which a source leaves out when it wraps everything.
    for candidate in (labels, labels.partition("/")[2]):
        if candidate and candidate in source:
            return source.read(candidate)
    beside = staging / "files" / labels
    if beside.is_file():
        return beside.read_bytes()
    raise InputError(
        "The upload does not hold the CSV named as its labels",
        seen=labels,
        remedy="Give the CSV's path inside the uploaded folder, or leave the field empty.",
        code="labels-missing",
    )


def source_of(manifest: list[dict[str, Any]], labels: str | None) -> str:
    """Return what to open, relative to the upload: the one zip it consists of, or the folder."""
    names = [entry["name"] for entry in manifest if entry["name"] != labels]
    if len(names) == 1 and names[0].lower().endswith(".zip"):
        return f"files/{names[0]}"
    return "files"


def content_digest(manifest: list[dict[str, Any]], labels: str | None, owner_id: str | None) -> str:
    """Return a hash of all names and contents, the same for the same folder under another name.

    Of two owners' equal folders it differs: nobody is to learn what another has.

    Args:
        manifest: of the upload.
        labels: its table of labels, if it named one.
        owner_id: who owns the data set, whoever finishes its upload.
    """
    tops = {entry["name"].partition("/")[0] for entry in manifest}
    wrapped = len(tops) == 1 and all("/" in entry["name"] for entry in manifest)
    lines = sorted(
        f"{entry['name'].partition('/')[2] if wrapped else entry['name']}\n{entry['digest']}" for entry in manifest
    )
    if len(lines) == 1:  # a zip by another name is the same zip
        lines = [manifest[0]["digest"]]
    whole = json.dumps([lines, labels, *filter(None, [owner_id])])
    return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()


def clean_name(name: str) -> str:
    """Return a name as one short printable line."""
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())[:120]


def name_of(manifest: list[dict[str, Any]]) -> str:
    """Return the name that an upload has of itself: its folder's, or its zip's."""
    first = PurePosixPath(manifest[0]["name"])
    if len(first.parts) > 1:
        return clean_name(first.parts[0]) or "Data set"
    return clean_name(first.stem) if len(manifest) == 1 else "Data set"


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number behind it where it is taken."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name} ({number})", number + 1
    return candidate
