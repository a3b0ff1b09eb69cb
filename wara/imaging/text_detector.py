"""Find what looks like a line of text in a picture: thin strokes of one height in a row on even ground.

A look without any model, for the question "may somebody's name stand in this picture?". It reads nothing, misses
text on busy ground and handwriting, and takes some rows of small structures for text; what it finds is for a person
to review. How often it is right is measured by ``tools.text_detector_rates`` (docs/deidentification.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wara.imaging.image import Pixels

# The shorter side at which a picture is looked at: letters of ten pixels on a screenshot stay readable.
LOOKED_AT = 800
_LONGEST = 1600
_CONTRAST = 50
# Letters in pixels, and as a share of the picture's height.
_LEAST_HEIGHT, _MOST_HEIGHT = 6, 0.08
_STROKE_SHARE = 0.42
_EVEN_GROUND = 28
_LETTERS, _LETTERS_INSIDE = 3, 5
_BORDER = 0.25
_TOO_MANY = 4000
# Rows of a letter's six whose edges are sharp: its first or last one may be soft.
_LEAST_ROWS = 5
_NEAR = 1 << 15  # pixels that stay near the processor


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the picture; ``right`` and ``bottom`` are the first column and row outside."""

    left: int
    top: int
    right: int
    bottom: int

    def __or__(self, other: Box) -> Box:
        return Box(
            min(self.left, other.left), min(self.top, other.top), max(self.right, other.right),
            max(self.bottom, other.bottom),
        )  # fmt: skip

    def moved(self, down: int) -> Box:
        """Return the rectangle so many rows further down."""
        return Box(self.left, self.top + down, self.right, self.bottom + down)


@dataclass(frozen=True, slots=True)
class _Line:
    """What a row of pixels through a line of text has: so many steps of a contrast within a window.

    Attributes:
        steps: each stroke is a step up and a step down; ribs, hairs and edges stand further apart.
        contrast: of a step, in grey values.
        window: in pixels; more where it is less than the share.
        share: the window as one part of so many of the row.
    """

    steps: int
    contrast: int
    window: int
    share: int


_LINE = _Line(steps=8, contrast=_CONTRAST, window=32, share=10)


