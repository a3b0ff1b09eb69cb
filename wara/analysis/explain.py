"""Why a trained model chose a class for one image: the update's part by scale, beside where the model looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wara.analysis.attention import attention_relevance
from wara.analysis.relevance import STEPS, Relevance, UpdateRelevance
from wara.analysis.scales import Scale, scales_of
from wara.analysis.second_opinion import SecondOpinion, second_opinion
from wara.errors import InputError
from wara.imaging import read_squares
from wara.inference import Predictor
from wara.predictions import Prediction, three_channels

_HARDLY = 0.05  # a change of the score by less than this is called none


@dataclass(frozen=True)
class Explanation:
    """Why one image got its class.

    Attributes:
        file: the name that was given.
        classes: names of the model's classes.
        label: the class that the model calls the image, by its operating point where it has one.
        probabilities: of each class, calibrated, as the model answers them.
        target, against: the class explained (`label`, unless another was asked for) and the strongest other.
        scales: coarse to fine.
        contributions: of each scale to the score of `target` over `against`, signed, in logits.
        shares: size of each contribution among all scales, 0 to 1; None where the update did nothing.
        bands, by_band: the subbands, and their contributions.
        layers, by_layer: the layers, and the contribution of each scale in each, (L, scales).
        prefix: contribution by class and register tokens, which have no place in the picture.
        on, off: the score with the adapter and without it; their difference is all contributions and `residual`.
        residual: what the numerical integral leaves.
        maps: (scales, H, W) contributions of each patch, in logits.
        attention: (H, W) gradient-weighted attention, 0 or more; None where the model gives none.
        attention_note: why there is none.
        pixels: (S, S, 3) uint8, the picture as the model sees it.
        aspect: width over height at which the picture is to be shown (1 unless it was stretched to a square).
        patch_size: width of a token in pixels.
        own_transform: False for LoRA, looked at through a transform that is not its own.
        method: ``"wara"``, ``"tiny-wara"`` or ``"lora"``.
        second: what the second answer says by itself; None where the model has none. `on` and `off` are of both.
    """

    file: str
    classes: tuple[str, ...]
    label: str
    probabilities: tuple[float, ...]
    target: str
    against: str
    scales: tuple[Scale, ...]
    contributions: tuple[float, ...]
    shares: tuple[float, ...] | None
    bands: tuple[str, ...]
    by_band: tuple[float, ...]
    layers: tuple[str, ...]
    by_layer: tuple[tuple[float, ...], ...]
    prefix: float
    on: float
    off: float
    residual: float
    maps: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    attention_note: str | None
    pixels: NDArray[np.uint8]
    aspect: float
    patch_size: int | None
    own_transform: bool
    method: str
    second: SecondOpinion | None = None

    def sentence(self) -> str:
        """Say which scales carried the decision, and by how much; and what the second answer says, if any."""
        return read_explanation(self)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the picture as plain values."""
        shares = self.shares or (None,) * len(self.scales)
        return {
            "file": self.file,
            "label": self.label,
            "probabilities": dict(zip(self.classes, self.probabilities, strict=True)),
            "target": self.target,
            "against": self.against,
            "sentence": self.sentence(),
            "score": {"with": self.on, "without": self.off, "change": self.on - self.off, "residual": self.residual},
            "scales": [
                {
                    "name": scale.name, "size": scale.size, "bands": list(scale.bands), "contribution": contribution,
                    "share": share, "map": np.round(of_scale, 6).tolist(),
                }
                for scale, contribution, share, of_scale in zip(
                    self.scales, self.contributions, shares, self.maps.astype(float), strict=True
                )
            ],
            "bands": dict(zip(self.bands, self.by_band, strict=True)),
            "layers": [
                {"name": name, "contributions": list(row)}
                for name, row in zip(self.layers, self.by_layer, strict=True)
            ],
            "prefix": self.prefix,
            "attention": None if self.attention is None else np.round(self.attention.astype(float), 6).tolist(),
            "attention_note": self.attention_note,
            "method": self.method,
            "own_transform": self.own_transform,
            "second_opinion": None if self.second is None else self.second.to_json(self.classes),
        }  # fmt: skip


