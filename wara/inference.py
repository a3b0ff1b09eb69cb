"""A trained run as a warm predictor: images in, class probabilities out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wara.backbones import Backbone, load_backbone
from wara.errors import InputError
from wara.evaluation.answers import Answers
from wara.evaluation.novelty import WARNING, Novelty
from wara.evaluation.point_in_use import answers_in_use
from wara.home import remembered_weights
from wara.imaging import read_squares
from wara.imaging.view import DEFAULT_VIEW, DicomView
from wara.predictions import Prediction, Reader, ReadFile, answer_readable, three_channels
from wara.training import outputs
from wara.training.class_token import answering, class_token_only
from wara.training.device import is_bfloat16, resolve_device, set_fused_attention
from wara.training.features import HeadInputs
from wara.training.lean import ShortWays
from wara.training.methods import load
from wara.training.patches import centred
from wara.training.recipe import Recipe
from wara.training.shares import at_once, by_one_core, cut, number_of

_BATCH = 32
_SIZES = (1, 2, 4, 8, 16, 32)
# Weights of a network through which one image passes as fast by one core as by two: DeiT-Tiny has 6 million.
_LITTLE = 10_000_000
# Files a batch where one file may hold hundreds of frames.
_FILES_OF_FRAMES = 4
NO_ANSWERS = Answers()


class Predictor:
    """A trained model, ready to classify. Made by `load`; safe to use from several threads."""

    def __init__(
        self,
        model: nn.Module,
        backbone: Backbone,
        recipe: dict[str, Any],
        device: torch.device,
        precision: str,
        answers: Answers = NO_ANSWERS,
        novelty: Novelty | None = None,
    ) -> None:
        self.model, self.backbone, self.recipe, self.device = model, backbone, recipe, device
        self.classes: tuple[str, ...] = tuple(recipe["classes"])
        self.answers, self.novelty = answers, novelty
        self._precision = precision
        self._short: ShortWays | None = None
        if device.type == "cpu" and is_bfloat16(device, precision):
            self._short = ShortWays(model, (backbone.mean, backbone.std), trained=True)
        self.view = view_of(recipe)
        self.reader = Reader(backbone.size, recipe["image"]["fit"], self.view)
        self._mean = torch.tensor(backbone.mean, device=device).view(1, 3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(backbone.std, device=device).view(1, 3, 1, 1) * 255)
        self._lock = threading.Lock()
        self._weights = sum(parameter.numel() for parameter in model.parameters())

    @classmethod
    def load(
        cls, run: Path, *, device: str = "auto", backbone: str | None = None, precision: str | None = None
    ) -> Predictor:
        """Load a RUN folder.

        Args:
            run: the folder that training wrote.
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
            backbone: spec of the backbone, when its weights file has moved since; None takes the recipe's.
            precision: of the forward passes, ``"auto"``, ``"float32"`` or ``"bfloat16"``; None takes the recipe's.

        Raises:
            InputError: the folder is not a whole run, or the backbone is not the one that it was trained on.
        """
        stored = outputs.read_recipe(run)
        recipe = recipe_of(stored)
        spec = backbone or recipe.backbone
        if not spec:
            raise InputError(
                "The run does not say where its backbone's weights file is",
                seen=stored["backbone"]["name"],
                remedy="Name it with --backbone NAME:FILE.",
                code="backbone-needed",
            )
        loaded = load_backbone(spec, len(stored["classes"]), image_size=recipe.image_size)
        if loaded.fingerprint != stored["backbone"]["sha256"]:
            raise InputError(
                "The backbone is not the one that this run was trained on",
                seen=f"{loaded.name}, tensors {loaded.fingerprint[:12]}, expected {stored['backbone']['sha256'][:12]}",
                remedy="Give the weights file that was used for training with --backbone NAME:FILE.",
                code="backbone-changed",
            )
        model = load(loaded, recipe, run / outputs.ADAPTER)
        place = resolve_device(device)
        model = model.to(place)
        set_fused_attention(model, place, training=False)
        answers, novelty = answers_in_use(run), Novelty.load(run / outputs.NOVELTY)
        return cls(model, loaded, stored, place, precision or recipe.precision, answers, novelty)

    def predict(self, images: Iterable[tuple[str, bytes | InputError]]) -> list[Prediction]:
        """Classify images; one that cannot be read gets its reason and does not stop the others.

        Args:
            images: name and file content of each, or the reason why there is no content (a damaged zip member, say).
        """
        return list(self.predict_each(images))

    def predict_each(self, images: Iterable[tuple[str, bytes | InputError]]) -> Iterator[Prediction]:
        """Do as `predict` does, and give the answers a few at a time; no more images than those are held."""
        for batch in _batched(images, self.files_at_once):
            yield from self.answer([self.read(name, content) for name, content in batch])

    @property
    def files_at_once(self) -> int:
        """How many files are read before the model answers."""
        return _FILES_OF_FRAMES if self.view.frames == "all" else _BATCH

    def read(self, name: str, content: bytes | InputError) -> ReadFile:
        """Decode a file for this model, or say why that cannot be; does not touch the model itself."""
        return self.reader.read(name, content)

    def answer(self, files: Sequence[ReadFile]) -> list[Prediction]:
        """Classify files that were read, together; those that could not be read get their reason."""
        return answer_readable(files, self.answers_of)

    def answers_of(self, squares: Sequence[NDArray[np.uint8]], counts: Sequence[int]) -> list[Prediction]:
        """Return the answer for each file, without its name, from its squares (size, size, 3), `counts` of each."""
        runs = [self._run_some(squares[start:stop], size) for start, stop, size in pieces(len(squares))]
        raw, features = (mean_of_frames(np.concatenate(rows), counts) for rows in zip(*runs, strict=True))
        calibrated = self.answers.calibrated(raw)
        labels, sets = self.answers.labels(calibrated), self.answers.sets(calibrated)
        finite = np.isfinite(features).all(axis=1)
        novel = np.zeros(len(raw), dtype=bool)
        if self.novelty is not None:
            novel[finite] = self.novelty.distances(features[finite]) > self.novelty.threshold
        return [
            Prediction(
                file="",
                label=self.classes[labels[i]],
                probabilities=dict(zip(self.classes, calibrated[i].tolist(), strict=True)),
                uncalibrated=dict(zip(self.classes, raw[i].tolist(), strict=True)),
                classes=None if sets is None else tuple(np.array(self.classes, dtype=object)[sets[i]]),
                warning=WARNING if novel[i] else None,
            )
            for i in range(len(raw))
        ]

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the network's own class probabilities (n, k) of squares (n, size, size, 3), not calibrated."""
        return self._run(pixels)[0]

    def _run_some(
        self, squares: Sequence[NDArray[np.uint8]], size: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Run squares as a batch of `size`, the last of them repeated to fill it."""
        filled = [*squares, *[squares[-1]] * (size - len(squares))]
        probabilities, features = self._run(np.stack(filled))
        return probabilities[: len(squares)], features[: len(squares)]

    def _run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return probabilities (n, k) and the inputs of the head (n, d)."""
        images = self._images(pixels)
        short = nullcontext() if self._short is None else self._short.in_place()
        # No hook is in the model but ours, which tells threads apart: a batch may be computed in shares.
        shares = cut(number_of(self.model, self.device), images)
        with self._lock, short, class_token_only(self.model), HeadInputs(self.model, self.backbone) as caught:

            def forward(some: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
                with torch.inference_mode(), answering(self.model, self.device, self._precision):
                    logits: Tensor = self.model(some)
                return logits.float().softmax(dim=1).cpu().double().numpy(), caught.array()

            if self._is_little(len(images)):
                return by_one_core(lambda: forward(images))
            probabilities, features = zip(*at_once(forward, shares), strict=True)
        return np.concatenate(probabilities), np.concatenate(features)

    def _is_little(self, images: int) -> bool:
        """Whether threads that compute a pass together would mostly wait for each other, at the end of every layer."""
        return images == 1 and self._weights < _LITTLE and self.device.type == "cpu"

    def _images(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return squares (n, size, size, 3) as the model's short ways take them: normalised, or as pixels."""
        if self._short is None or not self._short.takes_pixels:
            return self.normalised(pixels)
        return centred(torch.tensor(pixels)).permute(0, 3, 1, 2)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other thread from the model, for work that puts hooks into it or changes it for a while."""
        with self._lock:
            yield

    def normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return squares (n, size, size, 3) as the model takes them: (n, 3, size, size) float32 on its device."""
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).to(self.device).float()
        return (images - self._mean) * self._scale


def pieces(images: int) -> Iterator[tuple[int, int, int]]:
    """Divide images into batches of few different sizes; yield first, end and size of each.

    The CPU's kernels are made anew for every size and kept: all sizes from 1 to 32 took 560 MiB more for the embedded
    backbone, these six 50. A batch is filled up where that wastes a quarter of it at most.
    """
    start = 0
    while (left := images - start) > 0:
        above = next((size for size in _SIZES if size >= left), _BATCH)
        size = above if left >= above * 3 / 4 else max(size for size in _SIZES if size <= left)
        yield start, start + min(size, left), size
        start += min(size, left)


def read_rgb_squares(
    content: bytes, name: str, size: int, fit: str, view: DicomView = DEFAULT_VIEW, frame: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a file as the (size, size, 3) squares that training saw; grey is repeated.

    Raises:
        UnreadableImage: the image cannot be read.
    """
    for square, _ in read_squares(content, name, size, fit, view, frame):
        yield three_channels(square)


def read_rgb_square(content: bytes, name: str, size: int, fit: str) -> NDArray[np.uint8]:
    """Return an image as the (size, size, 3) square that training saw; of several frames the middle one.

    Raises:
        UnreadableImage: the image cannot be read.
    """
    return next(read_rgb_squares(content, name, size, fit))


def mean_of_frames(rows: NDArray[np.float64], counts: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean of each file's rows (files, k) from the rows of all (frames, k) and how many each file has."""
    if len(rows) == len(counts):
        return rows  # one each: nothing is rounded anew
    starts = np.cumsum([0, *counts[:-1]])
    means: NDArray[np.float64] = np.add.reduceat(rows, starts) / np.asarray(counts)[:, None]
    return means


def view_of(stored: dict[str, Any]) -> DicomView:
    """Return how the run of a stored recipe.json looked at DICOM files; older runs took files of one image only."""
    return DicomView(
        stored.get("frames", DEFAULT_VIEW.frames),
        stored.get("window", DEFAULT_VIEW.window),
    )


def recipe_of(stored: dict[str, Any]) -> Recipe:
    """Return the `Recipe` inside a stored recipe.json."""
    names = Recipe.__dataclass_fields__
    fields = {key: value for key, value in stored.items() if key in names and key != "backbone"}
    return Recipe(backbone=spec_of(stored["backbone"]), **fields)


def spec_of(backbone: dict[str, Any]) -> str:
    """Return a spec from what is stored of a backbone; empty for a weights file that is not where it was.

    Raises:
        InputError: the name would name a file too, which a run from elsewhere must not choose.
    """
    if ":" in str(backbone["name"]):
        raise InputError(
            "The run names its backbone in a way that no training writes", seen=str(backbone["name"])[:100],
            remedy="Copy the run folder again from where it was made.", code="run-damaged",
        )  # fmt: skip
    if backbone["source"] != "file":
        return str(backbone["name"])
    file = remembered_weights(backbone["sha256"])
    return f"{backbone['name']}:{file}" if file is not None else ""


def _batched(
    images: Iterable[tuple[str, bytes | InputError]], size: int
) -> Iterator[list[tuple[str, bytes | InputError]]]:
    batch: list[tuple[str, bytes | InputError]] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
