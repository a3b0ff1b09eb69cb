"""What a model's second answer says of an image by itself, and which sizes of detail it says it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wara.analysis.bands import describe_band
from wara.tuner.readout import readout_of

_WORDS = {"class token": "the class token", "mean": "the average over the picture"}


@dataclass(frozen=True)
class SecondOpinion:
    """What a readout (see `wara.tuner.readout`) says of one image.

    Attributes:
        probabilities: of each class, as it states them; half of the model's answer before calibration.
        parts: what it reads, in words: the class token, the average, and sizes of detail, coarse to fine.
        contributions: of each part to the score of the class explained over the other one, signed, in logits. They are
            exact, since the score is a sum; what is the same for all images is in none of them.
    """

    probabilities: tuple[float, ...]
    parts: tuple[str, ...]
    contributions: tuple[float, ...]

    def sentence(self, target: str, place: int) -> str:
        """Say what it gives to a class, at its place among the probabilities, and by what most of all."""
        share = self.probabilities[place]
        told = "The second opinion, half of the answer and read from the lower layers, gives"
        told = f"{told} {target} {100 * share:.0f} %"
        by, most = max(zip(self.parts, self.contributions, strict=True), key=lambda part: part[1])
        return f"{told}, most of all by {by}." if most > 0 else f"{told}."

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "probabilities": dict(zip(classes, self.probabilities, strict=True)),
            "parts": [
                {"name": name, "contribution": value}
                for name, value in zip(self.parts, self.contributions, strict=True)
            ],
        }


@torch.no_grad()
def second_opinion(
    model: nn.Module, images: Tensor, target: int, against: int, patch_size: int | None
) -> SecondOpinion | None:
    """Return what the readout of a model says of one image (1, 3, S, S); None where it has none.

    Args:
        model: a trained model, or a PEFT model of one; it is left as it was.
        images: normalised.
        target: place of the class that is explained.
        against: place of the class that it is compared with.
        patch_size: width of a token in pixels, for the words.
    """
    readout = readout_of(model)
    if readout is None or not readout.is_fitted:
        return None
    training = model.training
    model.eval()
    try:
        with readout.keeping() as kept:
            model(images)
    finally:
        model.train(training)
    read = kept[0].to(readout.weight.device)
    by_part = readout.scores_by_part(read)[0]
    levels = sum(part.isdigit() for part in readout.parts)
    words = [_WORDS.get(part) or f"detail of {_size(part, levels, patch_size)}" for part in readout.parts]
    return SecondOpinion(
        probabilities=tuple(readout.scores(read)[0].softmax(dim=0).tolist()),
        parts=tuple(words),
        contributions=tuple((by_part[target] - by_part[against]).tolist()),
    )


def _size(level: str, levels: int, patch_size: int | None) -> str:
    return describe_band(f"H{level}", levels, patch_size).size
