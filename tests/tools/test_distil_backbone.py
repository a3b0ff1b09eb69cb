"""The backbone's training sees training images alone, learns, goes on where it stopped, and writes what loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tools import distil_backbone
from tools.distil_backbone import ARCHITECTURE, Plan, Training
from tools.training_images import SIDE, TrainingImages

TEACHER = "vit_tiny_patch16_224"
PLAN = Plan(views=48, small=32, large=64, large_share=0.25, batch=8, lr=1e-3, drawn=4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of six training images, whose other images cannot be read, and a teacher."""
    root = tmp_path_factory.mktemp("place")
    data = root / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    rows = ["file,label,split"]
    for number in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 60), dtype=np.uint8)).save(data / f"{number}.png")
        rows.append(f"{number}.png,a,train")
    for side in ("val", "test"):
        (data / f"{side}.png").write_bytes(b"not to be opened")
        rows.append(f"{side}.png,a,{side}")
    (data / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    save_file(timm.create_model(TEACHER, pretrained=False).state_dict(), root / "teacher.safetensors")
    TrainingImages.prepare([data], root, PLAN.drawn)
    return root


def training(place: Path, plan: Plan = PLAN) -> Training:
    images = TrainingImages.prepare([place / "data"], place, plan.drawn)
    return Training((TEACHER, place / "teacher.safetensors"), images, plan, torch.device("cpu"))


def test_images_of_the_training_split_alone_are_opened(place: Path) -> None:
    images = TrainingImages.prepare([place / "data"], place, PLAN.drawn)

    assert images.counts() == {"data": 6, "drawn images": 4}
    chosen = images.choose(200, 0.25, torch.Generator().manual_seed(0))
    assert images.read(chosen[:3]).shape == (3, 3, SIDE, SIDE)
    assert 25 < int((chosen[:, 0] == 1).sum()) < 80  # the share of drawn images


def test_steps_bring_the_student_nearer_to_the_teacher(place: Path) -> None:
    plan = Plan(views=320, small=32, large=32, large_share=0.0, batch=8, lr=2e-3, drawn=4)
    run = training(place, plan)
    losses = [run._one_step() for _ in range(40)]

    assert np.mean(losses[-8:]) < 0.97 * np.mean(losses[:8])


def test_one_that_was_stopped_ends_like_one_that_was_not(place: Path, tmp_path: Path) -> None:
    whole, before = training(place), training(place)
    whole.run(tmp_path / "whole.pt")
    for _ in range(4):
        before._one_step()
    before.save(tmp_path / "stopped.pt")

    after = training(place)
    after.load(tmp_path / "stopped.pt")
    after.run(tmp_path / "stopped.pt")

    assert (after.step, whole.step) == (10, 10)  # four of small views, six of large ones
    for ours, theirs in zip(after.averaged.state_dict().values(), whole.averaged.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_another_plan_is_refused(place: Path, tmp_path: Path) -> None:
    training(place).save(tmp_path / "checkpoint.pt")

    with pytest.raises(SystemExit, match=r"was made with .*'lr': 0\.001.* Use those numbers, or another work folder"):
        training(place, Plan(**{**vars(PLAN), "lr": 5.0})).load(tmp_path / "checkpoint.pt")


def test_the_command_writes_a_backbone_in_float16_and_how_it_was_made(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in vars(PLAN).items()]
    out = tmp_path / "new" / "backbone.safetensors"
    code = distil_backbone.main(
        ["--teacher", f"{TEACHER}:{place / 'teacher.safetensors'}", "--data", str(place / "data"),
         "--work", str(place), "--out", str(out), "--device", "cpu", *options]
    )  # fmt: skip

    (place / "checkpoint.pt").unlink()
    state, about = load_file(out), json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert code == 0 and "MB after" in capsys.readouterr().out
    assert {value.dtype for value in state.values()} == {torch.float16}
    timm.models.VisionTransformer(**ARCHITECTURE).load_state_dict({k: v.float() for k, v in state.items()})
    assert out.stat().st_size < 8_000_000
    assert (about["teacher"], about["steps"], about["images"]["data"]) == (TEACHER, 10, 6)
