"""A zip as a source: looked over before anything is read, for zips can be made to do harm."""

from __future__ import annotations

import lzma
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

from wara.data.sources import Source, is_hidden, unreadable_file
from wara.errors import InputError

# Larger than any image that is read: 100 megapixels of three 16-bit channels are 600 MB.
MAX_MEMBER_BYTES = 1 << 30
MAX_TOTAL_BYTES = 1 << 40
MAX_MEMBERS = 2_000_000
# Deflate cannot exceed 1032:1; whole data sets of images stay far below 200:1.
MAX_RATIO = 200
_RATIO_MATTERS_FROM = 1 << 28

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
# ValueError: a member's own header may hold a name that is no UTF-8, though the list at the end holds a good one.
_READ_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, RuntimeError, OSError,
    ValueError,
)  # fmt: skip
_DRIVE = re.compile(r"^[A-Za-z]:")
_REPACK = "Pack the folder again with the file manager's own zip function."


class ZipSource(Source):
    """The files of a zip; nothing is unpacked to disk.

    Raises:
        InputError: no zip, damaged, encrypted, names that leave the folder, links, zips inside, two files of one
            name, or contents that grow beyond reason.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise InputError(
                "The zip is damaged or incomplete",
                seen=path.name,
                remedy="Copy or upload it again.",
                code="zip-damaged",
            ) from error
        except OSError as error:
            raise unreadable_file(path.name, error.strerror or "cannot be opened") from error
        try:
            self._members = _checked_members(self._zip, path)
        except BaseException:
            self._zip.close()
            raise
        super().__init__(path, self._members)

    def read(self, name: str) -> bytes:
        """Return a file's bytes (see ``Source.read``)."""
        try:
            return self._zip.read(self._members[self.prefix + name])
        except KeyError:
            raise unreadable_file(name, "not in the zip") from None
        except _READ_ERRORS as error:
            raise unreadable_file(name, "damaged inside the zip") from error

    def size(self, name: str) -> int:
        """Return a file's bytes when unpacked (see ``Source.size``)."""
        return self._members[self.prefix + name].file_size

    def stamp(self, name: str) -> str:
        """Return size and checksum."""
        info = self._members[self.prefix + name]
        return f"{info.file_size}:{info.CRC:08x}"

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()


def _checked_members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise _bomb(path, f"{len(infos):,} files")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = _clean_name(info)
        _check_name(name, info)
        if info.is_dir() or name.endswith("/"):
            continue
        if is_hidden(name):
            continue
        _check_member(name, info)
        if name in members:
            raise InputError(
                "The zip holds two files of the same name", seen=name, remedy=_REPACK, code="zip-duplicate"
            )
        members[name] = info
    _check_growth(list(members.values()), path)
    return members


def _clean_name(info: zipfile.ZipInfo) -> str:
    """Return the name with slashes, in UTF-8 where it is (macOS writes UTF-8 without saying so), composed."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    parts = unicodedata.normalize("NFC", name.replace("\\", "/")).split("/")
    return "/".join(part for part in parts if part != ".")


def _check_name(name: str, info: zipfile.ZipInfo) -> None:
    parts = name.split("/")
    # zipfile itself cuts names at a NUL; the name as stored still has it.
    if ".." in parts or name.startswith("/") or _DRIVE.match(name) or "\0" in info.orig_filename:
        raise InputError(
            "The zip holds a path that leads out of its folder",
            seen=name,
            remedy=f"It may have been made to do harm. {_REPACK}",
            code="zip-unsafe-path",
        )


def _check_member(name: str, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 0x1:
        raise InputError(
            "The zip is encrypted", seen=name, remedy="Pack it again without a password.", code="zip-encrypted"
        )
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(
            "The zip holds a link or a device instead of a file", seen=name, remedy=_REPACK, code="zip-link"
        )
    if name.lower().endswith(".zip"):
        raise InputError(
            "The zip holds another zip",
            seen=name,
            remedy="Unpack the inner one and pack everything as one zip.",
            code="zip-nested",
        )
    if info.compress_type not in _METHODS:
        raise InputError(
            "The zip uses a compression that is not read",
            seen=f"{name}: method {info.compress_type}",
            remedy="Pack it again with ordinary compression (Deflate).",
            code="zip-compression",
        )


def _check_growth(infos: list[zipfile.ZipInfo], path: Path) -> None:
    for info in infos:
        if info.file_size > MAX_MEMBER_BYTES:
            raise _bomb(path, f"{info.filename}: {info.file_size / 1e9:.1f} GB")
    total, packed = sum(info.file_size for info in infos), sum(info.compress_size for info in infos)
    if total > MAX_TOTAL_BYTES or (total > _RATIO_MATTERS_FROM and total > MAX_RATIO * max(packed, 1)):
        raise _bomb(path, f"{packed / 1e6:,.1f} MB would become {total / 1e9:,.1f} GB")
    # Members that share bytes make a small file grow without a high ratio anywhere.
    if packed > path.stat().st_size:
        raise _bomb(path, "its files overlap")


def _bomb(path: Path, seen: str) -> InputError:
    return InputError(
        "The zip would grow beyond reason when it is opened",
        seen=f"{path.name}: {seen}",
        remedy="It may have been made to do harm. Unpack it yourself and give the folder.",
        code="zip-too-large",
    )
