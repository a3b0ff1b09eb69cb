"""The command line as a person types it: the whole path once, and every wrong input answered in plain words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.wara.support import draw_folder, read_rows, write_dicom
from wara.cli import app, main
from wara.inference import Predictor, read_rgb_square

QUICK = ["--epochs", "1", "--batch-size", "8", "--device", "cpu"]


def wara(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wara", *map(str, words)], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("cli") / "images")


@pytest.fixture(scope="module")
def run(images: Path) -> Path:
    out = images.parent / "run"
    done = wara("train", images, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    return out


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """Run the command line in this process and return what it said on its way out with status 2."""
    monkeypatch.setattr(sys, "argv", ["wara", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_training_prints_the_metrics_and_is_quiet_where_there_is_no_terminal(images: Path, tmp_path: Path) -> None:
    done = wara("train", images, "--out", tmp_path / "run", "--backbone", "vit_tiny_untrained", *QUICK)

    assert done.returncode == 0
    assert "AUROC" in done.stdout
    assert "trained parameters" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert "its scores mean nothing" in done.stderr  # the untrained backbone is called so


def test_a_run_predicts_new_images_into_a_csv(run: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")

    done = wara("predict", run, images / "left", tmp_path / "broken.png", "--csv", tmp_path / "out.csv")

    rows = read_rows(tmp_path / "out.csv")
    assert done.returncode == 0
    assert len(rows) == 13
    assert rows[0]["predicted"] in ("left", "right")
    assert float(rows[0]["p_left"]) + float(rows[0]["p_right"]) == pytest.approx(1, abs=1e-5)
    assert float(rows[0]["uncalibrated_left"]) + float(rows[0]["uncalibrated_right"]) == pytest.approx(1, abs=1e-5)
    assert set(rows[0]["set"].split(" | ")) <= {"left", "right"} and rows[0]["warning"] == rows[0]["patient"] == ""
    assert rows[-1]["predicted"] == rows[-1]["set"] == ""
    assert rows[-1]["error"]
    assert "1 of 13 files could not be read" in done.stdout
    assert list(rows[0])[:5] == ["file", "patient", "label", "probability left", "probability right"]
    assert {row["model"] for row in rows} == {run.name} and len({row["model id"] for row in rows}) == 1
    assert rows[0]["label"] == rows[0]["predicted"] and rows[0]["version"]


def test_patients_of_dicom_files_get_a_row_each_and_are_named_nowhere(run: Path, tmp_path: Path) -> None:
    for number in range(3):
        pixels = np.full((1, 32, 32), 60 * number, np.uint8)
        write_dicom(tmp_path / "scans" / f"HOSP-4711_{number}.dcm", pixels, "HOSP-4711")
    done = wara("predict", run, tmp_path / "scans", "--csv", tmp_path / "o.csv", "--patients-csv", tmp_path / "p.csv")
    rows, patients = read_rows(tmp_path / "o.csv"), read_rows(tmp_path / "p.csv")
    assert done.returncode == 0 and len(rows) == 3 and len(patients) == 1
    mean = sum(float(row["probability left"]) for row in rows) / 3
    assert float(patients[0]["probability left"]) == pytest.approx(mean, abs=1e-5)
    assert patients[0]["images"] == "3" and patients[0]["patient"] == rows[0]["patient"] != ""
    for text in (done.stdout, (tmp_path / "o.csv").read_text(), (tmp_path / "p.csv").read_text()):
        assert "4711" not in text


def test_names_that_are_no_utf8_are_told_and_written_readable(run: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"b\xe4d")
    folder.mkdir()
    content = (images / "left" / "00.png").read_bytes()
    for name in (b"\xe4.png", b"b.png"):
        (folder / os.fsdecode(name)).write_bytes(content)

    table = folder / "o.csv"
    done = wara("predict", run, folder, folder / os.fsdecode(b"\xe4.png"), "--csv", table)

    assert done.returncode == 0, done.stderr
    names = [row["file"].removeprefix(str(tmp_path)) for row in read_rows(table)]
    assert names == ["/bäd/b.png", "/bäd/o.csv", "/bäd/ä.png", "/bäd/ä.png"]
    assert "/bäd/ä.png: " in done.stdout and f"Predictions: {tmp_path}/bäd/o.csv" in done.stdout


def test_a_run_is_analysed_into_figures_and_data(run: Path, images: Path, tmp_path: Path) -> None:
    done = wara("analyse", run, images, "--out", tmp_path / "figures")

    names = {p.name for p in (tmp_path / "figures").iterdir()}
    assert done.returncode == 0
    assert {"subband_energy.json", "singular_spectrum.json", "subband_energy.png", "singular_spectrum.png"} <= names
    assert {"class_scales.json", "class_scales.png"} <= names
    assert "with the trained weights shuffled" in done.stdout


def test_an_analysis_counts_and_names_what_it_could_not_read(run: Path, tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "few", 2)
    (folder / "left" / "broken.png").write_text("no image")
    (folder / "left" / "notes.docx").write_text("words")

    done = wara("analyse", run, folder, "--out", tmp_path / "figures")

    assert done.returncode == 0, done.stderr
    assert "1 of 5 images could not be read:\n  left/broken.png: The file is a text file, not an image\n" in done.stdout
    assert "1 file passed over:\n  1: not an image of a kind that is read (.docx)\n" in done.stdout
    data = json.loads((tmp_path / "figures" / "subband_energy.json").read_text())
    assert data["n_images"]["overall"] == 4 and data["left_out"]["listed"] == 5
    assert [entry["file"] for entry in data["left_out"]["unreadable"]] == ["left/broken.png"]
    assert json.loads((tmp_path / "figures" / "class_scales.json").read_text())["interval"] == "images"


def test_patients_of_dicom_files_are_named_in_no_explanation(run: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "HOSP-4711_0.dcm", np.full((1, 32, 32), 60, np.uint8), "HOSP-4711")

    done = wara("explain", run, tmp_path / "HOSP-4711_0.dcm", "--out", tmp_path / "why")

    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "why").iterdir())
    assert [path.suffix for path in files] == [".json", ".png"]
    assert "4711" not in done.stdout + files[0].read_text() + "".join(path.name for path in files)


def test_images_are_explained_into_figures_and_data(run: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")

    done = wara("explain", run, images / "left" / "00.png", tmp_path / "broken.png", "--out", tmp_path / "why")

    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "why").iterdir()} == {"001_00.png.png", "001_00.png.json"}
    found = json.loads((tmp_path / "why" / "001_00.png.json").read_text())
    assert found["sentence"] in done.stdout and "1 of 2 files could not be read" in done.stdout
    parts = sum(scale["contribution"] for scale in found["scales"]) + found["prefix"] + found["score"]["residual"]
    assert parts == pytest.approx(found["score"]["change"], abs=1e-4)


def test_a_recipe_file_repeats_a_run_and_options_go_before_it(run: Path, images: Path, tmp_path: Path) -> None:
    done = wara("train", images, "--out", tmp_path / "again", "--recipe", run / "recipe.json")
    other = wara("train", images, "--out", tmp_path / "x", "--recipe", run, "--seed", "5", "--option", "augment=none")

    assert (done.returncode, other.returncode) == (0, 0), done.stderr + other.stderr
    assert (tmp_path / "again" / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    recipe = json.loads((tmp_path / "x" / "recipe.json").read_text())
    assert (recipe["seed"], recipe["augment"], recipe["batch_size"]) == (5, "none", 8)


def test_the_embedded_backbone_is_the_one_that_is_taken_when_none_is_named(run: Path) -> None:
    stored = json.loads((run / "recipe.json").read_text(encoding="utf-8"))["backbone"]
    assert (stored["name"], stored["source"], stored["pretrained"]) == ("embedded", "embedded", True)
    assert len(Predictor.load(run, device="cpu").classes) == 2


def test_a_run_is_resumed_with_what_it_was_started_with(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--backbone", "vit_tiny_untrained", "--rank", "4", "--seed", "3", *QUICK]
    assert wara("train", images, "--out", out, *options).returncode == 0
    metrics = (out / "metrics.json").read_text(encoding="utf-8")

    again = wara("train", images, "--out", out, "--resume")
    assert again.returncode == 0, again.stderr
    assert (out / "metrics.json").read_text(encoding="utf-8") == metrics

    other = wara("train", images, "--out", out, "--resume", "--rank", "5")
    assert other.returncode == 2 and "cannot be resumed with other options" in other.stderr


@pytest.mark.parametrize("left", [None, ".pixels"], ids=["no-folder", "stopped-while-reading"])
def test_a_run_that_kept_no_options_does_not_become_another_by_resuming(
    left: str | None, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    if left is not None:
        (out / left).mkdir(parents=True)
    told = said(capsys, monkeypatch, "train", images, "--out", out, "--resume", "--device", "cpu")
    assert "There is no run here yet to go on with" in told and "without --resume" in told
    assert not (out / "recipe.json").exists()


def test_predictions_of_files_with_one_name_stay_apart(run: Path, images: Path, tmp_path: Path) -> None:
    wara("predict", run, images / "left" / "00.png", images / "right" / "00.png", "--csv", tmp_path / "o.csv")
    assert len({row["file"] for row in read_rows(tmp_path / "o.csv")}) == 2


def test_check_records_a_fix_and_goes_by_it_the_next_time(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", 10)
    (folder / "left" / "copy.png").write_bytes((folder / "left" / "00.png").read_bytes())
    decisions = tmp_path / "decisions.json"

    done = wara("check", folder, "--fix", "copies-within=drop", "--decisions", decisions)
    assert done.returncode == 0, done.stderr
    assert "left: 11" in done.stdout
    assert "Decided: copies-within=drop, 1 image" in done.stdout
    assert list(json.loads(decisions.read_text())[0]["files"]) == ["left/copy.png"]

    again = wara("check", folder, "--decisions", decisions)
    assert "left: 10" in again.stdout
    assert "left out by a decision (copies-within)" in again.stdout
    assert "--fix copies-within" not in again.stdout


def test_fixes_that_cannot_be_recorded_are_answered_in_words(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "decisions.json"
    assert "--decisions FILE" in said(capsys, monkeypatch, "check", images, "--fix", "leaks=move")
    assert "FINDING=FIX" in said(capsys, monkeypatch, "check", images, "--fix", "leaks", "--decisions", here)
    words = said(capsys, monkeypatch, "check", images, "--fix", "leaks=move", "--decisions", here)
    assert "no such finding (seen: leaks)" in words
    assert not here.exists()
    assert "no such file of decisions" in said(capsys, monkeypatch, "check", images, "--decisions", here)
    missing = said(capsys, monkeypatch, "train", images, "--out", tmp_path / "run", "--decisions", here, *QUICK)
    assert "no such file of decisions" in missing


def test_check_reports_classes_splits_and_what_was_passed_over(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "set")
    (folder / "left" / "notes.png").write_text("text")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.jpg")
    (folder / "right" / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-200])

    done = wara("check", folder)

    assert done.returncode == 0
    assert "24 images, 2 classes" in done.stdout
    assert "2 files passed over" in done.stdout
    assert "train" in done.stdout


def test_check_counts_every_frame_where_all_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in range(8):
        folder = tmp_path / "set" / "ab"[who % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_dicom(folder / f"{who}.dcm", np.full((3, 70, 70), who * 20, np.uint8), f"P{who}")
    monkeypatch.setattr(sys, "argv", ["wara", "check", str(tmp_path / "set"), "--frames", "all"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "24 images, 8 patients, 2 classes" in capsys.readouterr().out
    assert "choice of frames is not known" in said(capsys, monkeypatch, "check", tmp_path / "set", "--frames", "last")
    assert "no window number 2" in said(capsys, monkeypatch, "check", tmp_path / "set", "--window", "2")


def test_onnx_gives_the_probabilities_of_the_predictor(run: Path, images: Path, tmp_path: Path) -> None:
    done = wara("export", run, "--format", "onnx", "--out", tmp_path / "model.onnx")
    assert done.returncode == 0, done.stderr
    predictor = Predictor.load(run, device="cpu", precision="float32")
    content = [(p.name, p.read_bytes()) for p in sorted((images / "left").iterdir())[:3]]
    expected = [p.uncalibrated for p in predictor.predict(content)]

    squares = [read_rgb_square(data, name, 224, "pad") for name, data in content]
    tensors = predictor.normalised(np.stack(squares)).numpy()
    logits = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"images": tensors})[0]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    np.testing.assert_allclose(shares[:, 0], [p["left"] for p in expected if p], atol=1e-5)


def test_peft_export_holds_the_adapter_and_a_merge_is_refused_with_the_reason(run: Path, tmp_path: Path) -> None:
    assert wara("export", run, "--format", "peft", "--out", tmp_path / "a.zip").returncode == 0
    names = {"adapter_config.json", "adapter_model.safetensors", "readout.safetensors"}
    assert set(zipfile.ZipFile(tmp_path / "a.zip").namelist()) == names

    refused = wara("export", run, "--format", "merged", "--out", tmp_path / "m.safetensors")

    assert refused.returncode == 2
    assert "follow from more than the weights" in refused.stderr
    assert "readout" in refused.stderr


def test_a_lora_run_exports_merged_weights(images: Path, tmp_path: Path) -> None:
    assert wara("train", images, "--out", tmp_path / "run", "--method", "lora", *QUICK).returncode == 0
    done = wara("export", tmp_path / "run", "--format", "merged", "--out", tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    assert load_file(tmp_path / "m.safetensors")["blocks.0.attn.qkv.weight"].shape == (576, 192)


def test_help_lists_the_commands() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("check", "train", "predict", "analyse", "export"):
        assert command in result.output


# What goes wrong, and what is said about it. Each case lays out a folder and returns the words of the command.


def empty_folder(root: Path) -> list[object]:
    (root / "set").mkdir()
    return [root / "set"]


def one_class(root: Path) -> list[object]:
    folder = draw_folder(root / "set")
    for file in (folder / "right").iterdir():
        file.unlink()
    (folder / "right").rmdir()
    return [folder]


def one_image_in_a_class(root: Path) -> list[object]:
    folder = draw_folder(root / "set")
    for file in sorted((folder / "right").iterdir())[1:]:
        file.unlink()
    return [folder]


def only_text_named_png(root: Path) -> list[object]:
    for name in ("a", "b"):
        (root / "set" / name).mkdir(parents=True)
        for number in range(3):
            (root / "set" / name / f"{number}.png").write_text(f"hello {name} {number}")
    return [root / "set"]


def only_dicom_without_pixels(root: Path) -> list[object]:
    source = get_testdata_file("rtplan.dcm")
    for name in ("a", "b"):
        (root / "set" / name).mkdir(parents=True)
        for number in range(3):
            data = pydicom.dcmread(source)
            data.InstanceNumber = number
            data.save_as(root / "set" / name / f"{number}.dcm")
    return [root / "set"]


def csv_with_missing_files(root: Path) -> list[object]:
    folder = draw_folder(root / "set")
    (root / "l.csv").write_text("file,label\nleft/00.png,a\nleft/none.png,a\nright/00.png,b\n")
    return [folder, "--labels", root / "l.csv"]


def csv_without_labels(root: Path) -> list[object]:
    folder = draw_folder(root / "set")
    (root / "l.csv").write_text("file,diagnosis\nleft/00.png,a\n")
    return [folder, "--labels", root / "l.csv"]


def zip_that_climbs_out(root: Path) -> list[object]:
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        archive.writestr("../evil.png", b"x")
    return [root / "set.zip"]


def encrypted_zip(root: Path) -> list[object]:
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        archive.writestr("a/1.png", b"x")
    raw = bytearray((root / "set.zip").read_bytes())
    raw[6] |= 1  # the flag "encrypted", in the local header
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # and in the central directory
    (root / "set.zip").write_bytes(raw)
    return [root / "set.zip"]


def no_such_folder(root: Path) -> list[object]:
    return [root / "nothing-here"]


WRONG_DATA = {
    "empty folder": (empty_folder, "empty"),
    "one class": (one_class, "left"),
    "one image in a class": (one_image_in_a_class, "right"),
    "text named .png": (only_text_named_png, "read"),
    "DICOM without pixels": (only_dicom_without_pixels, "read"),
    "CSV that names missing files": (csv_with_missing_files, "none.png"),
    "CSV without labels": (csv_without_labels, "label"),
    "zip with ../": (zip_that_climbs_out, ".."),
    "encrypted zip": (encrypted_zip, "password"),
    "no such folder": (no_such_folder, "nothing-here"),
}


@pytest.mark.parametrize("case", WRONG_DATA)
def test_wrong_data_is_answered_in_plain_words(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, part = WRONG_DATA[case]
    error = said(capsys, monkeypatch, "train", *make(tmp_path), "--out", tmp_path / "run", *QUICK)
    assert error.startswith("Error: ") or "\nError: " in error
    assert part in error


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--rank", "0"], "The option rank cannot be used (seen: 0)"),
        (["--rank", "193"], "Use a rank of 1 to 192"),
        (["--backbone", "vit_huge_nonsense"], "Unknown backbone (seen: vit_huge_nonsense)"),
        (["--backbone", "deit_tiny_patch16_224:gone.safetensors"], "weights file does not exist"),
        (["--method", "dora"], "The option method cannot be used (seen: dora)"),
        (["--wavelet", "bior4.4", "--levels", "9"], "levels=9"),
        (["--option", "augment"], "not KEY=VALUE"),
        (["--option", "colour=red"], "Unknown option (seen: colour)"),
        (["--device", "cuda:9"], "The option device cannot be used"),
        (["--frames", "last"], "The option frames cannot be used (seen: last). Use one of first, middle, all."),
        (["--window", "0"], "The option window cannot be used (seen: 0)"),
    ],
)
def test_wrong_options_are_answered_in_plain_words(
    options: list[str],
    part: str,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert part in said(capsys, monkeypatch, "train", images, "--out", tmp_path / "run", *QUICK, *options)


def test_a_full_disk_is_answered_in_plain_words(images: Path, tmp_path: Path) -> None:
    """A real process whose files may not grow beyond 200 kB: the pixels of 24 images do not fit."""
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        f"sys.argv = ['wara', 'train', {str(images)!r}, '--out', {str(tmp_path / 'run')!r}, '--epochs', '1'];"
        "from wara.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 2
    assert "space" in done.stderr
    assert "Traceback" not in done.stderr


def test_places_that_cannot_be_written_or_read_are_answered_in_plain_words(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    (tmp_path / "empty").mkdir()

    for words in (
        ["train", images, "--out", file / "sub", *QUICK],
        ["train", images, "--out", tmp_path / ("x" * 300), *QUICK],
        ["predict", run, images / "left" / "00.png", "--csv", file / "x.csv"],
        ["predict", run, tmp_path / "empty"],
        ["predict", run, tmp_path / "gone.png"],
        ["analyse", run, images, "--out", file],
        ["export", tmp_path / "empty", "--format", "peft", "--out", tmp_path / "a.zip"],
    ):
        assert "Error: " in said(capsys, monkeypatch, *words)
