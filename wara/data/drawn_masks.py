"""Masks that public data sets keep beside their images, known by their names: nothing is to be learnt from these."""

from __future__ import annotations

import re
from collections.abc import Iterable

REASON = "by its name the mask of another image"

_IMAGE_FOLDERS = ("images", "image", "imgs", "img")
_MASK_FOLDERS = frozenset(("masks", "mask"))
_AFTER_THE_NAME = re.compile(r"(?P<image>.+?)[ _-](?:masks?|segmentation|seg)(?:[ _-]?\d+)?", re.IGNORECASE)


def drawn_masks(names: Iterable[str]) -> set[str]:
    """Return the names of those images that are masks of other ones.

    Only a name whose image is there is taken for a mask's: ``x_mask.png`` and ``x_mask_1.png`` beside ``x.png``, as in
    BUSI, and ``masks/x.png`` beside ``images/x.png``, as in the COVID-19 Radiography Database. A class that is called
    "mask" stays a class.

    Args:
        names: the names of the images of a source.
    """
    names = list(names)
    stems = {_stem(name) for name in names}
    return {name for name in names if any(image in stems for image in _images_of(_stem(name)))}


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    stem, dot, _ = file.rpartition(".")
    return folder + slash + (stem if dot and stem else file)


def _images_of(stem: str) -> Iterable[str]:
    """Yield where the image would be whose mask this is."""
    folder, slash, file = stem.rpartition("/")
    named = _AFTER_THE_NAME.fullmatch(file)
    if named is not None:
        yield folder + slash + named["image"]
    parents = folder.split("/")
    for place, parent in enumerate(parents):
        if parent.casefold() in _MASK_FOLDERS:
            for images in _IMAGE_FOLDERS:
                # As the folder of the masks is written: both small, or both with a capital.
                other = images if parent.islower() else images.capitalize()
                yield "/".join((*parents[:place], other, *parents[place + 1 :], file))
