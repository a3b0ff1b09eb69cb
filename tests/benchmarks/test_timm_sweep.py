"""A sample of timm's architectures is adapted or refused by name; the sweep's table and exit code tell what came."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import timm_sweep
from benchmarks.timm_catalogue import families
from benchmarks.timm_trial import Outcome, try_architecture

# Architecture: its family, and the grids that its layers are seen on (made small, with the number of layers).
ADAPTED = {
    "vit_tiny_patch16_224": ("vision_transformer", ("8x8+1 (2)",)),
    "deit_tiny_distilled_patch16_224": ("deit", ("8x8+2 (2)",)),
    "beit_base_patch16_224": ("beit", ("14x14+1 (2)",)),
    "eva02_tiny_patch14_224": ("eva", ("8x8+1 (2)",)),
    "swin_tiny_patch4_window7_224": ("swin_transformer", ("7x7 (10)",)),
    "maxvit_rmlp_pico_rw_256": ("maxxvit", ("8x8 (18)",)),
    "cait_xxs24_224": ("cait", ("8x8 (2)",)),
    "xcit_nano_12_p16_224": ("xcit", ("8x8 (12)",)),
    "pvt_v2_b0": ("pvt_v2", ("16x16 (2)", "32x32 (2)", "4x4 (10)", "8x8 (2)")),
    "levit_128s": ("levit", ("14x14 (2)", "4x4 (2)", "7x7 (2)")),
    "mobilevit_xxs": ("mobilevit", ("16x16 (2)", "4x4 (2)", "8x8 (2)")),  # at a size that is not too small for it
    "vit_tiny_r_s16_p8_224": ("vision_transformer_hybrid", ("7x7+1 (2)",)),
}
REFUSED = {
    "coatnet_0_224": ("maxxvit", "its attention is made of convolutions"),
    "vit_pwee_patch16_reg1_gap_256": ("vision_transformer", r"no linear layers named 'qkv'.*Give target_modules"),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ADAPTED)
def test_both_methods_train_in_an_architecture(name: str) -> None:
    family, grids = ADAPTED[name]

    found = try_architecture(family, name, {})

    assert (found.outcome, found.reason) == ("adapted", "")
    assert found.grids == grids


@pytest.mark.parametrize("name", REFUSED)
def test_an_architecture_without_a_place_for_an_adapter_is_refused_with_what_is_missing(name: str) -> None:
    family, reason = REFUSED[name]

    found = try_architecture(family, name, {})

    assert found.outcome == "refused"
    assert re.search(reason, found.reason)


@pytest.mark.parametrize(("family", "name"), [("resnet", "resnet18"), ("senet", "legacy_seresnet18")])
def test_networks_without_attention_between_positions_are_told_apart(family: str, name: str) -> None:
    assert try_architecture(family, name, {}).outcome == "no attention"


def test_an_architecture_that_cannot_be_made_crashed() -> None:
    found = try_architecture("vision_transformer", "vit_unheard_of", {})

    assert found.outcome == "crashed"
    assert "vit_unheard_of" in found.reason


def test_architectures_that_are_the_same_once_made_small_are_tried_once() -> None:
    known: dict[str, Outcome] = {}
    first = try_architecture("deit", "deit3_base_patch16_224", known)
    second = try_architecture("deit", "deit3_base_patch16_384", known)

    assert len(known) == 1
    assert (first.same_as, second.same_as) == ("", "deit3_base_patch16_224")
    assert second.grids == first.grids


def test_every_family_of_timm_is_in_the_catalogue() -> None:
    found = families()

    assert {"vision_transformer", "beit", "eva", "swin_transformer", "resnet"} <= set(found)
    assert "vit_base_patch16_224" in found["vision_transformer"]


def _one(name: str, outcome: str, reason: str = "", family: str = "vit", same_as: str = "") -> Outcome:
    return Outcome(name, family, outcome, reason, same_as=same_as)


def test_the_table_counts_by_family_and_gives_each_reason_once() -> None:
    table = timm_sweep.as_text(
        [
            _one("a", "adapted"),
            _one("b", "adapted", same_as="a"),
            _one("c", "refused", "Layer 'blocks.0' has 3 tokens"),
            _one("d", "refused", "Layer 'blocks.7' has 5 tokens", family="eva"),
            _one("e", "no attention", family="resnet"),
        ],
        without_attention=False,
    )

    assert "| vit | 3 | 2 | 1 | 0 | 0 | 2 |" in table
    assert "| eva | 1 | 0 | 1 | 0 | 0 | 1 |" in table
    assert "| **all** (1 families without any attention not shown) | 5 | 2 | 2 | 0 | 1 | 3 |" in table
    assert "- 2, e.g. c: Layer 'blocks.0' has 3 tokens" in table
    assert "Crashed" not in table


@pytest.mark.parametrize(
    ("outcomes", "code"), [(("adapted", "refused", "no attention"), 0), (("adapted", "crashed"), 1)]
)
def test_a_crash_decides_the_exit_code(outcomes: tuple[str, ...], code: int) -> None:
    assert timm_sweep.exit_code([_one("a", outcome) for outcome in outcomes]) == code


def test_the_command_prints_the_table_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "sweep.json"

    code = timm_sweep.main(["--families", "vision_transformer,resnet", "--limit", "1", "--workers", "1",
                            "--json", str(file)])  # fmt: skip

    written = json.loads(file.read_text(encoding="utf-8"))
    timm_sweep.main(["--families", "resnet", "--limit", "1", "--workers", "1", "--update", str(file)])
    again = json.loads(file.read_text(encoding="utf-8"))
    assert {**again, "seconds": 0} == {**written, "seconds": 0}
    assert code == 0
    assert written["totals"] == {"adapted": 1, "no attention": 1}
    assert [row["family"] for row in written["architectures"]] == ["vision_transformer"]
    assert "| **all** | 2 | 1 | 0 | 0 | 1 | 1 |" in capsys.readouterr().out


def test_an_update_without_families_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--update needs --families"):
        timm_sweep.main(["--update", str(tmp_path / "sweep.json")])


def test_an_unknown_family_is_refused_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match=r"--families has 'vits', which is no family of timm\. Use some of beit, "):
        timm_sweep.main(["--families", "beit,vits"])
