from __future__ import annotations

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from wara.demo import CLASSES, NOTE, generate, main, render
from wara.errors import InputError


def _contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_images(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate(tmp_path / name, images=9, seed=seed, size=48, dicom_share=0.4)

    first, again, other = (_contents(tmp_path / name) for name in "abc")
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_images_are_spread_over_class_folders_and_named_synthetic(tmp_path):
    files = generate(tmp_path / "out", images=11, size=32, dicom_share=0.5)

    assert [sum(path.parent.name == label for path in files) for label in CLASSES] == [4, 4, 3]
    assert sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()) == sorted(files)
    assert all(path.name.startswith("synthetic_") for path in files)
    assert [path.suffix for path in files].count(".dcm") == 2 + 2 + 2


def test_png_files_are_greyscale_of_the_size_asked_and_say_what_they_are(tmp_path):
    files = generate(tmp_path / "out", images=3, size=40, dicom_share=0)

    for path in files:
        with Image.open(path) as image:
            assert (image.mode, image.size, image.text["Description"]) == ("L", (40, 40), NOTE)


def test_dicom_files_show_the_same_picture_as_png_in_both_photometric_interpretations(tmp_path):
    dicoms = generate(tmp_path / "dicom", images=9, size=48, dicom_share=1)
    pngs = generate(tmp_path / "png", images=9, size=48, dicom_share=0)

    interpretations = set()
    for dicom, png in zip(dicoms, pngs, strict=True):
        file = pydicom.dcmread(dicom)
        values = apply_voi_lut(apply_modality_lut(file.pixel_array, file), file)
        low = file.WindowCenter - 0.5 - (file.WindowWidth - 1) / 2
        shown = (values - low) / (file.WindowWidth - 1)
        if file.PhotometricInterpretation == "MONOCHROME1":
            shown = 1 - shown
        interpretations.add(file.PhotometricInterpretation)
        with Image.open(png) as image:
            np.testing.assert_allclose(shown * 255, np.asarray(image, dtype=float), atol=0.6)
    assert interpretations == {"MONOCHROME1", "MONOCHROME2"}


def test_each_synthetic_patient_has_two_images_of_one_class(tmp_path):
    files = generate(tmp_path / "out", images=12, size=32, dicom_share=1)

    patients = {}
    for path in files:
        file = pydicom.dcmread(path, stop_before_pixels=True)
        assert file.ImageComments == NOTE
        patients.setdefault(file.PatientID, []).append(path.parent.name)
    assert len(patients) == 6
    assert all(len(labels) == 2 and len(set(labels)) == 1 for labels in patients.values())


@pytest.mark.parametrize(("label", "low", "high"), [("coarse_mass", 0.0, 0.03), ("fine_cluster", 0.05, 0.5)])
def test_a_finding_adds_detail_of_its_own_scale_to_the_same_ground(label, low, high):
    frequency = np.hypot(np.fft.fftfreq(224)[:, None], np.fft.fftfreq(224)[None, :])  # cycles a pixel
    for seed in range(8):
        ground, image = (render(name, np.random.default_rng(seed), 224) for name in ("normal_texture", label))
        power = np.abs(np.fft.fft2(image - ground)) ** 2
        power[0, 0] = 0

        assert low < float((frequency * power).sum() / power.sum()) < high


def test_brightness_does_not_tell_the_classes_apart():
    means = {
        label: [render(label, np.random.default_rng([place, seed]), 64).mean() for seed in range(60)]
        for place, label in enumerate(CLASSES)
    }

    for one in CLASSES:
        for other in CLASSES:
            brighter = np.greater.outer(means[one], means[other]).mean()  # the AUROC of brightness alone
            assert one == other or 0.35 < brighter < 0.65


def test_an_image_is_tissue_between_dark_air_and_nothing_is_written_on_it():
    for seed in range(4):
        image = render("normal_texture", np.random.default_rng(seed), 224)
        corners = [image[:8, :8].mean(), image[:8, -8:].mean(), image[-8:, :8].mean(), image[-8:, -8:].mean()]

        assert image.min() >= 0 and image.max() <= 1
        assert min(corners) < 0.1
        assert 0.25 < image[90:134, 90:134].mean() < 0.75


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 2}, r"at least one image a class \(seen: 2\)"),
        ({"size": 16}, r"too small \(seen: 16\)"),
        ({"dicom_share": 1.5}, r"out of range \(seen: 1.5\)"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        generate(tmp_path / "out", **arguments)

    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")

    assert main([str(tmp_path), "--images", "3"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    assert main([str(tmp_path / "out"), "--images", "3", "--size", "32"]) == 0
    assert capsys.readouterr().out == f"3 synthetic images in 3 classes: {tmp_path / 'out'}\n"
