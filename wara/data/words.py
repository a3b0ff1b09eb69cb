"""The words that name the sides of a split, in folders and in tables."""

from __future__ import annotations

import re
import unicodedata

SPLITS = ("train", "val", "test")
SIDE_NAMES = {"train": "training", "val": "validation", "test": "test"}

_WORDS = {
    "train": (
        "train", "training", "tr", "trainset", "trainings", "trainingsdaten", "entrenamiento", "entrainement",
        "entraînement", "apprentissage", "addestramento", "treino", "treinamento",
    ),
    "val": (
        "val", "valid", "validation", "dev", "validate", "valset", "validierung", "validierungsdaten", "validacion",
        "validación", "validazione", "validacao", "validação",
    ),
    "test": ("test", "testing", "tst", "testset", "holdout", "hold-out", "testdaten", "prueba", "pruebas", "teste"),
}  # fmt: skip
# What may stand behind such a word: train_images, "Test Data". Behind the short ones it would be something else.
_NOUNS = ("set", "data", "dataset", "images", "imgs", "split")
_SHORT = frozenset(("tr", "dev", "tst"))
_CANONICAL = {word: split for split, words in _WORDS.items() for word in words}

# What tables write where a label is not known: -1 for an uncertain finding (CheXpert), "nan" for an empty cell.
_UNKNOWN = frozenset((
    "?", "-", "--", "-1", "na", "n/a", "nan", "null", "unk", "unknown", "uncertain", "undefined", "indeterminate",
    "unbekannt", "unklar", "inconnu", "desconocido", "sconosciuto", "desconhecido",
))  # fmt: skip


def split_of(word: str) -> str | None:
    """Return "train", "val" or "test" for a word as people write it ("valid_", "Test Data", "Training"), else None."""
    words = unicodedata.normalize("NFC", word).strip().casefold().replace("_", " ").strip()
    if words in _CANONICAL:
        return _CANONICAL[words]
    side, _, noun = words.replace("-", " ").rpartition(" ")
    return _CANONICAL.get(side) if noun in _NOUNS and side not in _SHORT else None


def is_split_word(word: str) -> bool:
    """Whether a word names a side of a split."""
    return split_of(word) is not None


def may_mean_unknown(label: str) -> bool:
    """Whether a label reads like a sign for one that is not known: "-1.0", "nan", "Uncertain"."""
    return re.sub(r"\.0*$", "", label.strip().casefold()) in _UNKNOWN


def number(count: int, noun: str) -> str:
    """Return ``1 image``, ``2,000 images``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
