"""The folder of this machine's own files: the key that hides patient IDs, and where weights files were last seen."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

_WEIGHTS = "weights.json"


def home() -> Path:
    """Return the folder: ``WARA_HOME``, else ~/.local/share/wara-studio."""
    chosen = os.environ.get("WARA_HOME")
    if chosen:
        return Path(chosen)
    try:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError as error:  # an account without a home
        raise OSError(errno.ENOENT, "this account has no home folder", "~") from error
    return Path(base) / "wara-studio"


def remember_weights(fingerprint: str, file: Path) -> None:
    """Note where a backbone's weights file lies, so that a run folder needs no path of this machine in it.

    A home that cannot be written is passed over: `--backbone NAME:FILE` then names the file when predicting.
    """
    known = _read_weights()
    place = str(file.resolve())
    if known.get(fingerprint) == place:
        return
    known[fingerprint] = place
    try:
        path = home() / _WEIGHTS
        temporary = path.with_name(f".{_WEIGHTS}-{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(json.dumps(known, indent=2), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return


def remembered_weights(fingerprint: str) -> Path | None:
    """Return where the weights of a fingerprint were last seen, if the file is still there."""
    place = _read_weights().get(fingerprint)
    return Path(place) if place is not None and Path(place).is_file() else None


def _read_weights() -> dict[str, str]:
    try:
        known = json.loads((home() / _WEIGHTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in known.items()} if isinstance(known, dict) else {}
