"""One checkpoint a run, written whole or not at all after every epoch, and read back without pickle's powers."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from wara.errors import InputError

_FILE = "state.pt"


class Checkpoint:
    """The checkpoint of one run.

    Args:
        folder: where it lies, ``RUN/checkpoint``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by a state of tensors, numbers, strings, lists and dicts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{_FILE}.part"
        buffer = io.BytesIO()  # torch's own file writer turns a full disk into an error of its own kind
        torch.save(state, buffer)
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / _FILE)

    def read(self) -> dict[str, Any] | None:
        """Return the last state, or None when there is none.

        Raises:
            InputError: the file cannot be read.
        """
        path = self.folder / _FILE
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes the reader stumble over anything
            raise InputError(
                "The checkpoint of this run cannot be read",
                seen=path.name,
                remedy="Start the run again without resuming.",
                code="checkpoint-unreadable",
            ) from error
        return state

    def remove(self) -> None:
        """Take the checkpoint away, once the run is whole without it."""
        shutil.rmtree(self.folder, ignore_errors=True)
