from __future__ import annotations

import io
import logging
import random
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from wara.errors import UnreadableImage
from wara.imaging import read_image
from wara.imaging.quiet import quiet_decoders


def _warn_as(module: str) -> None:
    warnings.warn_explicit("PatientID is SECRET", UserWarning, "file.py", 1, module=module, registry={})


def test_decoders_are_silent_inside_and_others_are_not():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with quiet_decoders():
            _warn_as("pydicom.valuerep")
            _warn_as("PIL.TiffImagePlugin")
            _warn_as("torch")
        _warn_as("pydicom.valuerep")
    assert len(said) == 2


def test_blocks_that_overlap_in_threads_leave_the_filters_as_they_were():
    before = list(warnings.filters)
    start = threading.Barrier(4)
    failures = []

    def work(number: int) -> None:
        start.wait()
        for _ in range(200):
            try:
                with quiet_decoders():
                    _warn_as("PIL.Image")
            except UserWarning as error:  # pytest turns a warning that is not silenced into an error
                failures.append((number, error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == before


def test_the_decoders_log_nothing(caplog):
    import wara.imaging.dicom  # noqa: F401 (pydicom sets its logger's level when it is imported)

    with caplog.at_level(logging.DEBUG):
        logging.getLogger("pydicom").warning("PatientID is SECRET")
        logging.getLogger("PIL.TiffImagePlugin").warning("More samples per pixel than can be decoded")
    assert not caplog.records


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg"])
def test_damaged_tiffs_print_nothing(capfd, compression):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "TIFF", compression=compression)
    rng, whole, refused = random.Random(0), file.getvalue(), 0
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(8):
            data[rng.randrange(8, len(data))] = rng.randrange(256)
        try:
            read_image(bytes(data), "a.tif")
        except UnreadableImage:
            refused += 1
    assert refused
    assert capfd.readouterr() == ("", "")
