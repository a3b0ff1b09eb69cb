"""How fast the embedded backbone is beside its teacher's architecture: images/s of WaRA training and of inference.

    python -m benchmarks.embedded_backbone [--device auto|cpu|cuda] [--quick] [--json FILE]

Both run interleaved in one process on the same images, with the same adapter in all their blocks. The peer's weights
are untrained: only time is looked at. Ratios are images/s of the embedded backbone over the peer's in the same round.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from benchmarks import report
from benchmarks.timing import interleaved, ratio_of
from wara.backbones import Backbone, describe, load_backbone
from wara.embedded import EMBEDDED
from wara.training.device import autocast, resolve_device, set_fused_attention
from wara.training.methods import build, parameter_groups
from wara.training.recipe import Recipe

PEER = "deit_tiny_patch16_224"


class Side:
    """One backbone with WaRA in it, and the two steps that are measured."""

    def __init__(self, backbone: Backbone, images: Tensor) -> None:
        self.images, self.device = images, images.device
        self.labels = torch.arange(len(images), device=images.device) % 2
        recipe = Recipe.from_preset("quick", backbone=backbone.name)
        self.precision = recipe.precision
        self.model = build(backbone, recipe).to(images.device)
        self.optimiser = torch.optim.AdamW(parameter_groups(self.model, backbone, recipe), fused=images.is_cuda)

    def train(self) -> None:
        """One step of training."""
        self.model.train()
        set_fused_attention(self.model, self.device, training=True)
        self.optimiser.zero_grad()
        with autocast(self.device, self.precision):
            logits = self.model(self.images)
        nn.functional.cross_entropy(logits.float(), self.labels).backward()
        self.optimiser.step()

    def infer(self) -> None:
        """One step of inference."""
        self.model.eval()
        set_fused_attention(self.model, self.device, training=False)
        with torch.inference_mode(), autocast(self.device, self.precision):
            self.model(self.images)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three rounds, to try the command")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = resolve_device(options.device)
    rounds = 3 if options.quick else options.rounds
    images = torch.randn(options.batch, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(device)
    peer = describe(timm.create_model(PEER, pretrained=False, num_classes=2), PEER, "untrained", None)
    sides = {EMBEDDED: Side(load_backbone(EMBEDDED, 2), images), PEER: Side(peer, images)}
    print(f"WaRA, rank 8, batch {options.batch}, {device.type}, median of {rounds} interleaved rounds\n")
    print(f"| | {EMBEDDED}, images/s | {PEER}, images/s | ratio |\n|---|---|---|---|")
    rows = []
    for name in ("train", "infer"):
        seconds = interleaved({key: getattr(side, name) for key, side in sides.items()}, rounds)
        ours, theirs = (options.batch / statistics.median(seconds[key]) for key in (EMBEDDED, PEER))
        ratio, spread = ratio_of(seconds[PEER], seconds[EMBEDDED])
        what = {"train": "training", "infer": "inference"}[name]
        print(f"| {what} | {ours:.0f} | {theirs:.0f} | {ratio:.2f} ± {spread:.2f} |")
        row = report.row(what, ours, theirs, peer_name=PEER, unit="images/s", runs=rounds, spread=spread)
        rows.append({**row, "ratio": ratio})
    report.write(options.json, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
