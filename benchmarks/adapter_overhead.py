"""What an adapter costs: training and inference steps of LoRA, WaRA and Tiny-WaRA beside the frozen backbone.

    python -m benchmarks.adapter_overhead [--backbone TIMM-NAME] [--device auto|cpu|cuda] [--quick] [--json FILE]

All variants run interleaved in one process on the same images: the frozen backbone with a head, PEFT's LoRA, WaRA,
Tiny-WaRA, and WaRA as it is written, with pytorch_wavelets on all channels of the layer. Ratios are over LoRA's of the
same round. Peak memory is that of a process of its own for each. Weights are untrained: only time is looked at.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import timm
import torch
from torch import Tensor, nn

from benchmarks import report
from benchmarks.timing import interleaved, ratio_of
from wara.training.device import autocast, has_fast_bfloat16, peak_memory_mb, resolve_device, set_fused_attention
from wara.tuner import TinyWaraConfig, WaraConfig
from wara.tuner.layer import WaraLinear

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWTForward, DWTInverse

PEER = "lora"
WRITTEN = "wara, written form"
KEPT = "wara, frozen weights kept in bfloat16"
VARIANTS = ("frozen backbone", PEER, "wara", "tiny-wara", WRITTEN, KEPT)
RANK = 8


class WrittenForm(nn.Module):
    """WaRA as the formula stands: DWT of all input channels, adapter in every subband, inverse DWT of all outputs."""

    def __init__(self, layer: WaraLinear) -> None:
        super().__init__()
        self.base, self.layer = layer.get_base_layer(), layer
        path = layer.wara_transform["default"]
        self.grid, subbands = path.grid, path.subbands
        self.forward_transform = DWTForward(J=subbands.levels, wave=subbands.wavelet, mode=subbands.mode)
        self.inverse_transform = DWTInverse(wave=subbands.wavelet, mode=subbands.mode)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted layer's output for tokens (B, P + N, in)."""
        rows, columns, prefix = self.grid
        down, up = self.layer.factors("default")
        gains = self.layer.wara_gain["default"]

        def adapt(tokens: Tensor, gain: Tensor) -> Tensor:
            return nn.functional.linear(nn.functional.linear(tokens, down) * gain, up)

        images = x[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))
        with torch.autocast(x.device.type, enabled=False):  # the transform has no kernels in half precision
            low, high = self.forward_transform(images.float())
        new_low = adapt(low.movedim(1, -1), gains[0]).movedim(-1, 1)
        levels = len(high)
        new_high = []
        for level, band in enumerate(high):
            first = 1 + 3 * (levels - 1 - level)
            gain = gains[first : first + 3].reshape(3, 1, 1, 1)
            new_high.append(adapt(band.movedim(1, -1), gain).movedim(-1, 1))
        with torch.autocast(x.device.type, enabled=False):
            update = self.inverse_transform((new_low.float(), [band.float() for band in new_high]))
        update = update[..., :rows, :columns].flatten(2).transpose(1, 2)
        update = torch.cat([adapt(x[:, :prefix], gains[0]).to(update.dtype), update], dim=1)
        output = self.base(x)
        return output + update.to(output.dtype)


class Variant:
    """One model with its optimiser, and the two steps that are measured."""

    def __init__(self, name: str, options: argparse.Namespace, images: Tensor) -> None:
        self.device, self.images = images.device, images
        self.labels = torch.arange(len(images), device=images.device) % 2
        self.precision = options.precision
        self.model = build(name, options.backbone, options.wavelet, options.levels).to(images.device)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-4, fused=images.is_cuda)

    def train(self) -> None:
        """One step of training."""
        self.model.train()
        set_fused_attention(self.model, self.device, training=True)
        self.optimiser.zero_grad()
        with autocast(self.device, self.precision):
            loss = nn.functional.cross_entropy(self.model(self.images).float(), self.labels)
        loss.backward()
        self.optimiser.step()

    def infer(self) -> Tensor:
        """One step of inference."""
        self.model.eval()
        set_fused_attention(self.model, self.device, training=False)
        with torch.inference_mode(), autocast(self.device, self.precision):
            scores: Tensor = self.model(self.images)
        return scores


