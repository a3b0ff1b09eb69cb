"""One way to list and read files, whether they lie in a folder, in a zip or alone."""

from __future__ import annotations

import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Self

from wara.data.grids import is_table_name
from wara.data.words import is_split_word
from wara.errors import InputError, UnreadableImage

# A folder that holds a file of this name is the data's top folder as it stands (see ``wara.data.kept``).
KEPT_FILE = ".wara-kept.json"

_NOISE = frozenset({
    "__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "lost+found", "$recycle.bin", "system volume information",
})  # fmt: skip
_OTHER_ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


class Source(ABC):
    """A set of named files. Names are POSIX paths relative to the data's top folder.

    A single folder that wraps everything, as archives often have, is seen through; ``prefix`` is that folder with
    its slash, or empty. Reading is safe from several threads.
    """

    path: Path
    prefix: str

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path
        names = list(names)
        kept = sorted(name for name in names if not is_hidden(name))
        self.prefix = "" if KEPT_FILE in names else wrapping_folder(kept)
        self._names = [name[len(self.prefix) :] for name in kept if name.startswith(self.prefix)]
        self._known = frozenset(self._names)

    def names(self) -> list[str]:
        """Return the names of all files, sorted, hidden files and what operating systems leave behind passed over."""
        return list(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __len__(self) -> int:
        return len(self._names)

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            InputError: the file cannot be read, code "unreadable-file".
        """

    def open(self, name: str) -> BinaryIO:
        """Open a file to read its beginning only; the caller closes it.

        Raises:
            InputError: as ``read``.
        """
        return io.BytesIO(self.read(name))

    def file(self, name: str) -> Path | None:
        """Return where a file lies as it is; None where it lies in an archive."""
        return None

    def contents(self) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield every file's name with its content, or with the reason why it cannot be read; one at a time."""
        for name in self.names():
            try:
                yield name, self.read(name)
            except InputError as error:
                yield name, error

    @abstractmethod
    def size(self, name: str) -> int:
        """Return how many bytes a file has, as its folder or zip says; more than that are never read."""

    @abstractmethod
    def stamp(self, name: str) -> str:
        """Return a short text that changes when the file's content does, without reading the file."""

    def close(self) -> None:  # noqa: B027 (folders hold nothing open)
        """Let go of the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FolderSource(Source):
    """The files of a folder and of its sub-folders; links are followed, circles of links are not."""

    def __init__(self, path: Path) -> None:
        self._on_disk: dict[str, str] = {}
        for name in _walk(path):
            self._on_disk[_free_name(readable_name(name), self._on_disk)] = name
        self._root = os.path.join(path, "")  # noqa: PTH118 (with its slash)
        super().__init__(path, self._on_disk)

    def read(self, name: str) -> bytes:
        """Return a file's bytes (see ``Source.read``)."""
        try:
            with open(self._place(name), "rb", buffering=0) as file:  # noqa: PTH123 (see _place)
                return file.readall()
        except OSError as error:
            raise unreadable_file(name, error.strerror or "cannot be opened") from error

    def open(self, name: str) -> BinaryIO:
        """Open a file (see ``Source.open``)."""
        try:
            return self.file(name).open("rb")
        except OSError as error:
            raise unreadable_file(name, error.strerror or "cannot be opened") from error

    def size(self, name: str) -> int:
        """Return a file's bytes (see ``Source.size``)."""
        try:
            return os.stat(self._place(name)).st_size  # noqa: PTH116 (see _place)
        except OSError as error:
            raise unreadable_file(name, error.strerror or "cannot be opened") from error

    def stamp(self, name: str) -> str:
        """Return size and time of change."""
        try:
            facts = os.stat(self._place(name))  # noqa: PTH116 (see _place)
        except OSError:
            return "missing"
        return f"{facts.st_size}:{facts.st_mtime_ns}"

    def file(self, name: str) -> Path:
        """Return where a file of this name lies."""
        return Path(self._place(name))

    def _place(self, name: str) -> str:
        """Return the same as text: a ``Path`` takes longer to make than the system does to look there."""
        whole = self.prefix + name
        return f"{self._root}{self._on_disk.get(whole, whole)}"


class FileSource(Source):
    """One file by itself."""

    def __init__(self, path: Path) -> None:
        self._file = path
        super().__init__(path.parent, [])
        self._names = [path.name]
        self._known = frozenset(self._names)

    def read(self, name: str) -> bytes:
        """Return the file's bytes (see ``Source.read``)."""
        try:
            return self._file.read_bytes()
        except OSError as error:
            raise unreadable_file(name, error.strerror or "cannot be opened") from error

    def size(self, name: str) -> int:
        """Return the file's bytes (see ``Source.size``)."""
        return self._file.stat().st_size

    def stamp(self, name: str) -> str:
        """Return size and time of change."""
        facts = self._file.stat()
        return f"{facts.st_size}:{facts.st_mtime_ns}"


def open_source(path: Path | str) -> Source:
    """Open a folder, a zip or a single file.

    Args:
        path: where the data is.

    Returns:
        A context manager with ``names()`` and ``read(name)``.

    Raises:
        InputError: nothing is there, it may not be read, it is an archive of another kind, or a zip that is
            encrypted, damaged or unsafe to open.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(
            "There is no such file or folder", seen=path, remedy="Check the spelling of the path.", code="not-found"
        ) from error
    except OSError as error:
        raise _no_access(path, error) from error
    if stat.S_ISDIR(mode):
        try:
            return FolderSource(path)
        except OSError as error:
            raise _no_access(Path(error.filename or path), error) from error
    if not stat.S_ISREG(mode):
        raise InputError(
            "The data is neither a folder nor a file", seen=path, remedy="Give a folder or a zip.", code="not-a-file"
        )
    suffix = path.suffix.lower()
    if suffix == ".zip" or _starts_as_zip(path):
        from wara.data.zips import ZipSource

        return ZipSource(path)
    if suffix in _OTHER_ARCHIVES:
        raise InputError(
            f"Archives of this kind ({suffix}) are not read",
            seen=path.name,
            remedy="Unpack it and give the folder, or pack the data as a zip.",
            code="archive-kind",
        )
    return FileSource(path)


def is_hidden(name: str) -> bool:
    """Whether a name, or a folder on its way, is hidden or is what an operating system leaves behind."""
    return any(part.startswith(".") or part.lower() in _NOISE for part in name.split("/"))


def readable_name(name: str) -> str:
    """Return a file name as text that can be shown and stored: bytes that are no UTF-8 are taken as Windows-1252.

    The system hands such bytes over as lone surrogates, which neither JSON nor a terminal can carry.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("cp1252", "replace")
    return name


def _free_name(name: str, taken: Container[str]) -> str:
    """Return a name, numbered where a file before it reads the same (``ä.png`` in UTF-8 and in Windows-1252)."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 (a text, not a place)
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{stem} ({number}){suffix}"
    return found


def wrapping_folder(names: list[str]) -> str:
    """Return the folders, each with its slash, that wrap all the names and mean nothing; "" where there are none.

    A single class folder or a single ``train`` means something: a folder is seen through only when it holds
    folders again, or a table, and is no split's name.
    """
    prefix = ""
    while True:
        rest = [name[len(prefix) :] for name in names if name.startswith(prefix)]
        # A read-me beside the one folder does not make the folder a class; a table there names its files.
        tops = {name.split("/", 1)[0] for name in rest if "/" in name}
        if len(tops) != 1 or any("/" not in name and _counts(name) for name in rest):
            return prefix
        top = tops.pop()
        inner = [name[len(top) + 1 :] for name in rest if name.startswith(f"{top}/")]
        holds_folders = any("/" in name for name in inner)
        holds_table = any("/" not in name and is_table_name(name) for name in inner)
        if is_split_word(top) or not (holds_folders or holds_table):
            return prefix
        prefix += f"{top}/"


def _counts(name: str) -> bool:
    """Whether a file beside the one folder shows that the folder is no mere wrapping."""
    from wara.imaging.formats import IMAGE_SUFFIXES

    suffix = PurePosixPath(name).suffix.lower()
    return suffix in IMAGE_SUFFIXES or is_table_name(name)


def unreadable_file(name: str, why: str) -> UnreadableImage:
    """Return the error for a file that is listed but cannot be read."""
    return UnreadableImage(
        f"The file cannot be read: {why}",
        seen=name,
        remedy="Check the disk and the access rights, or copy the file again.",
        code="unreadable-file",
    )


def _no_access(path: Path, error: OSError) -> InputError:
    return InputError(
        "The data cannot be opened",
        seen=f"{path}: {error.strerror}",
        remedy="Check the access rights of the file or folder.",
        code="no-access",
    )


def _starts_as_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError as error:
        raise _no_access(path, error) from error


def _raise(error: OSError) -> None:
    """Let nothing be lost: os.walk takes a folder that may not be read for an empty one."""
    raise error


def _walk(root: Path) -> Iterable[str]:
    seen = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        relative = Path(folder).relative_to(root).as_posix()
        base = "" if relative == "." else f"{relative}/"
        followed = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118 (strings here: a walk over 100,000 files)
            if not is_hidden(name) and real not in seen:
                seen.add(real)
                followed.append(name)
        folders[:] = followed
        yield from (base + name for name in files)
