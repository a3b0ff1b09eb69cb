"""The subband readout: what it reads of tokens, when it speaks, and how it is mixed with a head's scores."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import pywt
import timm
import torch

from wara.tuner import AdapterError
from wara.tuner.readout import SubbandReadout, add_readout, can_be_read, depths_of, mixed, readout_of

SIDE = 64


def network(depth: int = 4) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = timm.models.VisionTransformer(
        img_size=SIDE, patch_size=8, embed_dim=24, depth=depth, num_heads=2, num_classes=3
    )
    return model.eval()


def filled(model: torch.nn.Module) -> SubbandReadout:
    readout = add_readout(model, "head", 3)
    random = torch.Generator().manual_seed(1)
    draw = [torch.randn(shape, generator=random) for shape in ((readout.features,), (3, readout.features), (3,))]
    readout.fill(draw[0], torch.ones(readout.features), 0.1 * draw[1], draw[2])
    return readout


def images(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


DEPTHS = {12: (2, 4, 6), 24: (4, 8, 12), 7: (1, 2, 3), 4: (1, 2), 2: (1,)}


@pytest.mark.parametrize("blocks", DEPTHS)
def test_the_thirds_of_the_lower_half_are_read(blocks: int) -> None:
    assert depths_of(blocks) == DEPTHS[blocks]


def test_energies_are_those_of_pywavelets() -> None:
    readout = filled(network())
    tokens = torch.randn(2, 65, 24, generator=torch.Generator().manual_seed(3))
    read = readout.read(tokens).numpy()
    grid = tokens[:, 1:].reshape(2, 8, 8, 24).numpy()
    _, *levels = pywt.wavedec2(grid, "haar", mode="symmetric", level=3, axes=(1, 2))
    for number, details in enumerate(levels):  # the coarsest first, as in the readout
        energy = np.mean([np.square(detail).mean(axis=(1, 2)) for detail in details], axis=0)
        found = read[:, (2 + number) * 24 : (3 + number) * 24]
        np.testing.assert_allclose(found, np.log(energy + 1e-6) / 2, rtol=1e-4, atol=1e-4)


def test_class_token_and_mean_are_normalised_over_the_channels() -> None:
    read = filled(network()).read(3 + 5 * torch.randn(2, 65, 24))
    for part in (read[:, :24], read[:, 24:48]):
        torch.testing.assert_close(part.mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(part.std(dim=1, unbiased=False), torch.ones(2), atol=1e-3, rtol=0)


def test_answers_are_the_mean_of_both_probabilities() -> None:
    plain, model = network(), network()
    readout = filled(model)
    with torch.no_grad(), readout.keeping() as rows:
        torch.testing.assert_close(model(images()), plain(images()))  # the mixing rests while rows are kept
    with torch.no_grad():
        wanted = (plain(images()).softmax(1) + readout.scores(rows[0]).softmax(1)) / 2
        torch.testing.assert_close(model(images()).softmax(1), wanted)


def test_a_model_in_training_and_one_not_fitted_answer_by_the_head() -> None:
    plain, model = network(), network()
    readout = add_readout(model, "head", 3)
    assert not readout.is_fitted
    torch.testing.assert_close(model(images()), plain(images()))
    readout.fill(*(torch.randn_like(tensor) for tensor in readout.buffers(recurse=False)))
    torch.testing.assert_close(model.train()(images()), plain.train()(images()))


def test_threads_do_not_see_each_others_images() -> None:
    model = network()
    filled(model)
    alone = [model(images()[i : i + 1]).detach() for i in range(5)]
    found: dict[int, list[torch.Tensor]] = {i: [] for i in range(5)}

    def work(number: int) -> None:
        for _ in range(20):
            with torch.no_grad():
                found[number].append(model(images()[number : number + 1]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answers in found.items():
        assert len(answers) == 20
        for answer in answers:
            torch.testing.assert_close(answer, alone[number])


def test_a_copy_reads_with_its_own_numbers() -> None:
    model = network()
    filled(model)
    other = copy.deepcopy(model)
    own = readout_of(other)
    assert own is not None and own is not readout_of(model)
    before = model(images())
    with torch.no_grad():
        own.bias += torch.tensor([50.0, 0, 0])
    torch.testing.assert_close(model(images()), before)
    assert not torch.allclose(other(images()), before)


def test_an_energy_of_nothing_is_a_number() -> None:
    assert bool(torch.isfinite(filled(network()).read(torch.zeros(1, 65, 24))).all())


def test_mixing_is_exact_for_far_logits() -> None:
    first, second = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])
    torch.testing.assert_close(mixed(first, second).softmax(1), torch.full((1, 2), 0.5))


def test_networks_without_one_grid_are_refused() -> None:
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3)
    assert not can_be_read(swin)
    with pytest.raises(AdapterError, match="which SwinTransformer has not"):
        add_readout(swin, "head", 3)
    model = network()
    filled(model)
    with pytest.raises(AdapterError, match="a readout already"):
        add_readout(model, "head", 3)


@pytest.mark.parametrize(("name", "what"), [("weight", "shape"), ("bias", "not finite")])
def test_numbers_of_another_readout_are_refused(name: str, what: str) -> None:
    readout = add_readout(network(), "head", 3)
    given = {key: tensor.clone() for key, tensor in readout.named_buffers(recurse=False)}
    given[name] = torch.zeros(1) if what == "shape" else torch.full_like(given[name], torch.nan)
    with pytest.raises(AdapterError, match=f"{name} .*{what}"):
        readout.fill(**given)
    assert not readout.is_fitted
