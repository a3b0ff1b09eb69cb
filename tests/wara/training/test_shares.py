"""Shares of a batch, computed side by side, give what the whole batch gives, and the same bits every time."""

from __future__ import annotations

import copy
import threading

import peft
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.wara.support import CONFIGS
from wara.training.class_token import answering, class_token_only
from wara.training.lean import lean
from wara.training.shares import MOST, at_once, cut, learn, number_of, parts_of

CPU = torch.device("cpu")
SIZES = {"img_size": 40, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 3}


def vit(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.models.vision_transformer.VisionTransformer(**SIZES, **options)


def adapted(method: str) -> nn.Module:
    config = CONFIGS[method]
    return vit() if config is None else peft.get_peft_model(vit(), copy.deepcopy(config))


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def gradients(
    model: nn.Module, images: Tensor, targets: Tensor, number: int, precision: str, parts: int = 1
) -> list[Tensor]:
    def loss_of(some: Tensor, wanted: Tensor) -> Tensor:
        with answering(model, CPU, precision):
            logits = model(some)
        return F.cross_entropy(logits.float(), wanted) * (len(wanted) / len(targets))

    model.zero_grad()
    with class_token_only(model):
        loss = learn(loss_of, trained(model), images, targets, number, parts)
    return [loss, *(torch.zeros(()) if p.grad is None else p.grad.clone() for p in trained(model))]


@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize(("number", "parts"), [(2, 1), (3, 1), (1, 2), (2, 3)])
def test_loss_and_gradients_are_those_of_the_whole_batch(method: str, number: int, parts: int) -> None:
    model, images, targets = adapted(method), torch.randn(14, 3, 40, 40), torch.arange(14) % 3
    whole = gradients(model, images, targets, 1, "float32")
    for found, expected in zip(gradients(model, images, targets, number, "float32", parts), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_same_batch_gives_the_same_bits_whichever_thread_is_first() -> None:
    model, images, targets = adapted("wara"), torch.randn(32, 3, 40, 40), torch.arange(32) % 3
    with lean(model, CPU, "bfloat16"):
        runs = [gradients(model, images, targets, 4, "bfloat16") for _ in range(8)]
    for run in runs[1:]:
        assert all(torch.equal(found, first) for found, first in zip(run, runs[0], strict=True))


def test_gradients_are_added_to_those_that_are_there() -> None:
    model, images, targets = adapted("lora"), torch.randn(8, 3, 40, 40), torch.arange(8) % 3
    once = gradients(model, images, targets, 2, "float32")[1:]

    def loss_of(some: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(model(some), wanted) / 2

    learn(loss_of, trained(model), images, targets, 2)
    for parameter, first in zip(trained(model), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * first, rtol=1e-4, atol=1e-6)


def test_each_share_has_its_cores_and_the_caller_keeps_its_own() -> None:
    torch.set_num_threads(4)
    both_there = threading.Barrier(2, timeout=20)

    def function(_: Tensor) -> tuple[int, int]:
        both_there.wait()
        return threading.get_ident(), torch.get_num_threads()

    seen = at_once(function, [(torch.zeros(1),)] * 2)
    assert [cores for _, cores in seen] == [2, 2]
    assert len({thread for thread, _ in seen} | {threading.get_ident()}) == 3
    assert torch.get_num_threads() == 4


def test_a_share_that_fails_is_told_when_all_have_ended() -> None:
    ended: list[int] = []
    first_failed = threading.Event()

    def function(number: Tensor) -> None:
        if int(number) == 0:
            first_failed.set()
            raise MemoryError("no room")
        assert first_failed.wait(20)
        ended.append(int(number))

    with pytest.raises(MemoryError, match="no room"):
        at_once(function, [(torch.tensor(0),), (torch.tensor(1),)])
    assert ended == [1]


def test_few_images_make_fewer_shares_and_no_image_is_lost() -> None:
    for images, number, expected in ((3, 4, [3]), (9, 4, [5, 4]), (32, 3, [11, 11, 10])):
        shares = cut(number, torch.arange(images), torch.arange(images) + 100)
        assert [len(first) for first, _ in shares] == expected
        assert torch.cat([first for first, _ in shares]).tolist() == list(range(images))
        assert all(torch.equal(second, first + 100) for first, second in shares)


@pytest.mark.parametrize("options", [{"proj_drop_rate": 0.1}, {"drop_path_rate": 0.1}, {"patch_drop_rate": 0.5}])
def test_a_model_that_draws_itself_is_trained_in_one_piece(options: dict[str, float]) -> None:
    torch.set_num_threads(2)
    model = vit(**options)
    assert number_of(model.train(), CPU) == 1
    assert number_of(model.eval(), CPU) == 2


def test_statistics_over_a_batch_are_those_of_the_whole_batch() -> None:
    torch.set_num_threads(2)
    assert number_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train(), CPU) == 1


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (16, MOST)])
def test_there_are_as_many_shares_as_cores_up_to_four(cores: int, expected: int) -> None:
    torch.set_num_threads(cores)
    assert number_of(vit().train(), CPU) == expected


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_elsewhere_than_on_a_cpu_a_batch_stays_whole(device: str) -> None:
    torch.set_num_threads(2)
    assert number_of(vit(), torch.device(device)) == 1


@pytest.mark.parametrize(
    ("name", "images", "number", "expected"),
    [
        ("vit_tiny_patch16_224", 32, 2, 1),  # operations too short for fewer images at once
        ("vit_small_patch16_224", 32, 2, 2),
        ("vit_base_patch16_224", 32, 2, 4),
        ("vit_base_patch16_224", 32, 1, 8),
        ("vit_base_patch16_224", 6, 2, 1),
        ("resnet18", 32, 2, 1),
        ("vit_small_resnet26d_224", 32, 1, 1),  # statistics over a batch are those of all of it
    ],
)
def test_a_batch_of_a_wide_network_is_cut_into_parts(name: str, images: int, number: int, expected: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert parts_of(model, CPU, images, number) == expected
    assert parts_of(model, torch.device("cuda"), images, number) == 1


def test_adapters_change_nothing_about_the_parts() -> None:
    model = peft.get_peft_model(timm.create_model("vit_small_patch16_224"), peft.LoraConfig(target_modules=["qkv"]))
    assert parts_of(model, CPU, 32, 2) == 2


def test_one_share_is_computed_by_the_caller() -> None:
    threads: list[int] = []
    at_once(lambda _: threads.append(threading.get_ident()), [(torch.zeros(1),)])
    assert threads == [threading.get_ident()]
