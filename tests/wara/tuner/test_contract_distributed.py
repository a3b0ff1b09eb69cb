"""PEFT's contract, beside LoRA: two processes that share a batch have the gradients of one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.wara.tuner.methods import METHODS, Method, images

PROCESSES = 2
LABELS = torch.tensor([0, 1, 2, 0])


def _model(method: Method) -> nn.Module:
    torch.manual_seed(0)
    base = timm.models.VisionTransformer(img_size=32, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=3)
    return method.adapted(base, modules_to_save=["head"]).train()


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _work(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    found = {}
    for method in METHODS:  # all in one start of the processes, which is what takes the time
        model = _model(method)
        shared = DistributedDataParallel(model)
        mine = slice(rank, None, PROCESSES)
        F.cross_entropy(shared(images(4)[mine]), LABELS[mine]).backward()
        found[method.name] = _gradients(model)
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    torch.multiprocessing.spawn(_work, args=(port, str(tmp_path)), nprocs=PROCESSES)

    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    for method in METHODS:
        model = _model(method)
        F.cross_entropy(model(images(4)), LABELS).backward()
        for gradients in found:
            torch.testing.assert_close(gradients[method.name], _gradients(model), atol=1e-6, rtol=1e-4)
