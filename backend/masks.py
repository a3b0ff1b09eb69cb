"""Text in the picture: images in which it may stand, where, and the rectangles of them that are covered for good."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.catalogues import CATALOGUE_FILE, Study, describe, forget
from backend.db import Dataset
from backend.intake import Intake
from backend.problems import RequestRefused, not_found
from backend.storage import read_json, write_atomically, write_json
from backend.studies import study
from backend.thumbnails import forget_thumbnails
from wara.data.catalogue import Catalogue, Item, ingest
from wara.data.checked import checked_as_json
from wara.data.decisions import Decision, read_decisions, write_decisions
from wara.data.findings import TEXT, TEXT_REASONS
from wara.data.fixes import MASK
from wara.data.items import content_digest
from wara.data.sources import FolderSource, open_source
from wara.errors import InputError, UnreadableImage
from wara.imaging import read_image
from wara.imaging.mask import mask
from wara.imaging.text_detector import Box, find_text

MASKS_FILE = "masks.json"
ONE, SAME_SIZE = "image", "same-size"
MOST_RECTANGLES = 64
# Around a line of text, as a share of its height: antialiased edges, and letters that the detector missed.
_MARGIN = 0.5


@dataclass(frozen=True, slots=True)
class Flagged:
    """An image in which text may stand.

    Attributes:
        number: its place in the checked catalogue.
        item: the image.
        same_size: how many flagged images have its size, itself included.
    """

    number: int
    item: Item
    same_size: int


@dataclass(frozen=True, slots=True)
class Masked:
    """What was covered: how many images, and of those that could not be, each file with the reason."""

    images: int
    refused: list[tuple[str, str]]


def flagged_images(now: Study) -> list[Flagged]:
    """Return the images that the finding about text speaks of, by why, in the order of the finding."""
    found = [item for reason in TEXT_REASONS for item in now.catalogue.items if item.text == reason]
    sizes = Counter(map(_size, found))
    return [Flagged(now.numbers[item.file], item, sizes[_size(item)]) for item in found]


def suggestions(content: bytes, item: Item) -> tuple[list[Box], tuple[int, int]]:
    """Return where text may stand in an image, in pixels as it is shown, and its width and height.

    Raises:
        UnreadableImage: it cannot be decoded.
    """
    image = read_image(content, item.file, frame=item.frame)
    height, width = image.pixels.shape[:2]
    boxes = [_widened(box, width, height) for box in find_text(image.pixels)]
    if image.format == "DICOM":
        from wara.imaging.burned_in import declared_text

        outside = declared_text(content).outside_regions
        boxes = [*outside, *(box for box in boxes if not any(_within(box, other) for other in outside))]
    return boxes[:MOST_RECTANGLES], (width, height)


def apply_masks(intake: Intake, dataset_id: str, number: int, rectangles: Sequence[Box], scope: str) -> Masked:
    """Cover rectangles in the stored files, and bring what is known of these images up to date.

    Each file is replaced whole or not at all. What was seen of the image by a person is settled; another image of the
    same size stays flagged where the detector still sees text in it.

    Args:
        intake: the data sets.
        dataset_id: which one.
        number: the image that the person saw, by its place in the checked catalogue.
        rectangles: in pixels of that image as it is shown.
        scope: "image", or "same-size" for all flagged images of this one's size.

    Raises:
        RequestRefused: 404; 409 while the data set is not ready, a job uses it, or it is a zip.
        InputError: no rectangle covers a pixel, or the image that the person saw cannot be masked.
    """
    with intake.storage.lock(dataset_id):
        dataset = intake.changeable(dataset_id)
        checked = intake.catalogue(dataset)
        if not 0 <= number < len(checked.items):
            raise not_found("image", str(number))
        seen = checked.items[number]
        targets = [seen.path]
        if scope == SAME_SIZE:
            alike = [flagged.item.path for flagged in flagged_images(study(intake, dataset, 0))
                     if _size(flagged.item) == _size(seen)]  # fmt: skip
            targets = list(dict.fromkeys([*targets, *alike]))
        with open_source(intake.source(dataset)) as source:
            if not isinstance(source, FolderSource):
                raise _in_a_zip(dataset)
            done: list[str] = []
            try:
                refused = _replace_files(source, targets, rectangles, done)
            finally:  # a full disk may end it in the middle: what is covered by then is told as covered
                if done:
                    _bring_up_to_date(intake, dataset, checked, source, set(done), seen)
                    _record(intake, dataset, done, rectangles, seen)
                    forget()
    return Masked(len(done), refused)


def masks_of(intake: Intake, dataset: Dataset) -> list[dict[str, Any]]:
    """Return what was covered so far: [{when, images, rectangles: [[left, top, right, bottom]], size}]."""
    path = _masks_file(intake, dataset)
    entries: list[dict[str, Any]] = read_json(path) if path.exists() else []
    return entries


def _replace_files(
    source: FolderSource, paths: Sequence[str], rectangles: Sequence[Box], done: list[str]
) -> list[tuple[str, str]]:
    """Cover the first file or raise, then the others; notes those that are done, returns those that cannot be."""
    # That no text is left is for a person to say, and of several images only one was seen.
    settled = len(paths) == 1
    refused: list[tuple[str, str]] = []
    for path in paths:
        try:
            masked = mask(source.read(path), path, rectangles, settled=settled)
            write_atomically(source.file(path), masked, durable=True)
        except InputError as error:
            if not done:
                raise
            refused.append((path, error.what))
        else:
            done.append(path)
    return refused


def _bring_up_to_date(
    intake: Intake, dataset: Dataset, checked: Catalogue, source: FolderSource, paths: set[str], seen: Item
) -> None:
    """Decode the touched files once, and have the catalogue, thumbnails and stored pixels follow them."""
    touched = [item for item in checked.items if item.path in paths]
    again, _ = ingest(source, checked.with_items(touched, ()))
    known = {item.file: item for item in again.items}
    if len(known) < len(touched):
        raise UnreadableImage(
            "A masked file cannot be read again", seen=len(touched) - len(known), remedy="Upload the images anew.",
            code="mask-unreadable",
        )  # fmt: skip
    items = tuple(
        replace(known[item.file], text=_text_after(item, known[item.file], seen)) if item.file in known else item
        for item in checked.items
    )
    digest = content_digest(items)
    mark = hashlib.blake2b(f"{checked.fingerprint}{digest}".encode(), digest_size=16).hexdigest()
    changed = replace(checked, items=items, digest=digest, fingerprint=mark)
    folder = intake.storage.folder("datasets", dataset.id)
    # Before the catalogue forgets by which digest they lie: they show what is covered.
    forget_thumbnails(folder, (item for item in checked.items if item.file in known))
    write_atomically(folder / CATALOGUE_FILE, checked_as_json(changed), durable=True)
    # Pixels for training are stored all in one file, which holds the former ones.
    shutil.rmtree(folder / "cache", ignore_errors=True)
    with intake.database.session() as session:
        describe(session.get_one(Dataset, dataset.id), changed)


def _text_after(before: Item, after: Item, seen: Item) -> str:
    """The image that a person saw is settled; in others what the header says is, but not what is still seen."""
    return "seen" if after.text == "seen" and before.path != seen.path else "masked"


def _record(intake: Intake, dataset: Dataset, done: list[str], rectangles: Sequence[Box], seen: Item) -> None:
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": len(done),
        "rectangles": [[box.left, box.top, box.right, box.bottom] for box in rectangles],
        "size": list(_size(seen)),
    }
    write_json(_masks_file(intake, dataset), [*masks_of(intake, dataset), entry], durable=True)
    # Among the decisions too, with which it goes into the model card; where rectangles lie is of no use there.
    path = intake.decisions_file(dataset)
    decisions = read_decisions(path) if path.exists() else []
    write_decisions(path, [*decisions, Decision.now(TEXT, MASK, dict.fromkeys(done))])


def _masks_file(intake: Intake, dataset: Dataset) -> Path:
    return intake.storage.folder("datasets", dataset.id) / MASKS_FILE


def _size(item: Item) -> tuple[int | None, int | None]:
    return item.width, item.height


def _widened(box: Box, width: int, height: int) -> Box:
    margin = max(2, round(_MARGIN * (box.bottom - box.top)))
    left, top = max(0, box.left - margin), max(0, box.top - margin)
    return Box(left, top, min(width, box.right + margin), min(height, box.bottom + margin))


def _within(box: Box, other: Box) -> bool:
    return other.left <= box.left and other.top <= box.top and other.right >= box.right and other.bottom >= box.bottom


def _in_a_zip(dataset: Dataset) -> RequestRefused:
    return RequestRefused(
        409,
        "Images inside a zip cannot be masked",
        seen=dataset.name,
        remedy="Unpack it and upload the folder, or leave the images out.",
        code="mask-zip",
    )
