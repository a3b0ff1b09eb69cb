"""LoRA (or full) fine-tuning of a timm model as a researcher writes it: timm, PEFT, a DataLoader, a plain loop.

    python benchmarks/peers/lora_script.py DATA --weights model.safetensors [--bf16] [--method full --lr 3e-5]

DATA holds labels.csv with the columns file, label and split (train, val; other sides are not read). Every figure is a
JSON line: one an epoch (images/s of the training steps with their data, validation AUROC, seconds since the process
began), one at the end (peak memory of this process). Nothing of WaRA Studio is imported.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from pathlib import Path

import peft
import psutil
import timm
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from timm.data import resolve_model_data_config
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Images(Dataset):
    """The images of one side of labels.csv, read and transformed one by one."""

    def __init__(self, root: Path, labels: Path, side: str, classes: list[str], transform: transforms.Compose) -> None:
        with labels.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == side]
        self.files = [(root / row["file"], classes.index(row["label"])) for row in rows]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, target = self.files[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), target


def transform_of(model: nn.Module, train: bool) -> transforms.Compose:
    """Return the transform of one image: a light augmentation for training, then the model's size and normalisation."""
    config = resolve_model_data_config(model)
    size = config["input_size"][-1]
    steps = [transforms.Resize((size, size))]
    if train:
        steps += [
            transforms.RandomAffine(
                10, translate=(0.05, 0.05), scale=(0.9, 1.1), interpolation=transforms.InterpolationMode.BILINEAR
            ),
            transforms.ColorJitter(brightness=0.15, contrast=0.15),
        ]
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])])


def build(options: argparse.Namespace, num_classes: int) -> nn.Module:
    """Return the pretrained model with a fresh head; LoRA on qkv unless everything is trained."""
    overlay = {"file": str(options.weights)} if options.weights else None
    model = timm.create_model(
        options.model, pretrained=options.weights is not None, pretrained_cfg_overlay=overlay, num_classes=num_classes
    )
    if options.method == "full":
        return model
    config = peft.LoraConfig(
        r=options.rank, lora_alpha=2 * options.rank, target_modules=["qkv"], modules_to_save=["head"]
    )
    return peft.get_peft_model(model, config)


@torch.no_grad()
def validate(model: nn.Module, loader: DataLoader, autocast: torch.autocast) -> float:
    """Return the AUROC; of several classes the mean of one against the rest."""
    model.eval()
    scores, targets = [], []
    for images, target in loader:
        with autocast:
            logits = model(images)
        scores.append(logits.float().softmax(dim=1))
        targets.append(target)
    probabilities, target = torch.cat(scores).numpy(), torch.cat(targets).numpy()
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(target, probabilities[:, 1]))
    return float(roc_auc_score(target, probabilities, multi_class="ovr"))


def main() -> None:
    """Train and validate."""
    options = arguments()
    torch.manual_seed(options.seed)
    labels = options.labels or options.data / "labels.csv"
    with labels.open(newline="", encoding="utf-8") as file:
        classes = sorted({row["label"] for row in csv.DictReader(file)})
    model = build(options, len(classes))
    loaders = {
        side: DataLoader(
            Images(options.data, labels, side, classes, transform_of(model, side == "train")),
            batch_size=options.batch,
            shuffle=side == "train",
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
        )
        for side in ("train", "val")
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=options.lr, weight_decay=0.01)
    total = options.epochs * len(loaders["train"])
    warm_up = max(1, round(0.1 * total))

    def schedule(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.bf16)
    started = psutil.Process().create_time()
    seconds = images_seen = 0.0
    for epoch in range(1, options.epochs + 1):
        model.train()
        began = time.perf_counter()
        for images, target in loaders["train"]:
            optimiser.zero_grad()
            with autocast:
                loss = nn.functional.cross_entropy(model(images), target)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            scheduler.step()
            images_seen += len(images)
        seconds += time.perf_counter() - began
        auroc = validate(model, loaders["val"], autocast)
        tell(epoch=epoch, images_per_second=images_seen / seconds, val_auroc=auroc, seconds=time.time() - started)
    tell(peak_rss_mb=peak_rss_mb(), trained_parameters=sum(parameter.numel() for parameter in trained))


def peak_rss_mb() -> float:
    """Return this process's largest resident memory in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def tell(**figures: float) -> None:
    """Print figures as a JSON line."""
    print(json.dumps(figures), flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", type=Path, help="the table, when it is not DATA/labels.csv")
    parser.add_argument("--model", default="deit_tiny_patch16_224", help="a timm name")
    parser.add_argument("--weights", type=Path, help="its pretrained weights")
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--bf16", action="store_true", help="forward passes under bfloat16 autocast")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoader")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
