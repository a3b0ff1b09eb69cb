from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from wara.data import Catalogue, Item, PassedOver, PixelStore
from wara.data.pixels import PixelWriter
from wara.errors import InputError


def _squares(count: int, size: int = 6, *, grey: bool = True) -> list[np.ndarray]:
    shape = (size, size) if grey else (size, size, 3)
    return [np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8) for number in range(count)]


def _catalogue(count: int) -> Catalogue:
    items = tuple(
        Item(f"größe/{n}.png", "ab"[n % 2], None if n % 3 else f"p{n}", "train", f"d{n}") for n in range(count)
    )
    return Catalogue(items, ("a", "b"), (PassedOver("x.txt", "why"),), "csv", "print", "digest")


def _write(path: Path, squares: list[np.ndarray]) -> PixelStore:
    with PixelWriter(path, squares[0].shape[0]) as writer:
        for square in squares:
            writer.append(square)
        return writer.finish(_catalogue(len(squares)), "pad")


@pytest.fixture
def store(tmp_path) -> PixelStore:
    return _write(tmp_path / "s.pix", _squares(7))


def test_grey_rows_are_repeated_to_three_channels_and_planes_are_not(store):
    rows, planes = store.rows([4, 0, 4]), store.planes(np.array([4, 0, 4]))
    assert (rows.shape, rows.dtype, planes.shape) == ((3, 3, 6, 6), np.uint8, (3, 1, 6, 6))
    for channel in range(3):
        np.testing.assert_array_equal(rows[:, channel], planes[:, 0])
    np.testing.assert_array_equal(planes[0, 0], _squares(7)[4])
    np.testing.assert_array_equal(store.image(4)[..., 2], _squares(7)[4])


def test_colour_rows_are_planes(tmp_path):
    squares = _squares(5, grey=False)
    store = _write(tmp_path / "c.pix", squares)
    assert store.channels == 3
    np.testing.assert_array_equal(store.rows([3])[0].transpose(1, 2, 0), squares[3])
    np.testing.assert_array_equal(store.image(3), squares[3])


def test_rows_are_copies_ready_for_torch(store):
    rows = store.rows([0, 1])
    assert rows.flags.c_contiguous
    assert rows.flags.writeable
    rows[:] = 0
    assert store.rows([0]).any()
    assert store.rows([]).shape == (0, 3, 6, 6)


def test_everything_comes_back_from_the_file(store):
    opened = PixelStore.open(str(store.path))
    assert len(opened) == 7
    assert opened.catalogue == _catalogue(7)
    assert (opened.size, opened.channels, opened.fit) == (6, 1, "pad")


def test_a_store_matches_its_own_data_size_and_fit_only(store):
    assert store.matches("print", 6, "pad")
    assert not store.matches("other", 6, "pad")
    assert not store.matches("print", 7, "pad")
    assert not store.matches("print", 6, "crop")


def test_a_store_travels_to_another_process_by_its_path(store):
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 (made on the line itself)
    np.testing.assert_array_equal(copy.rows([2]), store.rows([2]))


@pytest.mark.parametrize("keep", [0, 8, 4095, 4096 + 40, -1])
def test_a_store_that_is_cut_short_does_not_open(store, keep):
    data = store.path.read_bytes()
    store.path.write_bytes(data[:keep])
    with pytest.raises(InputError, match="cannot be used") as caught:
        PixelStore.open(store.path)
    assert caught.value.code == "pixel-store"


def test_a_store_that_is_not_there_does_not_open(tmp_path):
    with pytest.raises(InputError) as caught:
        PixelStore.open(tmp_path / "none.pix")
    assert caught.value.code == "pixel-store"


def test_a_header_that_is_damaged_does_not_open(store):
    data = bytearray(store.path.read_bytes())
    data[-5:] = b"xxxxx"
    store.path.write_bytes(data)
    with pytest.raises(InputError):
        PixelStore.open(store.path)


def test_a_writer_that_is_not_finished_leaves_nothing(tmp_path):
    with PixelWriter(tmp_path / "cache" / "s.pix", 6) as writer:
        writer.append(_squares(1)[0])
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_old_store_stays_until_the_new_one_is_whole(store):
    class Stop(Exception):
        pass

    def write_a_little() -> None:
        with PixelWriter(store.path, 6) as writer:
            writer.append(_squares(1)[0])
            raise Stop

    with pytest.raises(Stop):
        write_a_little()
    assert len(PixelStore.open(store.path)) == 7
    assert list(store.path.parent.glob("*.partial")) == []


def test_a_catalogue_of_another_length_is_a_mistake(tmp_path):
    with PixelWriter(tmp_path / "s.pix", 6) as writer:
        writer.append(_squares(1)[0])
        with pytest.raises(ValueError, match="2 items for 1 images"):
            writer.finish(_catalogue(2), "pad")


def test_a_store_in_use_survives_its_replacement(store):
    before = store.rows([1])
    _write(store.path, _squares(3, size=4))
    np.testing.assert_array_equal(store.rows([1]), before)


def test_many_writers_of_one_store_never_take_each_others_drafts(tmp_path):
    squares = [*_squares(3), *_squares(2, grey=False)]

    def write(_: int) -> int:
        return len(_write(tmp_path / "s.pix", squares))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(write, range(120))) == {5}
    assert [path.name for path in tmp_path.iterdir()] == ["s.pix"]