def find_text(pixels: Pixels) -> list[Box]:
    """Return the rectangles that look like lines of text, from the top.

    Near a border (in the outer quarter) three letters make a line; further inside, where anatomy is, five do.

    Args:
        pixels: uint8, (H, W) or (H, W, 3); pictures longer than 1,600 pixels are looked at at a fraction.
    """
    grey = pixels if pixels.ndim == 2 else np.asarray(pixels.max(axis=2))
    step = max(1, -(-max(grey.shape) // _LONGEST))
    if step > 1:
        rows, columns = (side // step * step for side in grey.shape)
        blocks = grey[:rows, :columns].reshape(rows // step, step, columns // step, step)
        grey = blocks.mean(axis=(1, 3)).astype(np.uint8)
    if min(grey.shape) < 2 * _LEAST_HEIGHT:
        return []
    boxes: list[Box] = []
    for top, bottom in _bands(grey):
        part = np.ascontiguousarray(grey[top:bottom])
        for image in (part, 255 - part):  # bright letters, then dark ones
            letters = [box.moved(down=top) for box in _letters(image, grey.shape)]
            boxes += _lines(letters, grey.shape)
    found = sorted(_merged(boxes), key=lambda box: (box.top, box.left))
    return [Box(b.left * step, b.top * step, b.right * step, b.bottom * step) for b in found]


def may_hold_text(pixels: Pixels) -> bool:
    """Whether a closer look is worth while, from a picture at half the scale of ``find_text``'s look.

    Of the drawn pictures with text that ``find_text`` flags none is lost so (docs/deidentification.md).

    Args:
        pixels: uint8, (H, W) or (H, W, 3); a shorter side of less than 256 pixels blurs small letters too much.
    """
    grey = pixels if pixels.ndim == 2 else np.asarray(pixels.max(axis=2))
    return min(grey.shape) > _LINE.window and bool(len(_crossed(grey, _LEAST_ROWS // 2)))


def _bands(grey: Pixels) -> list[tuple[int, int]]:
    """Return the rows, from and to, in which a line of text may stand; of most pictures of tissue none.

    A row of a line of letters crosses strokes, each a step up and a step down: so letters are looked for only where
    rows with enough sharp steps near each other follow, and a letter's height around them. The full look takes 1.3 ms
    for a picture of 224 pixels a side, this one 0.03 ms.
    """
    margin = _tallest(grey.shape) + _LEAST_HEIGHT
    bands: list[tuple[int, int]] = []
    for row in _crossed(grey, _LEAST_ROWS).tolist():
        top, bottom = max(0, row - margin), min(grey.shape[0], row + _LEAST_ROWS + margin)
        if bands and top <= bands[-1][1]:
            bands[-1] = (bands[-1][0], bottom)
        else:
            bands.append((top, bottom))
    return bands


def _crossed(grey: Pixels, rows: int) -> npt.NDArray[np.intp]:
    """Return where so many rows begin to follow each other that look like those of a line of text."""
    # Of so many rows in turn one has a number that they divide: where none of those looks so, nothing follows.
    some = grey[rows - 1 :: rows]
    if not _dense(some).any():
        return np.empty(0, dtype=np.intp)
    dense = _dense(grey)
    if np.count_nonzero(dense) < rows:
        return np.empty(0, dtype=np.intp)
    return np.flatnonzero(np.convolve(dense, np.ones(rows, dtype=int), "valid") == rows)


def _dense(grey: Pixels) -> npt.NDArray[np.bool_]:
    """Return for each row whether it has enough sharp steps near each other."""
    height, width = grey.shape
    dense = np.zeros(height, dtype=bool)
    window = min(max(_LINE.window, width // _LINE.share), width - 2)
    at_once = max(1, _NEAR // width)
    for top in range(0, height, at_once):
        left, right = grey[top : top + at_once, :-1], grey[top : top + at_once, 1:]
        # Greater less smaller: the difference without leaving eight bits, which is several times faster.
        step = np.maximum(left, right)
        step -= np.minimum(left, right)
        sharp = (step >= _LINE.contrast).view(np.uint8)
        busy = np.flatnonzero(sharp.sum(axis=1, dtype=np.uint32) >= _LINE.steps)
        if busy.size:  # few rows go further
            before = np.cumsum(sharp[busy], axis=1, dtype=np.uint16)
            dense[top + busy] = (before[:, window:] - before[:, :-window]).max(axis=1) >= _LINE.steps
    return dense


def _tallest(shape: tuple[int, ...]) -> int:
    """Return the height in pixels of the largest letters in a picture of this shape."""
    return max(_LEAST_HEIGHT + 4, int(shape[0] * _MOST_HEIGHT))


def _letters(grey: Pixels, shape: tuple[int, ...]) -> list[Box]:
    """Return the connected thin bright strokes that have the size of letters and stand on even ground; none if few.

    Args:
        grey: some rows of a picture.
        shape: of the whole picture, by which letters are measured.
    """
    # A stroke is what an opening wider than it takes away.
    width = max(7, round(min(shape) * _MOST_HEIGHT * _STROKE_SHARE) | 1)
    strokes = grey - _opening(grey, width) >= _CONTRAST  # an opening is never brighter than the picture
    labels, count = ndimage.label(strokes, structure=np.ones((3, 3), dtype=bool))
    if not 0 < count <= _TOO_MANY:
        return []
    most = _tallest(shape)
    sized = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        height, width_ = (part.stop - part.start for part in place)
        if _LEAST_HEIGHT <= height <= most and width_ <= 1.6 * height:
            sized.append((number, place))
    if len(sized) < _LETTERS:  # no line, whatever they are
        return []
    letters = []
    for number, place in sized:
        ink = labels[place] == number
        if _is_letter(ink) and _stands_on_even_ground(grey, strokes, place):
            letters.append(Box(place[1].start, place[0].start, place[1].stop, place[0].stop))
    return letters


def _opening(grey: Pixels, width: int) -> Pixels:
    """Return the opening by a square of an odd width: the least of each window, then the greatest of those.

    The same as ``scipy.ndimage.grey_opening``, whose mirrored borders bring nothing that is not in the window already,
    and about ten times as fast: a window is made of two of half its width.
    """
    return _over_windows(_over_windows(grey, width, np.minimum, 255), width, np.maximum, 0)


def _over_windows(grey: Pixels, width: int, which: np.ufunc, nothing: int) -> Pixels:
    """Return the least or the greatest value around each pixel; ``nothing`` stands outside and is never chosen."""
    margin = width // 2
    found = np.full((grey.shape[0] + 2 * margin, grey.shape[1] + 2 * margin), nothing, dtype=np.uint8)
    found[margin:-margin, margin:-margin] = grey
    for turned in (False, True):  # rows, then columns
        line = found.T if turned else found
        covered = 1
        while covered < width:
            step = min(covered, width - covered)
            line = which(line[:-step], line[step:])
            covered += step
        found = line.T if turned else line
    return found


def _is_letter(ink: npt.NDArray[np.bool_]) -> bool:
    """Whether strokes are thin for their height, and the box neither nearly empty nor nearly full (an I may be)."""
    height, width = ink.shape
    share = float(ink.mean())
    if share < 0.12 or (share > 0.85 and width > 0.4 * height):
        return False
    thickest = float(ndimage.distance_transform_cdt(np.pad(ink, 1), metric="chessboard").max())
    return bool(2 * thickest - 1 <= max(3.0, _STROKE_SHARE * height))


def _stands_on_even_ground(grey: Pixels, strokes: npt.NDArray[np.bool_], place: tuple[slice, ...]) -> bool:
    margin = max(2, (place[0].stop - place[0].start) // 4)
    around = tuple(slice(max(0, part.start - margin), part.stop + margin) for part in place)
    # The soft edge of a stroke belongs to it.
    ground = grey[around][~ndimage.binary_dilation(strokes[around], iterations=1)]
    if ground.size < 8:
        return False
    low, high = np.percentile(ground, (10, 90))
    return bool(high - low <= _EVEN_GROUND)


def _lines(letters: list[Box], shape: tuple[int, ...]) -> list[Box]:
    """Join letters of like height that follow each other on a line, and return the lines that are long enough."""
    chains: list[list[Box]] = []
    for letter in sorted(letters, key=lambda box: box.left):
        chain = next((c for c in reversed(chains) if _follows(c[-1], letter)), None)
        if chain is None:
            chains.append([letter])
        else:
            chain.append(letter)
    lines = []
    for chain in chains:
        box = chain[0]
        for letter in chain[1:]:
            box |= letter
        if len(chain) >= (_LETTERS if _near_border(box, shape) else _LETTERS_INSIDE):
            lines.append(box)
    return lines


def _follows(before: Box, letter: Box) -> bool:
    tall, short = sorted((before.bottom - before.top, letter.bottom - letter.top), reverse=True)
    overlap = min(before.bottom, letter.bottom) - max(before.top, letter.top)
    gap = letter.left - before.right
    return tall <= 1.8 * short and overlap >= 0.6 * short and -0.2 * tall <= gap <= 1.3 * tall


def _near_border(box: Box, shape: tuple[int, ...]) -> bool:
    rows, columns = shape[0], shape[1]
    across, down = (box.left + box.right) / 2 / columns, (box.top + box.bottom) / 2 / rows
    return min(across, 1 - across, down, 1 - down) <= _BORDER


def _merged(boxes: list[Box]) -> list[Box]:
    """Join boxes that touch."""
    merged: list[Box] = []
    for box in boxes:
        current = box
        while touching := [other for other in merged if _touch(current, other)]:
            for other in touching:
                merged.remove(other)
                current |= other
        merged.append(current)
    return merged


def _touch(one: Box, other: Box) -> bool:
    return one.left <= other.right and other.left <= one.right and one.top <= other.bottom and other.top <= one.bottom
