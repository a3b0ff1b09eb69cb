"""Copies are found through what happens to copies (saved anew, resized, brighter) and not among strangers."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from wara.data import Item, ingest, open_source, read_catalogue
from wara.data.duplicates import Unions, exact_copies, near_copies
from wara.data.looks import fine_structure, look_of, perceptual_hashes, pixel_digest, stack_looks


def _picture(number: int, side: int = 160, scales: tuple[int, ...] = (4, 8, 16, 32)) -> Image.Image:
    """Draw smooth structures at several scales: a picture, not noise."""
    rng = np.random.default_rng(number)
    pixels = np.zeros((side, side))
    for cells in scales:
        grid = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
        pixels += np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(128 + 32 * pixels, 0, 255).astype(np.uint8))


def _item(picture: Image.Image, file: str = "x", label: str = "a") -> Item:
    pixels = np.asarray(picture)
    return Item(file, label, digest=file, pixels=file, look=look_of(pixels))


def _near(*pictures: Image.Image) -> list[tuple[int, ...]]:
    return [copies.places for copies in near_copies([_item(p, str(n)) for n, p in enumerate(pictures)])]


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved as a poor JPEG": lambda p: _jpeg(p, 30),
    "made smaller": lambda p: p.resize((70, 70), Image.Resampling.BICUBIC),
    "made larger and wider": lambda p: p.resize((400, 330), Image.Resampling.BILINEAR),
    "made brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.2),
    "made poorer in contrast": lambda p: ImageEnhance.Contrast(p).enhance(0.6),
    "saved in colour": lambda p: p.convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_strangers(change):
    strangers = [_picture(number) for number in range(1, 40)]
    assert _near(_picture(0), *strangers, CHANGES[change](_picture(0))) == [(0, 40)]


def test_strangers_are_no_copies():
    assert _near(*(_picture(number) for number in range(300))) == []


def test_images_of_one_body_part_are_no_copies():
    """A shared outline, as of chest X-rays, makes plain correlation high and is not enough."""
    outline = np.asarray(_picture(999, scales=(4,)), np.float32) * 0.9
    details = [np.asarray(_picture(number, scales=(16, 32)), np.float32) * 0.1 for number in range(60)]
    bodies = [Image.fromarray((outline + detail).astype(np.uint8)) for detail in details]
    _, looks = stack_looks([_item(body) for body in bodies])
    assert np.corrcoef(looks.reshape(len(looks), -1)).min() > 0.95
    assert _near(*bodies) == []
    assert fine_structure(looks).shape == (60, 1024)


def test_flat_images_are_like_no_other():
    assert _near(*(Image.new("L", (50, 50), shade) for shade in (0, 0, 90, 255))) == []


def test_many_copies_of_one_picture_are_one_set():
    rng = np.random.default_rng(0)
    pictures = [np.asarray(_picture(number % 2)) + rng.normal(0, 3, (160, 160)) for number in range(600)]
    found = near_copies([_item(Image.fromarray(np.clip(p, 0, 255).astype(np.uint8))) for p in pictures])
    assert [copies.places for copies in found] == [tuple(range(0, 600, 2)), tuple(range(1, 600, 2))]
    assert all(0.9 <= copies.likeness < 1 for copies in found)


def test_hashes_are_64_bits_and_ignore_brightness():
    looks = np.stack([np.asarray(_picture(n).resize((32, 32), Image.Resampling.BOX)) for n in range(5)])
    hashes = perceptual_hashes(looks)
    assert hashes.dtype == np.uint64 and hashes.shape == (5,)
    dimmed = perceptual_hashes((looks * 0.8).astype(np.uint8))
    assert np.bitwise_count(hashes ^ dimmed).max() <= 4
    assert perceptual_hashes(looks[:0]).shape == (0,)


def test_the_pixel_digest_is_of_the_picture_not_of_the_file():
    grey = np.arange(600, dtype=np.uint8).reshape(20, 30)
    colour = np.repeat(grey[..., np.newaxis], 3, axis=2)
    assert pixel_digest(grey, greyscale=True) == pixel_digest(colour, greyscale=True)
    assert pixel_digest(grey, greyscale=True) != pixel_digest(grey.reshape(30, 20), greyscale=True)
    assert pixel_digest(colour, greyscale=False) != pixel_digest(grey, greyscale=True)


def test_ingest_tells_equal_files_from_equal_pictures_and_from_near_ones(folder, tmp_path: Path):
    def save(picture: Image.Image, kind: str, **options) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    whole, other = _picture(1), _picture(2)
    root = folder({
        "a/1.png": save(whole, "PNG"), "a/2.png": save(whole, "PNG"), "a/3.bmp": save(whole, "BMP"),
        "b/1.png": save(other, "PNG"), "b/2.tif": save(other, "TIFF"), "b/3.jpg": save(other, "JPEG", quality=60),
        "b/4.png": save(_picture(3), "PNG"),
    })  # fmt: skip
    with open_source(root) as source:
        items = ingest(source, read_catalogue(source))[0].items
        again = ingest(source, read_catalogue(source), size=64, store=tmp_path / "x.pixels")[0].items
    assert [item.look for item in items if item.format != "JPEG"] == [
        item.look for item in again if item.format != "JPEG"
    ]
    exact = exact_copies(items)
    assert [(copies.places, copies.how) for copies in exact] == [((0, 1, 2), "pixels"), ((3, 4), "pixels")]
    near = near_copies(items, exact)
    assert [(copies.places, copies.how) for copies in near] == [((3, 4, 5), "near")]
    assert 0.9 <= near[0].likeness <= 1
    assert exact_copies(items[:2])[0].how == "bytes"


def test_items_of_which_nothing_is_known_take_no_part():
    items = [Item("1", "a"), _item(_picture(1), "2"), Item("3", "a"), _item(_picture(1), "4")]
    assert [copies.places for copies in near_copies(items)] == [(1, 3)]
    assert exact_copies([replace(item, digest=None, pixels=None) for item in items]) == []


def test_unions_join_chains_in_any_order():
    unions = Unions()
    for one, other in [(5, 6), (1, 2), (6, 1), (9, 8)]:
        unions.join(one, other)
    assert unions.sets() == [(1, 2, 5, 6), (8, 9)]
