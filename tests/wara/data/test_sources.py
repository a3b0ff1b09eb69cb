from __future__ import annotations

import os

import pytest

from wara.data import open_source
from wara.data.sources import wrapping_folder
from wara.errors import InputError, UnreadableImage


def _refusal(path) -> InputError:
    with pytest.raises(InputError) as caught:
        open_source(path)
    return caught.value


def test_a_folder_lists_its_files_in_order_and_reads_them(folder):
    root = folder({"b/2.png": b"two", "a/1.png": b"one", "a/x/3.png": b"three", "notes.txt": b"n"})
    with open_source(root) as source:
        assert source.names() == ["a/1.png", "a/x/3.png", "b/2.png", "notes.txt"]
        assert source.read("a/x/3.png") == b"three"
        assert "a/1.png" in source
        assert "a/9.png" not in source
        assert len(source) == 4


def test_hidden_files_and_what_systems_leave_behind_are_passed_over(folder):
    root = folder(["a/1.png", "b/1.png", ".git/x.png", "a/.DS_Store", "__MACOSX/a/._1.png", "a/Thumbs.db"])
    assert open_source(root).names() == ["a/1.png", "b/1.png"]


def test_a_zip_lists_and_reads_like_the_folder(folder, make_zip):
    files = {"chest/a/1.png": b"one", "chest/b/2.png": b"two", "__MACOSX/chest/a/._1.png": b"", "chest/.hidden": b""}
    with open_source(make_zip(files)) as zipped, open_source(folder(files)) as plain:
        assert zipped.names() == plain.names() == ["a/1.png", "b/2.png"]
        assert zipped.prefix == plain.prefix == "chest/"
        assert [zipped.read(name) for name in zipped.names()] == [b"one", b"two"]


def test_a_single_file_is_a_source_of_one_name(folder):
    root = folder({"scan.dcm": b"DICM"})
    with open_source(root / "scan.dcm") as source:
        assert (source.names(), source.read("scan.dcm")) == (["scan.dcm"], b"DICM")


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["top/a/1.png", "top/b/1.png"], "top/"),
        (["one/two/a/1.png", "one/two/b/1.png"], "one/two/"),
        (["normal/1.png", "normal/2.png"], ""),  # a single class is no wrapping
        (["train/a/1.png", "train/b/1.png"], ""),  # nor is a single side
        (["top/train/a/1.png", "top/test/a/1.png"], "top/"),
        (["top/labels.csv", "top/1.png"], "top/"),
        (["labels.csv", "images/a/1.png"], ""),  # the table's paths start at its own folder
        (["readme.txt", "top/a/1.png", "top/b/1.png"], "top/"),
        (["loose.png", "top/a/1.png"], ""),
        (["a/1.png", "b/1.png"], ""),
        ([], ""),
    ],
)
def test_only_folders_that_mean_nothing_are_seen_through(names, prefix):
    assert wrapping_folder(names) == prefix


def test_the_stamp_changes_with_the_file(folder):
    root = folder({"a/1.png": b"one", "b/1.png": b"two"})
    source = open_source(root)
    before = source.stamp("a/1.png")
    assert source.stamp("a/1.png") == before
    (root / "a/1.png").write_bytes(b"other")
    assert source.stamp("a/1.png") != before


def test_links_are_followed_and_circles_end(folder, tmp_path):
    elsewhere = folder({"1.png": b"one"}, name="elsewhere")
    root = folder({"b/2.png": b"two"})
    (root / "a").symlink_to(elsewhere, target_is_directory=True)
    (root / "b" / "again").symlink_to(root, target_is_directory=True)
    with open_source(root) as source:
        assert source.names() == ["a/1.png", "b/2.png"]
        assert source.read("a/1.png") == b"one"


def test_a_file_that_went_away_is_a_plain_refusal(folder):
    root = folder(["a/1.png", "b/1.png"])
    source = open_source(root)
    (root / "a/1.png").unlink()
    with pytest.raises(UnreadableImage, match="The file cannot be read"):
        source.read("a/1.png")
    assert source.stamp("a/1.png") == "missing"


def test_a_path_that_does_not_exist_is_named(tmp_path):
    error = _refusal(tmp_path / "nothing")
    assert error.code == "not-found"
    assert str(tmp_path / "nothing") in str(error)


def test_archives_of_other_kinds_say_what_to_do(folder):
    error = _refusal(folder({"data.tar.gz": b"\x1f\x8b"}) / "data.tar.gz")
    assert error.code == "archive-kind"
    assert "zip" in error.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_not_taken_for_empty(folder):
    root = folder(["a/1.png"])
    root.chmod(0)
    try:
        assert _refusal(root).code == "no-access"
    finally:
        root.chmod(0o700)


def test_what_is_neither_file_nor_folder_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert _refusal(tmp_path / "pipe").code == "not-a-file"


def test_names_that_are_no_utf8_are_shown_readable_and_still_read(tmp_path):
    folder = tmp_path / "data" / os.fsdecode(b"gr\xf6\xdfe")
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"one")
    with open_source(tmp_path / "data") as source:
        assert source.names() == ["größe/ÿ.png"]
        assert source.read("größe/ÿ.png") == b"one"
        assert source.stamp("größe/ÿ.png").startswith("3:")


def test_a_folder_inside_that_may_not_be_read_is_told_and_not_left_out(folder, monkeypatch):
    root = folder(["a/1.png", "b/2.png"])
    scandir = os.scandir

    def refuse(place):
        if os.fspath(place) == str(root / "b"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)  # root, as whom tests may run, may read every folder
    error = _refusal(root)
    assert (error.code, error.seen) == ("no-access", f"{root / 'b'}: Permission denied")


def test_what_file_systems_keep_for_themselves_is_passed_over(folder):
    root = folder(["a/1.png", "b/2.png", "lost+found/x.png", "$RECYCLE.BIN/y.png", "System Volume Information/z"])
    with open_source(root) as source:
        assert source.names() == ["a/1.png", "b/2.png"]


def test_two_files_whose_names_read_the_same_are_both_kept(tmp_path):
    (tmp_path / os.fsdecode(b"\xe4.png")).write_bytes(b"one")
    (tmp_path / "ä.png").write_bytes(b"two")
    with open_source(tmp_path) as source:
        assert len(source) == 2 and {name.removeprefix("ä") for name in source.names()} == {".png", " (2).png"}
        assert sorted(source.read(name) for name in source.names()) == [b"one", b"two"]
