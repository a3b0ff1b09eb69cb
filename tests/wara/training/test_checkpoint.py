"""A checkpoint is whole or not there, and reading one runs no code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from wara.errors import InputError
from wara.training.checkpoint import Checkpoint


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    assert checkpoint.read() is None
    state = {"model": {"a": torch.randn(3)}, "epoch": 2, "history": [{"loss": 0.5, "auroc": None}]}

    checkpoint.write(state)

    found = checkpoint.read()
    assert found is not None
    assert torch.equal(found["model"]["a"], state["model"]["a"])
    assert (found["epoch"], found["history"]) == (2, state["history"])


def test_a_write_that_fails_half_way_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.write({"epoch": 1})

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write({"epoch": 2})

    assert checkpoint.read() == {"epoch": 1}


def test_a_damaged_checkpoint_is_an_error_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04nonsense")
    with pytest.raises(InputError, match="checkpoint of this run cannot be read"):
        Checkpoint(tmp_path).read()


def test_removing_takes_the_folder_away(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    checkpoint.write({"epoch": 1})
    checkpoint.remove()
    checkpoint.remove()
    assert not (tmp_path / "checkpoint").exists()
