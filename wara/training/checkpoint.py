"""One checkpoint a run, between steps, written whole or not at all, and read back without pickle's powers."""

from __future__ import annotations

import io
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wara.errors import InputError

FILE = "state.pt"
# What a killed process may lose, and how much of the time may go into keeping it.
EVERY_SECONDS = 60.0
_LARGEST_SHARE = 0.05


class Checkpoint:
    """The checkpoint of one run.

    Args:
        folder: where it lies, ``RUN/checkpoint``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = time.perf_counter()
        self._cost = 0.0

    def is_due(self) -> bool:
        """Tell whether the last one is old enough to be replaced within an epoch; large ones are written less often."""
        return time.perf_counter() - self._written >= max(EVERY_SECONDS, self._cost / _LARGEST_SHARE)

    def write(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by a state of tensors, numbers, strings, lists and dicts."""
        began = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{FILE}.part"
        buffer = io.BytesIO()  # torch's own file writer turns a full disk into an error of its own kind
        torch.save(state, buffer)
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / FILE)
        self._written = time.perf_counter()
        self._cost = self._written - began

    def read(self) -> dict[str, Any] | None:
        """Return the last state, or None when there is none.

        Raises:
            InputError: the file cannot be read.
        """
        path = self.folder / FILE
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


@dataclass
class Part:
    """What of an epoch is done, so that the rest of it comes out the same to the last bit.

    Attributes:
        step: steps done.
        seen: images in them.
        seconds: time that they took.
        loss_sum: their losses, weighted by images, on the device.
        random: states of the generators that dropout draws from: the processor's, then the GPU's.
    """

    step: int
    seen: int
    seconds: float
    loss_sum: Tensor
    random: list[Tensor]

    @classmethod
    def none(cls, device: torch.device) -> Part:
        """Return the part that is nothing yet."""
        return cls(0, 0, 0.0, torch.zeros((), device=device), [])

    @classmethod
    def read(cls, state: dict[str, Any], device: torch.device) -> Part:
        """Return the part that a checkpoint holds; those of earlier versions were written between epochs only."""
        if "part" not in state:
            return cls.none(device)
        part = cls(**state["part"])
        part.loss_sum = part.loss_sum.to(device)
        return part

    def advance(self, images: int, seconds: float) -> None:
        """Count a step; `seconds` are those since the epoch began."""
        self.step, self.seen, self.seconds = self.step + 1, self.seen + images, seconds

    def enter(self) -> bool:
        """Take up the generators where they were left; False at the beginning of an epoch."""
        if self.step == 0:
            return False
        torch.set_rng_state(self.random[0])
        if len(self.random) > 1:
            torch.cuda.set_rng_state(self.random[1])
        return True

    def to_state(self, device: torch.device) -> dict[str, Any]:
        """Return it as a checkpoint holds it."""
        random = [torch.get_rng_state()] if self.step else []
        if self.step and device.type == "cuda":
            random.append(torch.cuda.get_rng_state(device))
        return {**vars(self), "loss_sum": self.loss_sum.cpu(), "random": random}
