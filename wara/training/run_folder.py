"""The folder of a run: made or found again, held by one training at a time, kept to its options, cleaned at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from wara.errors import InputError
from wara.training import outputs
from wara.training.checkpoint import Checkpoint
from wara.training.recipe import Recipe


def prepare_folder(out: Path, resume: bool, recipe: Recipe) -> dict[str, Any] | None:
    """Make the folder; return the metrics of a run that is already whole and is being resumed.

    Raises:
        InputError: it is a file, holds something else, or a run with other options.
    """
    if out.exists() and not out.is_dir():
        raise InputError(
            "The output is a file, not a folder", seen=out.name, remedy="Name a new folder with --out.",
            code="out-not-a-folder",
        )  # fmt: skip
    own = {own_cache(out).name}  # what a run that was refused while reading may have left
    found = {entry.name for entry in out.iterdir()} - own if out.is_dir() else set()
    if resume and found and not found & {outputs.RECIPE, outputs.CHECKPOINT}:
        raise InputError(
            "The output folder holds something else than a run", seen=out.name,
            remedy="Name the folder of the run that is to go on.", code="out-not-a-run",
        )  # fmt: skip
    if found and not resume:
        raise InputError(
            "The output folder is not empty",
            seen=out.name,
            remedy="Name a new folder, or add --resume to go on with the run that it holds.",
            code="out-not-empty",
        )
    out.mkdir(parents=True, exist_ok=True)
    if resume and (out / outputs.METRICS).is_file():
        _require_same_options(outputs.read_recipe(out), recipe)
        metrics: dict[str, Any] = json.loads((out / outputs.METRICS).read_text(encoding="utf-8"))
        return metrics
    return None


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep other trainings out of a folder inside a ``with`` block, as long as this process lives.

    Raises:
        InputError: another one is at work there; code ``"out-in-use"``.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows, where a folder cannot be locked
        yield
        return
    # The folder itself, so that nothing is left in it; processes that are started meanwhile do not inherit it.
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                "Another training is at work in the output folder", seen=out.name,
                remedy="Wait until it has ended, or name another folder with --out.", code="out-in-use",
            ) from error  # fmt: skip
        except OSError:
            pass  # a network's file system without locks
        yield
    finally:
        os.close(handle)


def clean(out: Path) -> None:
    """Take away what only a run under way needs; one that was killed while it did so does it when it is resumed."""
    Checkpoint(out / outputs.CHECKPOINT).remove()
    shutil.rmtree(own_cache(out), ignore_errors=True)


def own_cache(out: Path) -> Path:
    """Return where a run keeps what only its training needs."""
    return out / ".pixels"


def require_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a run by other options, or over other data, than it began with; code "resume-mismatch"."""
    # Runs of earlier versions know of no decisions, and not of options that came since: those were as by default.
    options = {each.name: each.default for each in dataclasses.fields(Recipe)}
    before = {"decisions": [], **options, **before}
    free = ("packages", "device", "device_name", "accumulate")
    others = [key for key in now if key not in free and before.get(key) != now[key]]
    differing = [_told(key, before.get(key), now[key]) for key in others]
    if differing:
        raise InputError(
            "The run cannot be resumed with other options or data",
            seen=", ".join(differing),
            remedy="Resume with the options that it was started with, or start a new run.",
            code="resume-mismatch",
        )


def _told(key: str, before: Any, now: Any) -> str:
    short = all(value is None or isinstance(value, (str, int, float)) for value in (before, now))
    return f"{key}: {before} then, {now} now" if short else key


def _require_same_options(stored: dict[str, Any], recipe: Recipe) -> None:
    """Refuse to take a finished run for one with other options."""
    recipe = recipe.for_images(stored["data"]["splits"]["train"])
    now = recipe.to_dict() | {"backbone": recipe.backbone.partition(":")[0], "device": stored.get("device")}
    require_same(stored | {"backbone": stored["backbone"]["name"]}, now)


def in_plain_words(error: Exception, out: Path) -> Exception:
    """Return the sentence for an error of the disk or the rights to it; any other error as it is."""
    number = getattr(error, "errno", None)
    if isinstance(error, SafetensorError):  # it keeps the number in its text only
        found = re.search(r"os error (\d+)", str(error))
        number = int(found.group(1)) if found else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return InputError(
            "There is no space left on the disk", seen=out.name,
            remedy="Free some space and go on with --resume; what was done until the last epoch is kept.",
            code="disk-full",
        )  # fmt: skip
    if number in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return InputError(
            "The output folder cannot be written", seen=out.name, remedy="Name a folder that you may write to.",
            code="out-not-writable",
        )  # fmt: skip
    return error