def build(name: str, backbone: str, wavelet: str, levels: int) -> nn.Module:
    """Return a model of one variant; all start from the same weights."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=2)
    shared: dict[str, Any] = {"target_modules": ["qkv"], "modules_to_save": ["head"]}
    if name == "frozen backbone":
        model.requires_grad_(False)
        model.head.requires_grad_(True)
        return model
    if name == PEER:
        return peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, **shared))
    waves = {"wavelet": wavelet, "levels": levels}
    if name == "tiny-wara":
        return peft.get_peft_model(model, TinyWaraConfig(**waves, **shared))
    adapted = peft.get_peft_model(model, WaraConfig(r=RANK, wara_alpha=2 * RANK, **waves, **shared))
    if name == KEPT:  # what autocast makes of these weights at every step, made once: the same numbers
        for module in adapted.modules():
            if type(module) in (nn.Linear, nn.Conv2d):
                for parameter in module.parameters():
                    if not parameter.requires_grad:
                        parameter.data = parameter.data.to(torch.bfloat16)
    if name == WRITTEN:
        for module in list(adapted.modules()):
            for child_name, child in list(module.named_children()):
                if isinstance(child, WaraLinear):
                    setattr(module, child_name, WrittenForm(child))
    return adapted


def main() -> int:
    """Measure and print the table."""
    options = _parser().parse_args()
    if options.memory_of is not None:
        print(_own_peak(options.memory_of, options))
        return 0
    device = resolve_device(options.device)
    images = _images(options, device)
    in_bfloat16 = options.precision != "float32" and has_fast_bfloat16(device)
    names = [name for name in VARIANTS if name != KEPT or in_bfloat16]
    variants = {name: Variant(name, options, images) for name in names}
    _require_equal(variants["wara"], variants[WRITTEN])
    trained = _measure({name: v.train for name, v in variants.items()}, options)
    inferred = _measure({name: v.infer for name, v in variants.items()}, options)
    del variants
    memory = {name: _peak_in_own_process(name, options) for name in names}
    precision = "bfloat16" if in_bfloat16 else "float32"
    print(
        f"{options.backbone}, batch {len(images)}, {options.wavelet}, {options.levels} levels, {device.type}, "
        f"{precision}, median of {options.rounds} interleaved rounds; ratio over LoRA in the same round\n"
    )
    print("| variant | training step | ratio | inference step | ratio | peak memory | ratio |\n|" + "---|" * 7)
    rows = []
    for name in names:
        cells = [name]
        for what, seconds in (("training step", trained), ("inference step", inferred)):
            ratio, spread = ratio_of(seconds[name], seconds[PEER])
            median = statistics.median(seconds[name])
            cells += [f"{1e3 * median:.1f} ms", f"{ratio:.3f} ± {spread:.3f}"]
            row = report.row(
                f"{name}, {what}", median, statistics.median(seconds[PEER]), peer_name=PEER, unit="s",
                runs=options.rounds, spread=spread,
            )  # fmt: skip
            rows.append({**row, "ratio": ratio})
        cells += [f"{memory[name]:,.0f} MiB", f"{memory[name] / memory[PEER]:.3f}"]
        rows.append(report.row(f"{name}, peak memory", memory[name], memory[PEER], peer_name=PEER, unit="MiB", runs=1))
        print("| " + " | ".join(cells) + " |")
    faster, spread = ratio_of(trained[WRITTEN], trained["wara"])
    print(f"\nA training step of WaRA is {faster:.2f} ± {spread:.2f} times faster than that of its written form.")
    report.write(options.json, rows)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="deit_tiny_patch16_224", help="a timm name")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--wavelet", default="haar")
    parser.add_argument("--levels", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three rounds, to try the command")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser


def _images(options: argparse.Namespace, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    side = timm.get_pretrained_cfg(options.backbone).input_size[1]
    return torch.randn(options.batch, 3, side, side, generator=generator).to(device)


def _measure(steps: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, list[float]]:
    options.rounds = 3 if options.quick else options.rounds
    return interleaved(steps, options.rounds)


def _require_equal(ours: Variant, written: Variant) -> None:
    """Both forms must be the same function, or comparing their times says nothing."""
    with torch.no_grad():
        for variant in (ours, written):
            generator = torch.Generator().manual_seed(2)
            for module in variant.model.modules():
                if isinstance(module, WaraLinear):
                    for parameter in (module.wara_B["default"], module.wara_gain["default"]):
                        parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
        sides = [variant.model.eval()(variant.images[:2]) for variant in (ours, written)]
    torch.testing.assert_close(*sides, atol=1e-3, rtol=1e-3)


def _own_peak(name: str, options: argparse.Namespace) -> float:
    device = resolve_device(options.device)
    variant = Variant(name, options, _images(options, device))
    for _ in range(3):
        variant.train()
    return peak_memory_mb(device) or 0.0


def _peak_in_own_process(name: str, options: argparse.Namespace) -> float:
    command = [
        sys.executable, "-W", "ignore", "-m", "benchmarks.adapter_overhead", "--memory-of", name,
        "--backbone", options.backbone, "--device", options.device, "--precision", options.precision,
        "--batch", str(options.batch), "--wavelet", options.wavelet, "--levels", str(options.levels),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
