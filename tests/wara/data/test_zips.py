from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from wara.data import open_source
from wara.data.zips import MAX_MEMBER_BYTES
from wara.errors import InputError, UnreadableImage


def _refusal(path) -> InputError:
    with pytest.raises(InputError) as caught:
        open_source(path)
    return caught.value


@pytest.mark.parametrize(
    "name",
    ["../a.png", "a/../../b.png", "/etc/passwd", "C:/a.png", "c:a.png", "..\\a.png", "\\\\server\\a.png", "a/.."],
)
def test_paths_that_lead_out_are_refused(make_zip, name):
    error = _refusal(make_zip({"a/1.png": b"1", name: b"2"}))
    assert error.code == "zip-unsafe-path"
    assert error.what == "The zip holds a path that leads out of its folder"


def test_a_name_with_a_nul_is_refused(make_zip):
    path = make_zip({"a/1.png": b"1", "a/XX.png": b"2"})
    path.write_bytes(path.read_bytes().replace(b"a/XX.png", b"a/X\0.png"))
    assert _refusal(path).code in ("zip-unsafe-path", "zip-damaged")


def test_an_encrypted_zip_is_refused(make_zip):
    path = make_zip({"a/1.png": b"secret"})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1  # the flag that says so; nothing is read beyond it
    path.write_bytes(data)
    error = _refusal(path)
    assert (error.what, error.code) == ("The zip is encrypted", "zip-encrypted")
    assert "without a password" in error.remedy


def test_a_link_is_refused(make_zip, tmp_path):
    info = zipfile.ZipInfo("a/link.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert _refusal(tmp_path / "l.zip").code == "zip-link"


def test_a_zip_in_the_zip_is_refused(make_zip):
    assert _refusal(make_zip({"a/1.png": b"1", "more/INNER.ZIP": b"PK"})).code == "zip-nested"


def test_two_files_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a/1.png", b"1")
        archive.writestr("a/1.png", b"2")
    error = _refusal(tmp_path / "d.zip")
    assert (error.code, error.seen) == ("zip-duplicate", "a/1.png")


def test_a_zip_that_would_grow_beyond_reason_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        chunk = bytes(1 << 20)
        with archive.open("a/1.png", "w") as member:
            for _ in range(300):
                member.write(chunk)
    error = _refusal(path)
    assert error.code == "zip-too-large"
    assert "0.3 GB" in str(error)


def test_a_file_larger_than_any_image_is_refused_by_its_declared_size(make_zip):
    path = make_zip({"a/1.png": b"1"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, MAX_MEMBER_BYTES + 1)
    path.write_bytes(data)
    assert _refusal(path).code == "zip-too-large"


def test_files_that_share_bytes_are_refused(tmp_path):
    """Overlapping members, as in Fifield's bomb: many entries of the directory point to one piece of data."""
    path = tmp_path / "overlap.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", bytes(range(256)) * 40)
        first = archive.filelist[0]
        for number in range(2, 6):
            other = zipfile.ZipInfo(f"a/{number}.png")
            for field in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(other, field, getattr(first, field))
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other
    error = _refusal(path)
    assert error.code == "zip-too-large"
    assert "overlap" in str(error)


@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_a_zip_cut_short_is_refused(make_zip, keep):
    path = make_zip({f"a/{number}.png": bytes([number]) * 500 for number in range(20)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert _refusal(path).code == "zip-damaged"


def test_text_named_zip_is_refused(folder):
    assert _refusal(folder({"a.zip": "not a zip"}) / "a.zip").code == "zip-damaged"


def test_a_zip_is_known_without_its_suffix(make_zip):
    assert open_source(make_zip({"a/1.png": b"1"}, name="upload")).names() == ["a/1.png"]


def test_a_member_that_is_damaged_is_refused_alone(tmp_path):
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", b"the first one")
        archive.writestr("b/2.png", b"the second one")
    path.write_bytes(path.read_bytes().replace(b"the first one", b"the fXrst one"))
    with open_source(path) as source:
        assert source.read("b/2.png") == b"the second one"
        with pytest.raises(UnreadableImage, match="damaged inside the zip"):
            source.read("a/1.png")


def test_umlauts_of_macos_and_of_windows_tools_come_out_right(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xxxxxxxx/1.png", b"1")
        archive.writestr("normal\\2.png", b"2")
    raw = "größe".encode().ljust(8, b"_")  # UTF-8 without the flag that says so, as macOS writes it
    assert len(raw) == 8
    path = tmp_path / "m.zip"
    path.write_bytes(file.getvalue().replace(b"xxxxxxxx", raw))
    assert open_source(path).names() == ["größe_/1.png", "normal/2.png"]


def test_files_are_read_from_several_threads_at_once(make_zip):
    files = {f"c{number % 3}/{number}.png": bytes([number]) * 5000 for number in range(90)}
    with open_source(make_zip(files)) as source, ThreadPoolExecutor(8) as pool:
        names = source.names() * 3
        assert list(pool.map(source.read, names)) == [files[name] for name in names]


def test_stamps_are_the_checksums(make_zip):
    one = open_source(make_zip({"a/1.png": b"abc"}, "1.zip"))
    same = open_source(make_zip({"a/1.png": b"abc"}, "2.zip"))
    other = open_source(make_zip({"a/1.png": b"abd"}, "3.zip"))
    assert one.stamp("a/1.png") == same.stamp("a/1.png") != other.stamp("a/1.png")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
def test_a_member_whose_own_header_is_damaged_is_unreadable(tmp_path, method):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/é.png", b"0123456789" * 30)
    data = bytearray(path.read_bytes())
    if method == zipfile.ZIP_STORED:
        data[32] = 0x9E  # within the name of the member's own header, which then is no UTF-8
    else:
        data[46:60] = b"\xff" * 14
    path.write_bytes(data)
    with open_source(path) as source, pytest.raises(UnreadableImage):
        source.read(source.names()[0])


def test_names_that_begin_with_the_folder_itself_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in ("./", "./a/", "./a/1.png", "./a/./2.png"):
            archive.writestr(name, b"1")
    with open_source(tmp_path / "d.zip") as source:
        assert source.names() == ["a/1.png", "a/2.png"] and source.read("a/2.png") == b"1"
