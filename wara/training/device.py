"""Which device a run uses, at which precision, and how much memory it took."""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import nn

from wara.errors import InputError


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device of a name; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: the device is not here.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, here in present.items() if here))
    if not present.get(name, False):
        here = ", ".join(kind for kind, is_here in present.items() if is_here)
        raise InputError(
            "This device is not on this machine", seen=name, remedy=f"Use auto, or one of: {here}.",
            code="device-missing",
        )  # fmt: skip
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Return a name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else {"mps": "Apple GPU"}.get(device.type, "CPU")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        capability = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(capability.get("amx_bf16") or capability.get("avx512_bf16"))
    return False


def is_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether forward passes run in bfloat16 at a precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``."""
    return precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which forward passes run: bfloat16 autocast, or nothing."""
    if is_bfloat16(device, precision):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def set_fused_attention(model: nn.Module, device: torch.device, *, training: bool) -> None:
    """Choose the attention kernel: on a CPU the fused one is fast forward, but 45 % of a training step backward."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", device.type != "cpu" or not training)  # noqa: B010  # timm's plain attribute


def peak_memory_mb(device: torch.device) -> float | None:
    """Return the largest memory so far in MiB: of the GPU where there is one, else of the process; None on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        # Not getrusage's figure where there is this one: a process inherits that from the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
