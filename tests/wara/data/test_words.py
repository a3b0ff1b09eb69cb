from __future__ import annotations

import pytest

from wara.data.words import split_of


@pytest.mark.parametrize(
    ("word", "side"),
    [
        ("train", "train"), ("Training", "train"), ("train_data", "train"), ("training-set", "train"),
        ("Trainingsdaten", "train"), ("entrainement", "train"), ("treino", "train"), ("valid_", "val"),
        ("val_images", "val"), ("Validierung", "val"), ("validacio\u0301n", "val"), ("Test Data", "test"),
        ("test_images", "test"), ("hold-out", "test"), ("prueba", "test"), ("teste", "test"),
        ("normal", None), ("tr_data", None), ("dev images", None), ("images", None), ("test positive", None),
        ("", None),
    ],
)  # fmt: skip
def test_sides_are_known_as_people_write_them(word, side):
    assert split_of(word) == side
