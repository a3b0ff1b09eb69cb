"""A run from elsewhere is brought in with the same answers, or refused with a sentence before anything is kept."""

from __future__ import annotations

import datetime
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.wara.support import draw_folder, small_recipe
from wara.errors import InputError
from wara.evaluation.review import use_point
from wara.imports import bring_in
from wara.inference import Predictor
from wara.training.run import train

Files = dict[str, bytes]
DAY = datetime.date(2026, 11, 26)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("elsewhere")
    images = draw_folder(folder / "images")

    def run(method: str) -> Path:
        if not (folder / method).exists():
            train(images, folder / method, small_recipe(method=method, precision="float32", bootstrap=20))
        return folder / method

    return run


@pytest.fixture(scope="module")
def whole(runs: Callable[[str], Path]) -> Files:
    """The files of a WaRA run by name."""
    run = runs("wara")
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture
def files(whole: Files) -> Files:
    return dict(whole)


def pack(path: Path, files: Files, top: str = "my model/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(top + name, data)
    return path


def changed(data: bytes, change: Callable[[Any], Any]) -> bytes:
    value = json.loads(data)
    answer = change(value)
    return json.dumps(value if answer is None else answer).encode()


def refusal(tmp_path: Path, files: Files, top: str = "run/") -> InputError:
    with pytest.raises(InputError) as caught:
        bring_in(pack(tmp_path / "model.zip", files, top), tmp_path / "out", device="cpu")
    return caught.value


def squares(size: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (3, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", ["wara", "tiny-wara", "lora", "linear-probe", "full"])
def test_a_model_of_every_method_answers_as_before_to_the_last_digit(
    method: str, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    run = runs(method)
    brought = bring_in(run, tmp_path / "out", device="cpu", today=DAY)
    before, after = (Predictor.load(folder, device="cpu") for folder in (run, tmp_path / "out"))
    pixels = squares(before.backbone.size)
    assert np.array_equal(before.probabilities(pixels), after.probabilities(pixels))
    assert before.answers == after.answers
    assert brought.metrics == json.loads((run / "metrics.json").read_text())
    assert brought.passed_over == []
    for name in ("predictions.csv", "split.csv", "history.csv"):
        assert (run / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    for path in run.rglob("*"):
        assert (tmp_path / "out" / path.relative_to(run)).exists(), path


def test_the_recipe_and_the_card_say_that_it_was_brought_in(runs: Callable[[str], Path], tmp_path: Path) -> None:
    brought = bring_in(runs("wara"), tmp_path / "out", device="cpu", today=DAY)
    assert brought.recipe["imported"] == "2026-11-26"
    assert "Imported on 2026-11-26" in (tmp_path / "out" / "card.md").read_text()
    assert "Imported on 2026-11-26" in (tmp_path / "out" / "card.html").read_text()


def test_what_was_brought_in_can_be_brought_in_again(runs: Callable[[str], Path], tmp_path: Path) -> None:
    bring_in(runs("wara"), tmp_path / "once", device="cpu")
    brought = bring_in(tmp_path / "once", tmp_path / "twice", device="cpu")
    assert brought.passed_over == []


def test_an_operating_point_chosen_since_comes_along(runs: Callable[[str], Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs("wara"), tmp_path / "run")
    use_point(run, "sensitivity=0.95")
    bring_in(run, tmp_path / "out", device="cpu")
    before, after = (Predictor.load(folder, device="cpu").answers for folder in (run, tmp_path / "out"))
    assert before.operating_point == after.operating_point


def test_a_strangers_card_figures_and_further_files_are_not_kept(files: Files, tmp_path: Path) -> None:
    evil = b"<script>alert(1)</script>"
    files |= {
        "card.md": evil, "card.html": evil, "figures/confusion.png": evil, "figures/more.png": evil,
        "adapter/README.md": evil, "adapter/code.py": evil, "notes.txt": evil, "mapping.json": b"{}",
    }  # fmt: skip
    brought = bring_in(pack(tmp_path / "model.zip", files), tmp_path / "out", device="cpu")
    assert brought.passed_over == ["adapter/README.md", "adapter/code.py", "mapping.json", "notes.txt"]
    assert brought.name == "my model"
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or evil not in path.read_bytes(), path
    assert not (tmp_path / "out" / "figures" / "more.png").exists()


@pytest.mark.parametrize("top", ["", "test/", "a/b/"])
def test_the_run_is_found_in_any_folder_of_the_zip(top: str, files: Files, tmp_path: Path) -> None:
    bring_in(pack(tmp_path / "model.zip", files, top), tmp_path / "out", device="cpu")
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("name", ["adapter/adapter_model.bin", "weights.pt", "x/old.ckpt", "adapter/MODEL.PTH"])
def test_weights_that_can_carry_code_are_refused_by_name(name: str, files: Files, tmp_path: Path) -> None:
    files[name] = b"\x80\x04."
    error = refusal(tmp_path, files)
    assert error.code == "import-code" and name in str(error) and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("name", "code"), [("../out.json", "zip-unsafe-path"), ("/etc/x", "zip-unsafe-path"), ("a.zip", "zip-nested")]
)
def test_the_guards_of_zips_hold(name: str, code: str, files: Files, tmp_path: Path) -> None:
    files[name] = b"x"
    assert refusal(tmp_path, files, top="").code == code


def test_names_that_differ_in_capitals_alone_are_refused(files: Files, tmp_path: Path) -> None:
    files["Recipe.JSON"] = files["recipe.json"]
    assert refusal(tmp_path, files).code == "import-duplicate"


def test_several_models_or_none_are_refused(files: Files, tmp_path: Path) -> None:
    assert refusal(tmp_path, {f"{top}/{name}": data for top in "ab" for name, data in files.items()}).code == (
        "import-several"
    )
    shutil.rmtree(tmp_path / "out")
    assert refusal(tmp_path, {"a/x.png": b"x"}).code == "import-no-run"


def test_a_file_that_is_larger_than_it_can_be_is_refused_unread(files: Files, tmp_path: Path) -> None:
    files["recipe.json"] = b" " * (1 << 20) + files["recipe.json"]
    error = refusal(tmp_path, files)
    assert error.code == "import-too-large" and "recipe.json: 1.0 MB" in str(error)


REQUIRED = (
    "metrics.json", "history.csv", "predictions.csv", "split.csv", "calibration.json", "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors", "figures/subband_energy.json", "figures/report.json",
)  # fmt: skip


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_named(name: str, files: Files, tmp_path: Path) -> None:
    del files[name]
    error = refusal(tmp_path, files)
    assert error.code == "import-incomplete" and error.seen == name


@pytest.mark.parametrize("name", ["recipe.json", *REQUIRED])
@pytest.mark.parametrize("content", [b"{}", b"\xff\xfe"])
def test_a_file_of_other_content_is_refused(name: str, content: bytes, files: Files, tmp_path: Path) -> None:
    files[name] = content
    error = refusal(tmp_path, files)
    assert error.code in {"import-unfit", "run-damaged", "import-weights", "import-adapter"}, error


RECIPE: list[tuple[str, Callable[[Any], Any]]] = [
    ("a path behind a colon", lambda r: r["backbone"].update(name="deit_tiny_patch16_224:/etc/passwd")),
    ("a path", lambda r: r["backbone"].update(name="../../x")),
    ("a hub address", lambda r: r["backbone"].update(name="hf-hub:someone/else")),
    ("another format", lambda r: r.update(format=2)),
    ("a huge rank", lambda r: r.update(rank=100_000)),
    ("a rank that is no number", lambda r: r.update(rank="8")),
    ("an option that is a list", lambda r: r.update(operating_point=["youden"])),
    ("an unknown method", lambda r: r.update(method="prefix-tuning")),
    ("a number that is none", lambda r: r.update(learning_rate=float("nan"))),
    ("one class", lambda r: r.update(classes=["left"])),
    ("the same class twice", lambda r: r.update(classes=["left", "left"])),
    ("a class with a line end", lambda r: r.update(classes=["left", "a\nb"])),
    ("a class that is no text", lambda r: r.update(classes=["left", 1])),
    ("deep nesting", lambda r: r.update(data=json.loads("[" * 50 + "]" * 50))),
    ("a fingerprint that is text", lambda r: r["data"].update(fingerprint="<b>x</b>")),
]


@pytest.mark.parametrize("change", [change for _, change in RECIPE], ids=[name for name, _ in RECIPE])
def test_a_recipe_that_no_training_writes_is_refused(
    change: Callable[[Any], Any], files: Files, tmp_path: Path
) -> None:
    files["recipe.json"] = changed(files["recipe.json"], change)
    assert refusal(tmp_path, files).code == "import-unfit"


CONFIG: list[tuple[str, dict[str, Any]]] = [
    ("another method", {"peft_type": "LORA"}),
    ("another rank", {"r": 4}),
    ("other layers", {"target_modules": ["fc1"]}),
    ("a base model's path", {"base_model_name_or_path": "/etc"}),
    ("a module of code", {"auto_mapping": {"base_model_class": "X", "parent_library": "evil"}}),
    ("an option that is not known", {"corda_config": {"cache_file": "/tmp/x.pt"}}),
]


@pytest.mark.parametrize("more", [more for _, more in CONFIG], ids=[name for name, _ in CONFIG])
def test_a_configuration_that_says_other_than_the_recipe_is_refused(
    more: dict[str, Any], files: Files, tmp_path: Path
) -> None:
    name = "adapter/adapter_config.json"
    files[name] = changed(files[name], lambda config: config.update(more))
    error = refusal(tmp_path, files)
    assert error.code == "import-adapter" and next(iter(more)) in str(error)


def test_options_of_another_version_that_are_not_in_use_are_no_matter(files: Files, tmp_path: Path) -> None:
    name = "adapter/adapter_config.json"
    files[name] = changed(files[name], lambda config: config.update(peft_version="0.1", new_option=None, other=False))
    bring_in(pack(tmp_path / "model.zip", files), tmp_path / "out", device="cpu")
    assert "new_option" not in (tmp_path / "out" / name).read_text()


TENSORS: list[tuple[str, Callable[[dict[str, torch.Tensor], str], Any]]] = [
    ("not finite", lambda t, key: t[key].view(-1)[0].fill_(float("inf"))),
    ("missing", lambda t, key: t.pop(key)),
    ("another name", lambda t, key: t.update(other=torch.zeros(1))),
    ("another shape", lambda t, key: t.update({key: torch.zeros(3, 3)})),
    ("another type", lambda t, key: t.update({key: t[key].half()})),
]


@pytest.mark.parametrize("change", [change for _, change in TENSORS], ids=[name for name, _ in TENSORS])
def test_tensors_that_do_not_fit_are_refused(
    change: Callable[[dict[str, torch.Tensor], str], Any], files: Files, tmp_path: Path
) -> None:
    name = "adapter/adapter_model.safetensors"
    (tmp_path / "w").write_bytes(files[name])
    tensors = load_file(tmp_path / "w")
    change(tensors, min(tensors))
    save_file(tensors, tmp_path / "w")
    files[name] = (tmp_path / "w").read_bytes()
    assert refusal(tmp_path, files).code == "import-weights"


FIGURES: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("a better matrix", "metrics.json", lambda m: m["test"].update(confusion=[[4, 0], [0, 4]])),
    ("more images", "metrics.json", lambda m: m["test"].update(n_images=10**9)),
    ("text for a number", "metrics.json", lambda m: m["test"]["auroc"].update(value="<b>1</b>")),
    ("a missing part", "metrics.json", lambda m: m["test"].pop("auroc")),
    ("a threshold of its own", "metrics.json", lambda m: m["operating_point"].update(threshold=0.0)),
    ("parameters as text", "metrics.json", lambda m: m.update(trainable_parameters="many")),
    ("another temperature's kind", "calibration.json", lambda c: c.update(temperature=-1)),
    ("a threshold as text", "calibration.json", lambda c: c["operating_point"].update(threshold="0.5")),
    ("other layers", "figures/subband_energy.json", lambda e: e.update(layers=["x"] * len(e["layers"]))),
    ("shorter rows", "figures/subband_energy.json", lambda e: e["overall"]["update"].pop()),
    ("other scales", "figures/class_scales.json", lambda s: s["scales"][0].update(name="<i>x</i>")),
    ("findings as numbers", "figures/report.json", lambda r: r.update(findings=[1])),
    ("a huge sentence", "figures/report.json", lambda r: r.update(warnings=["x" * 3000])),
]


@pytest.mark.parametrize(("name", "change"), [entry[1:] for entry in FIGURES], ids=[entry[0] for entry in FIGURES])
def test_figures_that_do_not_belong_to_the_model_are_refused(
    name: str, change: Callable[[Any], Any], files: Files, tmp_path: Path
) -> None:
    files[name] = changed(files[name], change)
    error = refusal(tmp_path, files)
    assert error.code == "import-unfit" and error.seen == name


@pytest.mark.parametrize(
    "content", [b"file,label,patient,split\na,other,,test\n", b"file,label,patient,split\nx\n", b"a\n"]
)
def test_a_damaged_split_is_refused_without_a_path(content: bytes, files: Files, tmp_path: Path) -> None:
    files["split.csv"] = content
    error = refusal(tmp_path, files)
    assert error.code == "import-unfit" and error.seen == "split.csv" and str(tmp_path) not in str(error)


def test_cells_that_a_spreadsheet_would_run_stay_text(files: Files, tmp_path: Path) -> None:
    for name in ("predictions.csv", "split.csv"):
        files[name] = files[name].replace(b"left/0", b"=cmd|' /C calc'!left/0")
    bring_in(pack(tmp_path / "model.zip", files), tmp_path / "out", device="cpu")
    for name in ("predictions.csv", "split.csv"):
        lines = (tmp_path / "out" / name).read_text().splitlines()
        assert not [line for line in lines if line.startswith("=")] and [line for line in lines if line[:2] == "'="]


def test_a_backbone_that_is_not_here_is_named(files: Files, tmp_path: Path) -> None:
    files["recipe.json"] = changed(files["recipe.json"], lambda r: r["backbone"].update(sha256="0" * 64))
    error = refusal(tmp_path, files)
    assert error.code == "backbone-needed" and "vit_tiny_untrained" in str(error) and "Add its weights" in error.remedy


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(InputError, match="damaged"):
        bring_in(tmp_path / "model.zip", tmp_path / "out")
