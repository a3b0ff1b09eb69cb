"""Labels on the command line: tables with columns of their own, patterns, headers, and what does not fit together."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from tests.wara.data.test_grids import workbook
from tests.wara.support import draw_folder
from wara.cli import app, main
from wara.data.mapping import Mapping, read_mapping
from wara.errors import InputError
from wara.label_options import LabelOptions


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Images of two classes in one folder, named patient_class_number."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for n, path in enumerate(sorted(draw_folder(tmp_path / "drawn").rglob("*.png"))):
        path.rename(folder / f"{n:02d}_{path.parent.name}_{n}.png")
    return folder


def _refusal(data: Path, **options: object) -> InputError:
    with pytest.raises(InputError) as caught:
        LabelOptions(**options).resolve(data)
    return caught.value


def _rows(flat: Path) -> list[list[str]]:
    return [[path.stem, path.name.split("_")[1], path.name[:2]] for path in sorted(flat.glob("*.png"))]


def test_without_options_the_usual_layouts_are_meant(flat: Path) -> None:
    assert LabelOptions().resolve(flat) == (None, ())
    table = flat / "labels.csv"
    table.write_text("file,label\n" + "".join(f"{row[0]},{row[1]}\n" for row in _rows(flat)))
    assert LabelOptions(labels=table).resolve(flat) == (None, ())


def test_columns_of_a_workbook_are_guessed_and_the_guess_is_said(flat: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.xlsx"
    table.write_bytes(workbook(a=[["Scan", "Dx", "MRN"], *_rows(flat)]))
    mapping, guessed = LabelOptions(labels=table).resolve(flat)
    assert mapping is not None
    assert mapping.columns == {"file": "Scan", "label": "Dx", "patient": "MRN"}
    done = CliRunner().invoke(app, ["check", str(flat), "--labels", str(table)])
    assert done.exit_code == 0, done.output
    assert "Guessed: Column 'Scan' is taken as the file:" in done.output
    assert len(guessed) == 3


def test_named_columns_are_taken_and_no_others(flat: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.xlsx"
    table.write_bytes(workbook(a=[["x"], ["y"]], b=[["Scan", "Dx", "MRN"], *_rows(flat)]))
    mapping, guessed = LabelOptions(labels=table, sheet="b", columns="file=Scan, label=Dx").resolve(flat)
    assert mapping == Mapping("table", table="list.xlsx", sheet="b", columns={"file": "Scan", "label": "Dx"})
    assert guessed == ()


def test_a_pattern_gives_labels_or_only_the_patients(flat: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(flat), "--pattern", r"(?P<patient>\d+)_(?P<label>[a-z]+)"])
    assert done.exit_code == 0, done.output
    assert "(pattern)" in done.output and "patients" in done.output
    mapping, _ = LabelOptions(pattern=r"(?P<patient>\d+)_").resolve(flat)
    assert mapping is not None and mapping.source == "folders"


def test_a_header_gives_labels(tmp_path: Path) -> None:
    for name in ("CT_small.dcm", "MR_small.dcm"):
        (tmp_path / name).write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    mapping, _ = LabelOptions(label_tag="Modality", patient_tag="(0010,0020)").resolve(tmp_path)
    assert mapping == Mapping("dicom", label_tag="Modality", patient_tag="(0010,0020)")


def test_what_does_not_fit_is_answered_with_the_columns_there_are(flat: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("who,what\nx,1\n")
    error = _refusal(flat, labels=table)
    assert (error.code, error.seen) == ("csv-column-missing", "t.csv: its columns are who, what")
    assert "--columns" in error.remedy
    assert _refusal(flat, columns="image=Scan").code == "columns-form"
    assert _refusal(flat, columns="file=Scan").code == "csv-not-found"
    assert _refusal(flat, label_tag="Modality", pattern="(?P<label>a)").code == "mapping-twice"


def test_wrong_labels_end_in_one_sentence(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["wara", "check", str(flat), "--pattern", "(?P<label>"])
    with pytest.raises(SystemExit):
        main()
    assert "The file-name pattern cannot be used" in capsys.readouterr().err


def test_a_run_keeps_its_mapping_and_another_repeats_it(flat: Path, tmp_path: Path) -> None:
    quick = ["--epochs", "1", "--batch-size", "8", "--device", "cpu", "--backbone", "vit_tiny_untrained"]
    words = ["train", str(flat), "--out", str(tmp_path / "run"), "--pattern", r"_(?P<label>[a-z]+)_", *quick]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    kept = tmp_path / "run" / "mapping.json"
    assert read_mapping(kept) == Mapping("pattern", pattern=r"_(?P<label>[a-z]+)_")
    done = CliRunner().invoke(app, ["check", str(flat), "--mapping", str(kept)])
    assert done.exit_code == 0, done.output
    words = ["analyse", str(tmp_path / "run"), str(flat), "--out", str(tmp_path / "figures"), "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
