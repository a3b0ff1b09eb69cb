"""Weights files of backbones: read as plain tensors, put into an architecture, and told apart by a fingerprint."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from wara.errors import InputError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a PyTorch state dict that holds nothing but tensors.

    Raises:
        InputError: no such file, or one that cannot be read so.
    """
    if not path.is_file():
        raise InputError(
            "The weights file does not exist",
            seen=path.name,
            remedy="Check the path behind the colon.",
            code="weights-missing",
        )
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise whatever an arbitrary byte sequence makes them stumble over
        raise InputError(
            "The weights file cannot be read as safetensors or as a plain PyTorch state dict",
            seen=path.name,
            remedy="Save the model's state_dict as .safetensors; files that hold program code are refused.",
            code="weights-unreadable",
        ) from error
    for wrapper in ("state_dict", "model", "model_state", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    tensors = {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(
        state, dict) else {}  # fmt: skip
    if not tensors:
        raise InputError(
            "The weights file holds no tensors", seen=path.name, remedy="Give a model's state_dict.",
            code="weights-unreadable",
        )  # fmt: skip
    return tensors


def fill(model: nn.Module, state: dict[str, Tensor], name: str, file: str) -> None:
    """Load pretrained tensors into a model, all but the head.

    Raises:
        InputError: the file does not fit the architecture; nothing is loaded.
    """
    head = set(head_keys(model))
    own = model.state_dict()
    wanted = {key for key in own if key not in head}
    fits = wanted <= state.keys() and all(state[key].shape == own[key].shape for key in wanted)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if not fits and convert is not None:
        # timm's own reading of other layouts (original DINO, MAE, JAX names ...) and of another image size. A layout
        # that it does not know either raises one of these; the comparison below says what does not fit.
        with contextlib.suppress(KeyError, RuntimeError, AttributeError, IndexError, TypeError, ValueError):
            state = convert(state, model)
    missing = sorted(wanted - state.keys())
    wrong = sorted(key for key in wanted & state.keys() if state[key].shape != own[key].shape)
    if missing or wrong:
        if wrong:
            key = wrong[0]
            detail = f"{key} is {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the architecture"
        else:
            detail = f"{len(missing)} of {len(wanted)} tensors are missing, e.g. {missing[0]}"
        raise InputError(
            f"The weights file does not belong to the architecture {name}: {detail}",
            seen=file,
            remedy="Name the architecture that the file was saved from (as in NAME:FILE on the command line).",
            code="weights-mismatch",
        )
    model.load_state_dict({key: state[key] for key in wanted}, strict=False)


def head_keys(model: nn.Module) -> Iterator[str]:
    """Yield the names of the head's tensors, by timm's config."""
    names = model.pretrained_cfg.get("classifier") or "head"  # type: ignore[union-attr,operator]
    for name in (names,) if isinstance(names, str) else names:
        yield from (f"{name}.weight", f"{name}.bias")


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 over all tensors but the head's."""
    digest, head = hashlib.sha256(), set(head_keys(model))
    for key, value in sorted(model.state_dict().items()):
        if key not in head and not value.is_meta:
            digest.update(key.encode())
            digest.update(value.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
