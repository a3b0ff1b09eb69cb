from __future__ import annotations

import base64
import io

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from wara.data import Item, ingest, open_source, read_catalogue
from wara.data.drift import find_drift, ks_distance

SIDES = ["train"] * 120 + ["val"] * 60 + ["test"] * 60


def _items(shade=lambda place: 100, width=lambda place: 500, **kinds) -> list[Item]:
    rng = np.random.default_rng(0)
    items = []
    for place in range(len(SIDES)):
        look = np.clip(rng.normal(shade(place), 20, (32, 32)) + rng.normal(0, 8), 0, 255).astype(np.uint8)
        names = {name: of(place) for name, of in kinds.items()}
        size = int(width(place) * rng.uniform(0.8, 1.2))
        items.append(
            Item(str(place), "a", width=size, height=size, look=base64.b64encode(look.tobytes()).decode(), **names)
        )
    return items


def test_sides_that_are_alike_have_no_drift():
    assert find_drift(_items(format=lambda place: "PNG"), SIDES) == []


def test_a_darker_test_part_is_found_with_its_effect():
    (drift,) = find_drift(_items(shade=lambda place: 80 if place >= 180 else 100), SIDES)
    assert (drift.kind, drift.side) == ("brightness", "test")
    assert drift.distance > 0.5 and drift.shift is not None and drift.shift < -1.5
    assert float(drift.here) == pytest.approx(80, abs=4) and float(drift.there) == pytest.approx(100, abs=4)


def test_other_sizes_formats_and_modalities_are_found():
    found = find_drift(
        _items(
            width=lambda place: 900 if 120 <= place < 180 else 500,
            format=lambda place: "DICOM" if place >= 180 or place % 2 else "PNG",
            modality=lambda place: "CR" if place < 180 else "DX",
        ),
        SIDES,
    )
    assert [(drift.kind, drift.side) for drift in found] == [("size", "val"), ("format", "test"), ("modality", "test")]
    assert found[1].here == "100% DICOM" and found[1].there == "50% DICOM, 50% PNG"
    assert found[1].distance == pytest.approx(0.5) and found[2].distance == 1


def test_the_modality_of_a_dicom_file_is_learnt_unless_it_is_no_code(folder):
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    files = {"a/1.dcm": io.BytesIO(), "b/2.dcm": io.BytesIO()}
    dataset.save_as(files["a/1.dcm"])
    dataset["Modality"]._value = "Mrs Smith"
    dataset.save_as(files["b/2.dcm"])
    with open_source(folder({name: file.getvalue() for name, file in files.items()})) as source:
        items = ingest(source, read_catalogue(source))[0].items
    assert [item.modality for item in items] == ["CT", None]


def test_few_images_and_chance_are_not_called_drift():
    few = ["train"] * 221 + ["test"] * 19
    assert find_drift(_items(shade=lambda place: 50 if place > 220 else 100), few) == []
    assert find_drift([Item(str(n), "a") for n in range(240)], SIDES) == []
    assert find_drift(_items(), [None] * 240) == []


def test_the_distance_is_that_of_kolmogorov_and_smirnov(rng):
    stats = pytest.importorskip("scipy.stats")
    one, other = rng.normal(size=70), rng.normal(0.5, 1.3, size=90)
    assert ks_distance(one, other) == pytest.approx(stats.ks_2samp(one, other).statistic)
    assert ks_distance(np.array([1.0, 2.0]), np.array([3.0])) == 1
