"""Train the embedded backbone: a small ViT that learns to see what a larger pretrained one sees, on views of images.

    python -m tools.distil_backbone --teacher NAME:FILE --data FOLDER [--data FOLDER ...] --work FOLDER --out FILE

Every step draws strongly changed views of training images and of drawn images (`tools/synthetic_images.py`), asks the
teacher for its tokens (class and patches, half way up and at the end), and moves the student's towards them. Most
views are small, where a step costs a quarter; the last ones have the size that the backbone is used at. Labels are
never looked at, and of a data folder's `labels.csv` only the rows whose split is `train`.

It can be stopped at any moment and started again with the same arguments: it goes on from its last checkpoint in the
work folder. What is written is the student's moving average, in float16, with a JSON file that tells how it was made.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tools.training_images import TrainingImages
from tools.views import draw_views, normalised
from wara.embedded import ARCHITECTURE, MEAN, STD
from wara.training.device import autocast, resolve_device, set_fused_attention

_MIDDLE = {"teacher": 6, "student": 4}  # blocks after which tokens are compared half way up


@dataclass(frozen=True)
class Plan:
    """What decides the result.

    Attributes:
        views: views drawn in all.
        small, large: sides of the views in pixels.
        large_share: share of the views, the last ones, that are large.
        batch: views a step; large ones in batches of a quarter, so that a step has about as many tokens.
        lr: highest learning rate, after a warm-up of 5 % of the steps; it falls to 1 % of it along a cosine.
        weight_decay: of matrices.
        drawn: number of drawn images.
        drawn_share: their share of the views.
        average: decay of the moving average of the weights, a step.
        seed: of everything.
    """

    views: int = 400_000
    small: int = 112
    large: int = 224
    large_share: float = 0.15
    batch: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05
    drawn: int = 6_000
    drawn_share: float = 0.4
    average: float = 0.999
    seed: int = 0

    @property
    def steps(self) -> tuple[int, int]:
        """Numbers of steps with small and with large views."""
        large = round(self.views * self.large_share)
        return (self.views - large) // self.batch, large // (self.batch // 4)


class Student(nn.Module):
    """The backbone to be, and the two maps that only its training needs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone: Any = timm.models.VisionTransformer(**ARCHITECTURE, dynamic_img_size=True)
        self.to_middle = nn.Linear(ARCHITECTURE["embed_dim"], width)
        self.to_last = nn.Linear(ARCHITECTURE["embed_dim"], width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens half way up and at the end, (B, T, width) each, on the teacher's scale."""
        middle, last = _tokens(self.backbone, images, _MIDDLE["student"])
        return self.to_middle(middle), self.to_last(last)


def _tokens(model: Any, images: Tensor, block: int) -> tuple[Tensor, Tensor]:
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    middle = x
    for index, layer in enumerate(model.blocks, start=1):
        x = layer(x)
        if index == block:
            middle = x
    return middle, model.norm(x)


class Teacher(nn.Module):
    """A pretrained network whose tokens are given on one scale: each channel with mean 0 and deviation 1."""

    def __init__(self, name: str, file: Path) -> None:
        super().__init__()
        self.model: Any = timm.create_model(name, pretrained=False, dynamic_img_size=True)
        self.model.load_state_dict(load_file(file))
        self.eval().requires_grad_(False)
        width = int(self.model.embed_dim)
        for part in ("middle", "last"):
            self.register_buffer(f"{part}_mean", torch.zeros(2, width))
            self.register_buffer(f"{part}_deviation", torch.ones(2, width))

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Measure means and deviations of class token and patch tokens on some views."""
        for part, tokens in zip(("middle", "last"), _tokens(self.model, images, _MIDDLE["teacher"]), strict=True):
            for row, group in enumerate((tokens[:, :1].flatten(0, 1), tokens[:, 1:].flatten(0, 1))):
                self.get_buffer(f"{part}_mean")[row] = group.float().mean(dim=0)
                self.get_buffer(f"{part}_deviation")[row] = group.float().std(dim=0) + 1e-3

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens half way up and at the end, (B, T, width) each."""
        found = []
        for part, tokens in zip(("middle", "last"), _tokens(self.model, images, _MIDDLE["teacher"]), strict=True):
            mean, deviation = self.get_buffer(f"{part}_mean"), self.get_buffer(f"{part}_deviation")
            rows = (torch.arange(tokens.shape[1], device=tokens.device) > 0).long()
            found.append((tokens.float() - mean[rows]) / deviation[rows])
        return found[0], found[1]


def loss_of(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    """Return how far the student's tokens are from the teacher's: the class token counts as much as all patches."""
    total = torch.zeros(())
    for weight, ours, theirs in zip((0.3, 1.0), found, wanted, strict=True):
        error = F.smooth_l1_loss(ours.float(), theirs, reduction="none").mean(dim=2)
        total = total + weight * (error[:, 0].mean() + error[:, 1:].mean())
    return total


class Training:
    """The state of a training, its steps and its checkpoint."""

    def __init__(self, teacher: tuple[str, Path], images: TrainingImages, plan: Plan, device: torch.device) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.images, self.device = plan, images, device
        self.teacher = Teacher(*teacher).to(device)
        width = int(self.teacher.model.embed_dim)
        self.student, self.averaged = Student(width).to(device), Student(width).to(device)
        self.averaged.load_state_dict(self.student.state_dict())
        self.averaged.requires_grad_(False)
        set_fused_attention(self.student, device, training=True)
        self.optimisers = _optimisers(self.student, plan)
        self.step, self.seconds, self.history = 0, 0.0, list[dict[str, float]]()
        views = self._views(torch.Generator().manual_seed(plan.seed), plan.small, 256)
        self.teacher.calibrate(normalised(views))

    def start_from(self, file: Path) -> None:
        """Begin with the weights of an earlier result instead of random ones."""
        state = {name: value.float() for name, value in load_file(file).items()}
        for network in (self.student, self.averaged):
            network.backbone.load_state_dict(state)

    def run(self, checkpoint: Path, every_s: float = 120.0) -> None:
        """Go on to the end, with a checkpoint every few minutes."""
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        recent: list[float] = []
        while self.step < sum(self.plan.steps):
            recent.append(self._one_step())
            self.seconds = time.monotonic() - started
            if self.step % 50 == 0 or self.step == sum(self.plan.steps):
                self.history.append({"step": self.step, "loss": round(sum(recent) / len(recent), 4)})
                recent.clear()
                left = self.seconds / self.step * (sum(self.plan.steps) - self.step)
                print(f"step {self.step} of {sum(self.plan.steps)}, loss {self.history[-1]['loss']:.4f}, "
                      f"{self.seconds / 60:.1f} min, about {left / 60:.0f} min left", flush=True)  # fmt: skip
            if time.monotonic() - saved > every_s:
                self.save(checkpoint)
                saved = time.monotonic()
        self.save(checkpoint)

    def _one_step(self) -> float:
        plan, large = self.plan, self.step >= self.plan.steps[0]
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = plan.lr * _rate(self.step, sum(plan.steps))
        # Every step has numbers of its own, so that one that goes on later draws what it would have drawn.
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step + 1)
        side, count = (plan.large, plan.batch // 4) if large else (plan.small, plan.batch)
        views = self._views(generator, side, count)
        inputs = normalised(views).to(self.device)
        with autocast(self.device, "auto"):
            wanted = self.teacher(inputs)
            found = self.student(inputs)
        loss = loss_of(found, wanted)
        self.student.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        decay = min(plan.average, self.step / (self.step + 20))
        with torch.no_grad():
            for ours, theirs in zip(self.averaged.parameters(), self.student.parameters(), strict=True):
                ours.lerp_(theirs, 1 - decay)
        return float(loss.detach())

    def _views(self, generator: torch.Generator, side: int, count: int) -> Tensor:
        chosen = self.images.choose(count, self.plan.drawn_share, generator)
        return draw_views(self.images.read(chosen), side, generator)

    def save(self, file: Path) -> None:
        """Write everything that going on needs, or nothing."""
        state = {
            "student": self.student.state_dict(), "averaged": self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers], "step": self.step,
            "seconds": self.seconds, "history": self.history, "plan": asdict(self.plan),
        }  # fmt: skip
        part = file.with_suffix(".part")
        torch.save(state, part)
        part.replace(file)

    def load(self, file: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            SystemExit: it was made with another plan.
        """
        state = torch.load(file, map_location=self.device, weights_only=True)
        if state["plan"] != asdict(self.plan):
            raise SystemExit(f"{file} was made with {state['plan']}. Use those numbers, or another work folder.")
        self.student.load_state_dict(state["student"])
        self.averaged.load_state_dict(state["averaged"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]

    def export(self, out: Path, teacher: str) -> None:
        """Write the backbone in float16, and beside it how it was made."""
        out.parent.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().cpu().half().contiguous() for k, v in self.averaged.backbone.state_dict().items()}
        save_file(state, out)
        out.chmod(0o644)  # the library gives it to its owner alone; a container's user has to read it
        about = {
            "architecture": ARCHITECTURE, "mean": MEAN, "std": STD, "teacher": teacher,
            "images": self.images.counts(), "plan": asdict(self.plan), "steps": self.step,
            "hours": round(self.seconds / 3600, 2), "loss": self.history,
        }  # fmt: skip
        out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _optimisers(student: Student, plan: Plan) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon for the matrices of the blocks and AdamW for the rest, both with steps of AdamW's size.

    Muon (Jordan et al., 2024) makes each step of a matrix orthogonal; it gets as far as AdamW in fewer views.
    """
    blocks = [p for p in student.backbone.blocks.parameters() if p.dim() == 2]
    inside = set(map(id, blocks))
    rest = [p for p in student.parameters() if id(p) not in inside]
    return (
        torch.optim.Muon(blocks, lr=plan.lr, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": [p for p in rest if p.dim() > 1], "weight_decay": plan.weight_decay},
                {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
            ],
            lr=plan.lr, betas=(0.9, 0.98),
        ),
    )  # fmt: skip


def _rate(step: int, steps: int) -> float:
    warm = max(1, round(0.05 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def main(arguments: list[str] | None = None) -> int:
    """Train, or go on training, and write the backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="timm's name and a .safetensors file, joined by a colon")
    parser.add_argument("--data", type=Path, action="append", required=True, help="a folder with labels.csv")
    parser.add_argument("--work", type=Path, required=True, help="where images and checkpoints are kept meanwhile")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--start", type=Path, help="begin with the weights of an earlier result")
    parser.add_argument("--export", action="store_true", help="write what the last checkpoint holds, and stop")
    parser.add_argument("--device", default="auto")
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args(arguments)
    plan = Plan(**{name: getattr(options, name) for name in asdict(Plan())})
    name, _, file = options.teacher.partition(":")
    options.work.mkdir(parents=True, exist_ok=True)
    images = TrainingImages.prepare(options.data, options.work, plan.drawn)
    training = Training((name, Path(file)), images, plan, resolve_device(options.device))
    checkpoint = options.work / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    elif options.start is not None:
        training.start_from(options.start)
    if not options.export:
        training.run(checkpoint)
    training.export(options.out, name)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB after {training.seconds / 3600:.2f} h")
    return 0


if __name__ == "__main__":
    sys.exit(main())
