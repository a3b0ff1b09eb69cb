"""One look at an image for text in the picture: what its header says of it, then what can be seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from wara.imaging.image import DecodedImage
from wara.imaging.read import check_image, check_images
from wara.imaging.text_detector import LOOKED_AT, find_text, may_hold_text

# The shorter side at which a JPEG is decoded at first: half of what the closer look takes.
CHECKED_AT = LOOKED_AT // 2


def look_at(data: bytes, name: str) -> tuple[DecodedImage, str]:
    """Decode an image and say why text may stand in it (see ``text_reason``).

    Args:
        data: the whole file.
        name: the file's name, for errors only.

    Returns:
        The decoded image (a large JPEG at a reduced scale) and "stated", "regions", "seen" or "".

    Raises:
        UnreadableImage: as ``read_image``.
        InputError: as ``read_image``.
    """
    image = next(check_images(data, name, at_least=CHECKED_AT))
    return image, text_reason(image, partial(look_closer, data, name))


def look_closer(data: bytes, name: str) -> DecodedImage:
    """Decode a JPEG at the scale of the closer look.

    Raises:
        UnreadableImage: as ``read_image``.
    """
    return check_image(data, name, at_least=LOOKED_AT)


def text_reason(image: DecodedImage, closer: Callable[[], DecodedImage]) -> str:
    """Say why text may stand in a decoded image: "stated" or "regions" by its header, "seen" in its pixels, or "".

    A header that says NO is not believed where text can be seen: the mark is often set by default. An image that was
    decoded at a reduced scale is decoded once more, larger, where its rows look like text at all.

    Args:
        image: as ``check_image`` or ``check_images`` gave it, with ``at_least=CHECKED_AT``.
        closer: gives it as ``look_closer`` does; asked only where it is needed.
    """
    if image.declared_text:
        return image.declared_text
    rows = image.pixels.shape[0]
    if rows < image.height and min(image.pixels.shape[:2]) < LOOKED_AT:
        if not may_hold_text(image.pixels):
            return ""
        image = closer()
    return "seen" if find_text(image.pixels) else ""
