"""The whole path with real chest X-rays and pretrained weights, in a real browser."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.support import TRAINING_MS, Studio, Watch, artefacts, running_server, screenshots

A_CLASS = 150


@pytest.fixture(scope="module")
def xrays(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """300 images of the training split in two class folders, and five of the test split."""
    table = shared_dir / "data" / "chest_xray" / "labels.csv"
    if not table.is_file():
        pytest.skip(f"no chest X-rays at {table.parent}")
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    folder = tmp_path_factory.mktemp("upload") / "chest_xray"
    for label in sorted({row["label"] for row in rows}):
        chosen = [row["file"] for row in rows if row["label"] == label and row["split"] == "train"][:A_CLASS]
        (folder / label).mkdir(parents=True)
        for file in chosen:
            shutil.copy(table.parent / file, folder / label)
    test = [row["file"] for row in rows if row["split"] == "test"]
    step = len(test) // 5
    return folder, [table.parent / file for file in test[::step][:5]]


@pytest.fixture
def base(shared_dir: Path, tmp_path: Path, browser: Browser) -> Iterator[str]:
    weights = shared_dir / "weights" / "deit_tiny_patch16_224" / "model.safetensors"
    if not weights.is_file():
        pytest.skip(f"no weights at {weights}")
    with running_server(tmp_path, WARA_BACKBONES=f"deit_tiny_patch16_224:{weights}") as address:
        yield address


def test_a_folder_of_chest_xrays_is_learned_and_new_ones_are_classified(
    studio: Studio, browser: Browser, base: str, watch: Watch, xrays: tuple[Path, list[Path]]
) -> None:
    folder, unseen = xrays
    studio.open()
    studio.upload(folder)
    studio.uploaded(2 * A_CLASS)
    expect(studio.page.locator("#studio-notice")).not_to_contain_text("pretrained")

    studio.go("train")
    studio.start(method="wara", preset="quick", epochs="4", backbone="deit_tiny_patch16_224 (weights file)")
    expect(studio.job("running").locator(".chart")).to_have_count(2, timeout=TRAINING_MS)
    studio.page.reload()
    expect(studio.job("running")).to_contain_text("chest_xray")
    artefacts("chest_xray").mkdir(parents=True, exist_ok=True)
    studio.page.screenshot(path=artefacts("chest_xray") / "train-running.png", full_page=True)
    result = studio.job("succeeded", TRAINING_MS).locator("#train-result .tile b").first
    assert float(result.inner_text()) > 0.85

    studio.go("classify")
    results = studio.classify(unseen)
    expect(results.get_by_role("heading").first).to_have_text("5 images classified")
    studio.go("analyse")
    studio.plots_are_drawn()
    screenshots(browser, base, watch, artefacts("chest_xray"), unseen)
