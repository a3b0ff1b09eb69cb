"""PEFT's contract, beside LoRA: precisions, gradients only where they belong, checkpointing."""

from __future__ import annotations

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import METHODS, Method, each_of_ours, every_method, images, snapshot, trained
from wara.tuner import adapted_layers

LABELS = torch.tensor([0, 1, 2, 0])
low_precision = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])


def _loss(model: nn.Module, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    outputs = model(images(4).to(dtype))
    return F.cross_entropy(outputs if dtype == torch.float64 else outputs.float(), LABELS)


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@every_method
def test_only_the_adapter_and_the_head_require_gradients(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])

    head = {name for name in trained(model) if "modules_to_save.default" in name}
    parts = {part for name in trained(model) - head for part in name.split(".") if part.startswith(("wara_", "lora_"))}

    assert len(head) == 2
    assert parts == method.learned
    assert not any("base_layer" in name or "original_module" in name for name in trained(model))


@every_method
def test_gradients_reach_every_learned_parameter_and_no_other(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"]).train()

    _loss(model).backward()

    gradients = _gradients(model)
    assert gradients.keys() == trained(model)
    assert [name for name, gradient in gradients.items() if not gradient.any()] == []


@every_method
def test_three_steps_change_the_adapter_and_the_head_and_nothing_else(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"]).train()
    before = snapshot(model)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    first = float(_loss(model).detach())
    for _ in range(3):
        optimiser.zero_grad()
        _loss(model).backward()
        optimiser.step()

    after = snapshot(model)

    assert {name for name in before if not torch.equal(after[name], before[name])} == trained(model)
    assert float(_loss(model).detach()) < first


@each_of_ours
def test_gradients_are_those_of_finite_differences(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit()).double()
    _loss(model, torch.float64).backward()
    generator = torch.Generator().manual_seed(0)
    learned = [p for p in model.parameters() if p.requires_grad]
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in learned]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(learned, direction, strict=True) if p.grad is not None)

    losses, step = [], 1e-6
    for sign in (1, -2):  # to + step, then from there to - step
        with torch.no_grad():
            for p, d in zip(learned, direction, strict=True):
                p += sign * step * d
            losses.append(float(_loss(model, torch.float64)))

    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(slope, rel=1e-3, abs=1e-7)


@every_method
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(
    make_vit: MakeVit, method: Method, use_reentrant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, sparing = (method.adapted(make_vit()).train() for _ in range(2))
    _loss(plain).backward()
    monkeypatch.setenv("TIMM_REENTRANT_CKPT", "1" if use_reentrant else "0")
    sparing.base_model.model.set_grad_checkpointing(True)
    seen: list[int] = []
    counted = next(iter(adapted_layers(sparing).values())).module
    counted.register_forward_hook(lambda *_: seen.append(1))

    batch = images(4).requires_grad_(use_reentrant)  # the reentrant way needs an input that takes a gradient
    F.cross_entropy(sparing(batch), LABELS).backward()

    assert len(seen) == 2  # forward, and again for the backward pass
    torch.testing.assert_close(_gradients(sparing), _gradients(plain), atol=1e-6, rtol=1e-5)


@every_method
@low_precision
@pytest.mark.parametrize("adapter_in_float32", [True, False])
def test_a_model_in_low_precision_gives_its_precision_and_gradients(
    make_vit: MakeVit, method: Method, dtype: torch.dtype, adapter_in_float32: bool
) -> None:
    exact = method.adapted(make_vit())
    torch.manual_seed(1)
    model = peft.get_peft_model(make_vit().to(dtype), method.config(), autocast_adapter_dtype=adapter_in_float32).eval()
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    peft.set_peft_model_state_dict(model, peft.get_peft_model_state_dict(exact))

    outputs = model(images(4).to(dtype))
    _loss(model, dtype).backward()

    assert {p.dtype for p in learned.values()} == {torch.float32 if adapter_in_float32 else dtype}
    assert outputs.dtype == dtype
    expected = exact(images(4)).detach()
    torch.testing.assert_close(
        outputs.float(), expected, atol=64 * torch.finfo(dtype).eps * float(expected.abs().max()), rtol=0
    )
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learned.values())
    assert any(p.grad.any() for p in learned.values() if p.grad is not None)


@every_method
@low_precision
@pytest.mark.parametrize("enabled", [True, False], ids=["on", "off"])
def test_autocast_gives_outputs_and_float32_gradients_near_the_exact_ones(
    make_vit: MakeVit, method: Method, dtype: torch.dtype, enabled: bool
) -> None:
    exact, model = (method.adapted(make_vit()).train() for _ in range(2))
    _loss(exact).backward()

    with torch.autocast("cpu", dtype=dtype, enabled=enabled):
        outputs = model(images(4))
        loss = F.cross_entropy(outputs.float(), LABELS)
    loss.backward()

    assert outputs.dtype == (dtype if enabled else torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for name, gradient in _gradients(exact).items():
        found = model.get_parameter(name).grad
        assert found is not None
        size = float(gradient.norm()) or 1.0
        assert float((found - gradient).norm()) < (64 * torch.finfo(dtype).eps if enabled else 1e-6) * size, name


@pytest.mark.parametrize("method", [m for m in METHODS if m.name != "lora"], ids=lambda m: m.name)
def test_dropout_acts_while_training_only(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit(), wara_dropout=0.5)

    assert torch.equal(model(images()), model(images()))
    model.train()
    assert not torch.equal(model(images()), model(images()))


@every_method
def test_a_frozen_base_needs_no_gradient_below_the_first_adapter(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit(), layers_to_transform=[1], layers_pattern="blocks").train()
    needs: dict[str, bool] = {}
    for index, block in enumerate(model.base_model.model.blocks):
        block.register_forward_hook(lambda _, __, output, at=index: needs.update({str(at): output.requires_grad}))

    model(images())

    assert needs == {"0": False, "1": True}
