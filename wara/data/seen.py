"""One look at an image file: what a catalogue keeps of it, in plain values that another process can hand over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

from wara.data.looks import look_of, pixel_digest
from wara.imaging import check_images
from wara.imaging.image import DecodedImage
from wara.imaging.text_look import CHECKED_AT, look_closer, text_reason
from wara.imaging.thumbnail import thumbnail_of
from wara.imaging.view import DicomView


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
    def of(cls, image: DecodedImage, text: str | None, thumbnail: bytes | None = None) -> Seen:
        """Return what is kept of a decoded image; ``text`` is why text may stand in it, None where nobody looked."""
        return cls(
            image.format, image.width, image.height, image.patient, image.spacing, image.frame, image.frames,
            image.modality, pixel_digest(image.pixels, greyscale=image.greyscale), look_of(image.pixels), text,
            thumbnail,
        )  # fmt: skip


See = Callable[[bytes, str, DicomView, int | None], Iterator[Seen]]


def see(
    data: bytes, name: str, view: DicomView, frame: int | None, thumbnail: int | None = None
) -> Iterator[Seen]:
    """Yield what is seen of each image that the view takes from a file (see ``wara.imaging.check_images``).

    Args:
        data: the whole file.
        name: the file's name, for errors only.
        view: which frames of a DICOM file to take, and by which window.
        frame: number of one frame, from 1; None for the view's.
        thumbnail: pixels a side of a thumbnail that is made too; None makes none.

    Raises:
        UnreadableImage: as ``check_images``.
        InputError: as ``check_images``.
    """
    for image in check_images(data, name, view, frame, CHECKED_AT):
        # Of a JPEG at a reduced scale: decoded at most once more, for whoever wants it larger.
        closer = cache(partial(look_closer, data, name))
        text = text_reason(image, closer)
        small = None
        if thumbnail is not None:
            reduced = image.pixels.shape[0] < image.height and max(image.pixels.shape[:2]) < thumbnail
            small = thumbnail_of((closer() if reduced else image).pixels, thumbnail)
        yield Seen.of(image, text, small)