class Explainer:
    """Explains single images by one predictor; what a model's layers are is looked up once.

    Args:
        predictor: the trained model.

    Raises:
        InputError: the model has no adapter, or its tokens are no picture; see `UpdateRelevance`.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        with predictor.alone():
            self.relevance = UpdateRelevance(predictor.model)
        self.scales = tuple(scales_of(self.relevance.bands, self.relevance.levels, self.relevance.patch_size))

    def explain(self, content: bytes, name: str, *, target: str | None = None, steps: int = STEPS) -> Explanation:
        """Explain the class of one image; of a file all of whose frames are answered together, on the middle one.

        Args:
            content: the image file.
            name: its name, for the result and for errors.
            target: the class to explain; None takes the one that the model calls the image.
            steps: nodes of the integral, see `UpdateRelevance.measure`.

        Raises:
            InputError: the image cannot be read, or the model knows no such class.
        """
        predictor = self.predictor
        squares, aspect = self._read(content, name)
        pixels = squares[predictor.view.frame_of(len(squares)) - 1]
        images = predictor.normalised(pixels[None])
        answer = predictor.answers_of(squares, [len(squares)])[0]
        assert answer.label is not None  # the image was read
        wanted = _class_index(predictor.classes, answer.label if target is None else target)
        with predictor.alone():
            found = self.relevance.measure(images, [wanted], steps=steps)
            attention, note = None, None
            try:
                places = found.target.to(images.device), found.against.to(images.device)
                attention = attention_relevance(predictor.model, images, *places)[0].numpy()
            except InputError as error:
                note = error.sentence()
            places_of = int(found.target[0]), int(found.against[0])
            second = second_opinion(predictor.model, images, *places_of, self.relevance.patch_size)
        explanation = self._explanation(replace(answer, file=name), found, pixels, aspect, attention, note)
        return replace(explanation, second=second)

    def _read(self, content: bytes, name: str) -> tuple[list[NDArray[np.uint8]], float]:
        """Return a file's images as the model takes them, and width over height at which they are to be shown."""
        predictor, squares, aspect = self.predictor, [], 1.0
        fit: str = predictor.recipe["image"]["fit"]
        for square, decoded in read_squares(content, name, predictor.backbone.size, fit, predictor.view):
            squares.append(three_channels(square))
            height, width = decoded.pixels.shape[:2]
            aspect = width / height if fit == "stretch" else 1.0
        return squares, aspect

    def _explanation(
        self, answer: Prediction, found: Relevance, pixels: NDArray[np.uint8], aspect: float,
        attention: NDArray[np.float32] | None, note: str | None,
    ) -> Explanation:  # fmt: skip
        classes, scales = self.predictor.classes, self.scales
        by_scale = sum_by_scale(found.by_band.numpy(), scales)[0]
        return Explanation(
            file=answer.file,
            classes=classes,
            label=answer.label or "",
            probabilities=tuple((answer.probabilities or {}).values()),
            target=classes[int(found.target[0])],
            against=classes[int(found.against[0])],
            scales=scales,
            contributions=tuple(by_scale.tolist()),
            shares=shares_of(by_scale),
            bands=found.bands,
            by_band=tuple(found.by_band[0].tolist()),
            layers=found.layers,
            by_layer=tuple(tuple(row) for row in sum_by_scale(found.by_layer[0].numpy(), scales).tolist()),
            prefix=float(found.prefix[0].sum()),
            on=float(found.on[0]),
            off=float(found.off[0]),
            residual=float(found.residual[0]),
            maps=np.stack([found.maps[0, list(scale.rows)].sum(dim=0).numpy() for scale in scales]),
            attention=attention,
            attention_note=note,
            pixels=pixels,
            aspect=aspect,
            patch_size=self.relevance.patch_size,
            own_transform=self.relevance.own_transform,
            method=self.relevance.method,
        )


def sum_by_scale(by_band: NDArray[Any], scales: Sequence[Scale]) -> NDArray[np.float64]:
    """Add the subbands of each scale: (..., S) -> (..., scales)."""
    return np.stack([by_band[..., list(scale.rows)].astype(np.float64).sum(axis=-1) for scale in scales], axis=-1)


def shares_of(contributions: NDArray[np.float64]) -> tuple[float, ...] | None:
    """Return the size of each contribution among all, 0 to 1; None where all are nothing."""
    sizes = np.abs(contributions)
    total = float(sizes.sum())
    return tuple((sizes / total).tolist()) if total > 0 else None


def read_explanation(found: Explanation) -> str:
    """Say in plain words which scales of the update carried the decision."""
    change = found.on - found.off
    target = f"\N{LEFT DOUBLE QUOTATION MARK}{found.target}\N{RIGHT DOUBLE QUOTATION MARK}"
    against = f"\N{LEFT DOUBLE QUOTATION MARK}{found.against}\N{RIGHT DOUBLE QUOTATION MARK}"
    score = f"its score over {against} went from {_signed(found.off)} to {_signed(found.on)}"
    more = ""
    if found.second is not None:
        more = f" {found.second.sentence(target, found.classes.index(found.target))}"
    if found.shares is None or abs(change) < _HARDLY:
        return f"The adapter hardly changed this answer: {score}.{more}"
    direction = 1 if sum(found.contributions) >= 0 else -1
    parts = list(zip(found.scales, found.contributions, found.shares, strict=True))
    parts.sort(key=lambda part: -part[1] * direction)
    scale, _, share = parts[0]
    way = "towards" if direction > 0 else "away from"
    lead = f"The update of {scale.name} scales, {_size(scale)}, carried {_percent(share)} of the change {way} {target}"
    with_it = [part for part in parts[1:] if part[1] * direction > 0]
    against_it = [part for part in parts[1:] if part[1] * direction <= 0]
    rest = [f"{s.name} scales ({s.size}) {_percent(p)}" for s, _, p in with_it]
    back = [f"{s.name} scales ({s.size}) pulled the other way by {_percent(p)}" for s, _, p in against_it]
    sentences = [f"{lead}{', ' + _enumerate(rest) if rest else ''}{'; ' + _enumerate(back) if back else ''}."]
    token = f"; {_signed(found.prefix)} of that came by the class token, which has no place in the picture"
    sentences.append(f"In all, {score}{token if abs(found.prefix) >= _HARDLY else ''}.")
    return " ".join(sentences) + more


def _size(scale: Scale) -> str:
    return scale.size.replace("over ", "") + " and more" if scale.size.startswith("over ") else scale.size


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "less than 1 %"


def _signed(number: float) -> str:
    return f"{number:+.1f}".replace("-", "\N{MINUS SIGN}") if abs(number) >= 0.05 else "0.0"


def _enumerate(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _class_index(classes: Sequence[str], name: str) -> int:
    if name not in classes:
        raise InputError(
            "The model knows no class of this name", seen=name[:80], remedy=f"Choose one of {', '.join(classes)}.",
            code="class-not-found",
        )  # fmt: skip
    return list(classes).index(name)
