"""Say in plain words that the disk is full, or that a folder may not be written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wara.errors import InputError

# No space, a user's quota, and a limit on the size of files: for a person all three mean that it does not fit.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_MARGIN_BYTES = 16 << 20


@contextmanager
def plain_disk_errors(folder: Path) -> Iterator[None]:
    """Turn the system's errors of writing below ``folder`` into an ``InputError``.

    Raises:
        InputError: code "disk-full" or "not-writable"; other errors pass as they are.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(folder, None) from error
        if error.errno in _REFUSED:
            raise InputError(
                "The folder may not be written",
                seen=f"{folder}: {error.strerror}",
                remedy="Choose another folder, or change its access rights.",
                code="not-writable",
            ) from error
        raise


def require_space(folder: Path, needed: int) -> None:
    """Raise before writing begins when the disk plainly cannot hold ``needed`` bytes.

    Raises:
        InputError: code "disk-full".
    """
    free = shutil.disk_usage(existing(folder)).free
    if free < needed + _MARGIN_BYTES:
        raise disk_full(folder, needed)


def disk_full(folder: Path, needed: int | None) -> InputError:
    """Return the error for a full disk, with what is free and, where known, what is needed."""
    free = f"{shutil.disk_usage(existing(folder)).free / 1e6:,.0f} MB free"
    wanted = "" if needed is None else f", {needed / 1e6:,.0f} MB needed"
    return InputError(
        "There is not enough space left on the disk",
        seen=free + wanted,
        remedy="Delete what is no longer needed (old runs, data sets), or choose a folder on another disk.",
        code="disk-full",
    )


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
