"""The words that name the sides of a split, in folders and in tables."""

from __future__ import annotations

SPLITS = ("train", "val", "test")
SIDE_NAMES = {"train": "training", "val": "validation", "test": "test"}

_WORDS = {
    "train": ("train", "training", "tr", "trainset", "training set"),
    "val": ("val", "valid", "validation", "dev", "validate", "valset", "validation set"),
    "test": ("test", "testing", "tst", "testset", "test set", "holdout", "hold-out"),
}
_CANONICAL = {word: split for split, words in _WORDS.items() for word in words}


def split_of(word: str) -> str | None:
    """Return "train", "val" or "test" for a word as people write it ("Validation", "valid_", "TRAIN"), else None."""
    return _CANONICAL.get(word.strip().casefold().replace("_", " ").strip())


def is_split_word(word: str) -> bool:
    """Whether a word names a side of a split."""
    return split_of(word) is not None


def number(count: int, noun: str) -> str:
    """Return ``1 image``, ``2,000 images``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
