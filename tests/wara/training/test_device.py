"""Devices are found, and one that is not there is said so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wara.errors import InputError
from wara.training.device import autocast, peak_memory_mb, resolve_device, set_fused_attention


def test_auto_takes_the_gpu_where_there_is_one_and_the_cpu_otherwise() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"not on this machine \(seen: cuda\).*cpu"):
        resolve_device("cuda")


def test_precision_can_be_set() -> None:
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with autocast(torch.device("cpu"), "bfloat16"):
        assert layer(x).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "float32"):
        assert layer(x).dtype == torch.float32


def test_the_fused_kernel_is_used_on_a_cpu_only_outside_training() -> None:
    model = nn.Module()
    model.fused_attn = True
    set_fused_attention(model, torch.device("cpu"), training=True)
    assert model.fused_attn is False
    set_fused_attention(model, torch.device("cpu"), training=False)
    assert model.fused_attn is True


def test_peak_memory_grows_with_what_is_taken() -> None:
    before = peak_memory_mb(torch.device("cpu"))
    block = torch.ones(64 * 2**20)  # 256 MiB
    assert peak_memory_mb(torch.device("cpu")) >= max(before, block.numel() * 4 / 2**20)
    assert before > 10
