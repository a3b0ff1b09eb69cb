"""Names of files that come from outside: which may be stored as they are."""

from __future__ import annotations

import re

from backend.problems import RequestRefused

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
# Those of C0, and those that turn the direction of writing, by which a name is shown as another than it is.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_DEVICE_NAME = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$")


def safe_relative(name: str) -> str:
    """Return a relative path as it may be stored, or refuse it.

    Args:
        name: the path as the browser sent it, e.g. ``chest/NORMAL/1.png``.

    Returns:
        The same path with POSIX separators, without empty and ``.`` segments.

    Raises:
        RequestRefused: for ``..``, absolute paths, drive letters, control characters, names of devices and names
            that are too long.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    unsafe = (
        not parts
        or name.startswith("/")
        or "\\" in name
        or re.match(r"^[A-Za-z]:", name) is not None
        or _CONTROL.search(name) is not None
        or any(part == ".." or _DEVICE_NAME.match(part) for part in parts)
        or any(len(part.encode()) > MAX_NAME_BYTES for part in parts)
        or len(name.encode()) > MAX_PATH_BYTES
    )
    if unsafe:
        raise RequestRefused(
            422,
            "A file name cannot be stored safely",
            seen=repr(name[:100]),
            remedy="Upload the folder itself, and rename files whose names hold '..', a drive, a backslash or control "
            "characters, are longer than 255 letters, or are kept for devices on Windows (con, aux, nul).",
            code="unsafe-name",
        )
    return "/".join(parts)
