"""Every DICOM file that comes with pydicom is either shown as pydicom's own functions would, or refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from tests.wara.imaging.bundled import REFUSED, SHOWN
from wara.errors import UnreadableImage
from wara.imaging import DicomView, check_image, read_image, read_squares
from wara.imaging.quiet import quiet_decoders

ROOT = Path(pydicom.data.__file__).parent
SHOWN_FILES = [name for names in SHOWN.values() for name in names]
REFUSED_FILES = [name for names in REFUSED.values() for name in names]


def test_every_file_of_the_installed_package_stands_in_one_of_the_two_tables() -> None:
    # Not by pydicom.data.get_testdata_files: it fetches further files, which are not part of the package.
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()}
    found = {name for name in found if not name.endswith((".py", ".pyc"))}
    assert found == {*SHOWN_FILES, *REFUSED_FILES}
    assert len(found) == len(SHOWN_FILES) + len(REFUSED_FILES)


@pytest.mark.parametrize("facts", SHOWN, ids=str)
def test_shown_files_have_the_size_the_frames_and_the_spacing_of_the_table(facts, capfd) -> None:
    rows, columns, frames, photometric, bits, spacing = facts
    for name in SHOWN[facts]:
        image = read_image((ROOT / name).read_bytes(), name)
        assert image.pixels.shape == (rows, columns, 3), name
        assert (image.height, image.width, image.frames, image.bits) == (rows, columns, frames, bits), name
        assert image.greyscale or not photometric.startswith("MONOCHROME"), name
        assert (image.spacing and round(image.spacing[0], 4)) == spacing, name
        assert image.pixels.max() > 0, name
        with quiet_decoders():
            assert str(pydicom.dcmread(ROOT / name).PhotometricInterpretation) == photometric, name
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", SHOWN_FILES)
def test_shown_files_are_shown_as_pydicoms_own_functions_would(name) -> None:
    image = read_image((ROOT / name).read_bytes(), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = _oracle(pydicom.dcmread(ROOT / name, force=True), image.frame - 1)
    assert np.abs(image.pixels - (expected if expected.ndim == 3 else expected[..., None])).max() <= 1.01


def _oracle(dataset: pydicom.Dataset, index: int) -> np.ndarray:
    """Return pixels from 0 to 255 by ``apply_modality_lut``, ``apply_voi_lut``, ``apply_color_lut`` and YBR to RGB."""
    stored = pixel_array(dataset, index=index)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(stored, dataset) / (2 ** dataset.RedPaletteColorLookupTableDescriptor[2] - 1) * 255
    if dataset.SamplesPerPixel == 3:
        return stored / (2**dataset.BitsStored - 1) * 255
    values = apply_modality_lut(stored, dataset).astype(float)
    low, high = values.min(), values.max()
    if "WindowWidth" in dataset:
        values = apply_voi_lut(values, dataset, index=0)
        signed = dataset.PixelRepresentation == 1
        low, high = (-(2 ** (dataset.BitsStored - 1)), 2 ** (dataset.BitsStored - 1) - 1) if signed else (
            0, 2**dataset.BitsStored - 1)  # fmt: skip
        low, high = (apply_modality_lut(np.array([end]), dataset)[0] for end in (low, high))
    shown = (values - low) / (high - low) * 255
    return 255 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


@pytest.mark.parametrize(("code", "what"), REFUSED, ids=str)
def test_refused_files_say_why(code, what, capfd) -> None:
    for name in REFUSED[code, what]:
        for read in (read_image, check_image):
            with pytest.raises(UnreadableImage) as caught:
                read((ROOT / name).read_bytes(), name)
            assert (caught.value.code, caught.value.what) == (code, what), name
            assert name in str(caught.value.seen)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [name for facts, names in SHOWN.items() for name in names if facts[2] > 1])
def test_all_frames_come_in_order_and_each_as_it_is_alone(name) -> None:
    data = (ROOT / name).read_bytes()
    for number, (square, image) in enumerate(read_squares(data, name, 32, view=DicomView("all")), start=1):
        alone = read_image(data, name, frame=number)
        assert (image.frame, image.spacing, image.patient) == (number, alone.spacing, alone.patient)
        whole = image.pixels if image.pixels.ndim == 3 else image.pixels[..., None]
        np.testing.assert_array_equal(np.broadcast_to(whole, alone.pixels.shape), alone.pixels)
        assert square.shape[:2] == (32, 32)
    assert number == image.frames
