"""The embedded backbone, those from files, the hub that is not there, and the untrained one."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import RidgeClassifier

from wara import embedded
from wara.backbone_choices import UNTRAINED, list_backbones
from wara.backbones import load_backbone, outline_backbone
from wara.demo_drawing import CLASSES, render
from wara.embedded import ARCHITECTURE, EMBEDDED
from wara.errors import InputError

NAME = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_file(timm.create_model(NAME, num_classes=10).state_dict(), path)
    return path


def test_a_safetensors_file_fills_everything_but_the_head(weights: Path) -> None:
    backbone = load_backbone(f"{NAME}:{weights}", 3)

    assert (backbone.size, backbone.patch_size, backbone.head, backbone.pretrained) == (224, 16, "head", True)
    assert backbone.model(torch.zeros(1, 3, 224, 224)).shape == (1, 3)
    torch.manual_seed(3)
    expected = timm.create_model(NAME, num_classes=10)
    assert torch.equal(backbone.model.blocks[5].attn.qkv.weight, expected.blocks[5].attn.qkv.weight)


def test_a_pth_file_gives_the_same_backbone_wrapped_or_not(weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(weights)
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "w.pth")

    assert (
        load_backbone(f"{NAME}:{tmp_path / 'w.pth'}", 2).fingerprint
        == load_backbone(f"{NAME}:{weights}", 5).fingerprint
    )


def test_mean_and_deviation_come_from_timms_config(weights: Path) -> None:
    backbone = load_backbone(f"{NAME}:{weights}", 2)
    assert (backbone.mean, backbone.std) == (timm.get_pretrained_cfg(NAME).mean, timm.get_pretrained_cfg(NAME).std)


def test_another_image_size_resizes_the_position_embedding(weights: Path) -> None:
    backbone = load_backbone(f"{NAME}:{weights}", 2, image_size=160)
    assert backbone.size == 160
    assert backbone.model(torch.zeros(1, 3, 160, 160)).shape == (1, 2)


@pytest.mark.parametrize("size", [8, 16, 100])
def test_an_image_size_that_does_not_fit_the_patches_is_refused(weights: Path, size: int) -> None:
    for spec in (f"{NAME}:{weights}", EMBEDDED, UNTRAINED):
        with pytest.raises(InputError, match="Use a multiple of 16, at least 32"):
            load_backbone(spec, 2, image_size=size)


def test_the_untrained_backbone_takes_an_image_size() -> None:
    backbone = load_backbone(UNTRAINED, 2, image_size=64)
    assert backbone.size == 64
    assert backbone.model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_the_untrained_backbone_is_the_same_every_time_and_called_untrained() -> None:
    torch.manual_seed(1)
    first = load_backbone(UNTRAINED, 2)
    torch.manual_seed(2)
    second = load_backbone(UNTRAINED, 3)

    assert first.fingerprint == second.fingerprint
    assert not first.pretrained


def test_the_untrained_backbone_is_the_same_while_other_threads_draw_numbers() -> None:
    over = threading.Event()

    def draw() -> None:
        while not over.is_set():
            torch.rand(1000)

    other = threading.Thread(target=draw)
    other.start()
    try:
        fingerprints = {load_backbone(UNTRAINED, 2).fingerprint for _ in range(5)}
    finally:
        over.set()
        other.join()

    assert len(fingerprints) == 1


def test_a_file_of_another_architecture_is_refused_with_a_shape(weights: Path) -> None:
    with pytest.raises(InputError, match=r"does not belong to the architecture vit_small.*192.*384"):
        load_backbone(f"vit_small_patch16_224:{weights}", 2)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("deit_tiny_patch16_22", "Did you mean deit_tiny_patch16_224"),
        ("resnet18:none.pth", "does not exist"),
        (f"{NAME}:none.safetensors", "does not exist"),
        (NAME, "model hub is switched off"),
        (f"{NAME}.nope", "has no weights of this name"),
        ("deit_tiny_distilled_patch16_224", "two classifiers"),
    ],
)
def test_what_cannot_be_had_is_said_in_plain_words(spec: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_backbone(spec, 2)


def test_a_convolutional_network_is_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="not a vision transformer"):
        load_backbone(f"resnet18:{tmp_path / 'w.safetensors'}", 2)


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04broken", b"\x80\x04cos\nsystem\n"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_holds_no_plain_tensors_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as safetensors or as a plain PyTorch state dict"):
        load_backbone(f"{NAME}:{path}", 2)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Evil()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="files that hold program code are refused"):
        load_backbone(f"{NAME}:{tmp_path / 'w.pth'}", 2)
    assert not (tmp_path / "ran").exists()


def test_the_list_puts_the_embedded_first_and_the_untrained_last(weights: Path, tmp_path: Path) -> None:
    found = list_backbones((f"{NAME}:{weights}", f"vit_small_patch14_dinov2:{tmp_path / 'gone.pth'}"))

    assert [(info.name, info.source, info.available, info.pretrained, info.input_size) for info in found] == [
        (EMBEDDED, "embedded", True, True, 224), (NAME, "file", True, True, 224),
        ("vit_small_patch14_dinov2", "file", False, True, None), (UNTRAINED, "untrained", True, False, 224),
    ]  # fmt: skip
    assert load_backbone(found[1].spec, 2).name == NAME


def test_the_choices_are_told_without_torch() -> None:
    script = "import sys; from wara.backbone_choices import list_backbones; list_backbones(); "
    script += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_embedded_backbone_is_there_small_and_sees_more_than_random_weights() -> None:
    backbone = load_backbone(EMBEDDED, 3)

    assert (backbone.size, backbone.patch_size, backbone.source, backbone.pretrained) == (224, 16, "embedded", True)
    assert embedded.FILE.stat().st_size <= 8_000_000
    assert backbone.model(torch.zeros(1, 3, 224, 224)).shape == (1, 3)
    torch.manual_seed(1)
    assert load_backbone(EMBEDDED, 5).fingerprint == backbone.fingerprint

    # Frozen features of drawn findings: a ridge fitted on some tells the others apart, better than random weights do.
    pictures, targets = [], []
    for number in range(90):
        label = number % len(CLASSES)
        pictures.append(render(CLASSES[label], np.random.default_rng([7, number]), 224))
        targets.append(label)
    images = torch.from_numpy(np.stack(pictures)).float().unsqueeze(1).expand(-1, 3, -1, -1)
    images = (images - torch.tensor(embedded.MEAN).view(3, 1, 1)) / torch.tensor(embedded.STD).view(3, 1, 1)
    right = {}
    for name, model in (("embedded", backbone.model), ("random", timm.models.VisionTransformer(**ARCHITECTURE))):
        model.reset_classifier(0)
        with torch.inference_mode():
            features = model.eval()(images).numpy()
        fitted = RidgeClassifier(alpha=10.0).fit(features[:60], targets[:60])
        right[name] = fitted.score(features[60:], targets[60:])
    assert right["embedded"] >= 0.75 and right["embedded"] > right["random"] + 0.1, right


def test_an_installation_without_the_embedded_weights_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded, "FILE", tmp_path / "embedded.safetensors")

    assert not list_backbones()[0].available
    with pytest.raises(InputError, match="not in this installation"):
        load_backbone(EMBEDDED, 2)


def test_an_outline_takes_no_memory_and_refuses_what_loading_would() -> None:
    backbone = outline_backbone("vit_base_patch16_224", image_size=96)

    assert (backbone.size, backbone.patch_size, backbone.head) == (96, 16, "head")
    assert all(p.is_meta for p in backbone.model.parameters())
    for name, size, said in (
        ("resnet18", None, "not a vision transformer"),
        ("deit_tiny_distilled_patch16_224", None, "two classifiers"),
        (NAME, 100, "multiple of 16"),
        ("vit_nonsense", None, "Unknown backbone"),
    ):
        with pytest.raises(InputError, match=said):
            outline_backbone(name, image_size=size)
