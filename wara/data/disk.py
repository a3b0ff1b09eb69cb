"""Say "the disk is full" when it is, and leave nothing half-written behind."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wara.errors import InputError

# No space, a user's quota, and a limit on the size of files: for a person all three mean that it does not fit.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MARGIN_BYTES = 16 << 20


@contextmanager
def full_disk_as_input_error(folder: Path) -> Iterator[None]:
    """Turn the system's errors for a full disk into an ``InputError`` with the code "disk-full"."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise disk_full(folder, None) from error


def require_space(folder: Path, needed: int) -> None:
    """Raise before writing begins when the disk plainly cannot hold ``needed`` bytes.

    Raises:
        InputError: code "disk-full".
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN_BYTES:
        raise disk_full(folder, needed)


def disk_full(folder: Path, needed: int | None) -> InputError:
    """Return the error for a full disk, with what is free and, where known, what is needed."""
    free = f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB free"
    wanted = "" if needed is None else f", {needed / 1e6:,.0f} MB needed"
    return InputError(
        "There is not enough space left on the disk",
        seen=free + wanted,
        remedy="Delete what is no longer needed (old runs, data sets), or choose a folder on another disk.",
        code="disk-full",
    )
