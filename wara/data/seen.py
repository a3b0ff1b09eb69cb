"""One look at an image file: what a catalogue keeps of it, in plain values that another process can hand over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

from wara.data.looks import look_of, pixel_digest
from wara.errors import UnreadableImage
from wara.imaging import check_images
from wara.imaging.image import DecodedImage
from wara.imaging.text_look import CHECKED_AT, look_closer, text_reason
from wara.imaging.thumbnail import reduced, thumbnail_of
from wara.imaging.view import DicomView
from wara.messages import Message


@dataclass(frozen=True, slots=True)
class Seen:
    """What decoding told of one image; the fields are those of ``Item`` and ``DecodedImage`` of the same name.

    ``thumbnail`` is one where it was asked for (see ``wara.imaging.thumbnail``).
    """

    format: str
    width: int
    height: int
    patient: str | None
    spacing: tuple[float, float] | None
    frame: int
    frames: int
    modality: str | None
    pixels: str
    look: str
    text: str | None
    thumbnail: bytes | None = None

    @classmethod
    def of(cls, image: DecodedImage, text: str | None, thumbnail: int | None = None) -> Seen:
        """Return what is kept of a decoded image.

        Args:
            image: decoded, a large JPEG perhaps at a reduced scale.
            text: why text may stand in it, None where nobody looked.
            thumbnail: pixels a side of a thumbnail that is made too, at most 256; None makes none.
        """
        small = reduced(image.pixels)
        return cls(
            image.format, image.width, image.height, image.patient, image.spacing, image.frame, image.frames,
            image.modality, pixel_digest(image.pixels, greyscale=image.greyscale), look_of(small), text,
            None if thumbnail is None else thumbnail_of(small, thumbnail),
        )  # fmt: skip

    def as_message(self) -> Message:
        """Return what another process, or a file, is told of it; `of_message` makes it one again."""
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "thumbnail"}
        return {"kind": "seen", **facts}, self.thumbnail or b""

    @classmethod
    def of_message(cls, head: dict[str, Any], body: bytes) -> Seen:
        """Return what `as_message` told."""
        facts = {name: value for name, value in head.items() if name != "kind"}
        spacing = None if facts["spacing"] is None else tuple(facts["spacing"])
        return cls(**{**facts, "spacing": spacing, "thumbnail": body or None})


class Look(NamedTuple):
    """A file to look at: its bytes, its name for errors, and the number of one frame, None for the view's.

    ``place`` is its name in its source with the folders that all files share.
    """

    data: bytes
    name: str
    frame: int | None = None
    place: str = ""


class Found(NamedTuple):
    """What was seen of a file's images, the error that ended it, and `file_digest` of its bytes where it is known."""

    seen: list[Seen]
    error: UnreadableImage | None = None
    digest: str | None = None


def file_digest(data: bytes) -> str:
    """Return the hash that files are known by: BLAKE2b, 16 bytes, in hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


SeeAll = Callable[[Sequence[Look], DicomView], Iterator[Found]]


def see(
    data: bytes, name: str, view: DicomView, frame: int | None, thumbnail: int | None = None
) -> Iterator[Seen]:
    """Yield what is seen of each image that the view takes from a file (see ``wara.imaging.check_images``).

    Args:
        data: the whole file.
        name: the file's name, for errors only.
        view: which frames of a DICOM file to take, and by which window.
        frame: number of one frame, from 1; None for the view's.
        thumbnail: pixels a side of a thumbnail that is made too, at most 256; None makes none.

    Raises:
        UnreadableImage: as ``check_images``.
        InputError: as ``check_images``.
    """
    for image in check_images(data, name, view, frame, CHECKED_AT):
        text = text_reason(image, partial(look_closer, data, name))
        yield Seen.of(image, text, thumbnail)


def see_all(looks: Sequence[Look], view: DicomView, thumbnail: int | None = None) -> Iterator[Found]:
    """Yield for each file, in order, what ``see`` yields for it and how that ended.

    Raises:
        InputError: as ``see``, but for files that cannot be read, which tell so themselves.
    """
    for look in looks:
        found: list[Seen] = []
        error = None
        try:
            found.extend(see(look.data, look.name, view, look.frame, thumbnail))
        except UnreadableImage as refusal:
            error = refusal
        yield Found(found, error)
