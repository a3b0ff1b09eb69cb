"""Public data sets by name: MedMNIST's, fetched where there is a network, as class folders in their official split.

The table of sets (addresses, checksums, classes, licences) is the package `medmnist`'s; Yang et al., *MedMNIST v2*,
Scientific Data 10:41, 2023, and MedMNIST+ for the sizes over 28. Images become PNG without a loss.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from wara.data.disk import existing, plain_disk_errors, require_space
from wara.data.words import SPLITS
from wara.errors import InputError

PREFIX = "medmnist:"
_CHUNK = 1 << 20
_TIMEOUT_S = 60
_ORDERED = "The classes are grades in an order; training takes them as classes without one."

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One set in one size, as the package `medmnist` describes it."""

    name: str
    size: int
    url: str
    md5: str
    labels: dict[int, str]
    licence: str
    note: str | None

    @property
    def file(self) -> str:
        """The file's name at its source."""
        return urlsplit(self.url).path.rsplit("/", 1)[-1]

    @property
    def origin(self) -> str:
        """One line that says what an image is from."""
        return f"MedMNIST {self.name}, {self.size} px, {self.licence}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was written: images by side, and what to know of the set."""

    source: PublicSet
    folder: Path
    images: dict[str, int]


def medmnist_table() -> dict[str, dict[str, Any]]:
    """Return the package's own table of sets, and take back the empty folder that its import makes in the home.

    Raises:
        InputError: code "public-package".
    """
    kept = Path.home() / ".medmnist"
    was_there = kept.exists()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from medmnist import INFO
    except ImportError as error:
        raise InputError(
            "Public sets by name need the package medmnist, which is not installed here",
            seen=str(error),
            remedy="Install it: pip install medmnist==3.0.2",
            code="public-package",
        ) from error
    if not was_there:
        # Another process may take it back at this moment, or have put something in: both are well.
        with contextlib.suppress(OSError):
            kept.rmdir()
    table: dict[str, dict[str, Any]] = INFO
    return table


def find_public(name: str, size: int = 224) -> PublicSet:
    """Look up a set by name; nothing is fetched.

    Args:
        name: ``medmnist:`` and the set's name in any case, e.g. ``medmnist:PneumoniaMNIST``.
        size: height and width in pixels, one of those that the set exists in (28, 64, 128, 224).

    Raises:
        InputError: code "public-unknown", "public-kind" (three-dimensional, or several labels an image),
            "public-size" or "public-package".
    """
    table = medmnist_table()
    key = name.strip().lower().removeprefix(PREFIX)
    if key not in table or not name.strip().lower().startswith(PREFIX):
        raise _unknown(name, key, [one for one, about in table.items() if _refusal(about) is None])
    about = table[key]
    why = _refusal(about)
    if why is not None:
        raise InputError(why, seen=name, remedy="Choose a set of flat images with one label each.", code="public-kind")
    sizes = {28: ""} | {int(field[4:]): field[3:] for field in about if re.fullmatch(r"url_\d+", field)}
    if size not in sizes:
        raise InputError(
            f"{PREFIX}{key} does not exist in this size",
            seen=f"{size} px",
            remedy=f"Its sizes are {', '.join(map(str, sorted(sizes)))}.",
            code="public-size",
        )
    return PublicSet(
        name=key,
        size=size,
        url=about[f"url{sizes[size]}"],
        md5=about[f"MD5{sizes[size]}"],
        labels={int(number): label for number, label in about["label"].items()},
        licence=about["license"],
        note=_ORDERED if about["task"] == "ordinal-regression" else None,
    )


def fetch(
    name: str, out: Path, size: int = 224, *, file: Path | None = None, on_progress: Progress | None = None
) -> Fetched:
    """Write a public set as ``out/{train,val,test}/CLASS/*.png``, whole or not at all.

    Args:
        name: as `find_public` takes it.
        out: a new or empty folder.
        size: height and width in pixels.
        file: the set's own ``.npz`` where it is on this machine already; the network is then not asked.
        on_progress: called with the stage, how much is done, how much there is, and the unit.

    Raises:
        InputError: as `find_public`; code "folder-not-empty", "public-offline", "public-unreachable",
            "public-damaged", "file-missing", "disk-full" or "not-writable".
    """
    source = find_public(name, size)
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise InputError(
            "The folder for the data set is not empty", seen=out, remedy="Name a new folder.", code="folder-not-empty"
        )
    if file is None:
        _require_network(source)
    elif not file.is_file():
        raise InputError("There is no such file", seen=file, remedy="Check the path.", code="file-missing")
    report = on_progress or (lambda stage, done, total, unit: None)
    out = out.absolute()
    above = existing(out.parent)
    with plain_disk_errors(above):
        # On the target's disk, so that the whole set can be moved into its place in one step.
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=above))
    try:
        packed = file
        if packed is None:
            packed = work / source.file
            _download(source, packed, report)
        _check_sum(source, packed)
        with plain_disk_errors(above):
            require_space(above, packed.stat().st_size)  # PNG packs about as well as the file does
            images = _unpack(source, packed, work / "set", report)
            out.parent.mkdir(parents=True, exist_ok=True)
            if out.exists():
                out.rmdir()
            (work / "set").rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Fetched(source, out, images)


def _refusal(about: dict[str, Any]) -> str | None:
    """Why a set cannot be trained on here, or None."""
    if about["python_class"].endswith("3D"):
        return "This set holds volumes, and only flat images can be trained on"
    if about["task"].startswith("multi-label"):
        return "An image of this set has several labels, and only one label an image can be trained on"
    return None


def _unknown(name: str, key: str, known: list[str]) -> InputError:
    bare = key.rsplit(":", 1)[-1]
    near = get_close_matches(bare, known, n=3, cutoff=0.6)
    near += [one for one in known if len(bare) > 2 and bare in one and one not in near]
    named = [PREFIX + one for one in near or known]
    remedy = f"Did you mean {' or '.join(named)}?" if near else f"The sets by name are {', '.join(named)}."
    return InputError("There is no public data set of this name", seen=name, remedy=remedy, code="public-unknown")


def _elsewhere(source: PublicSet) -> str:
    return f"fetch {source.url} on a machine that is online and name the file with --file"


def _require_network(source: PublicSet) -> None:
    from wara.backbone_choices import hub_allowed

    if not hub_allowed():
        raise InputError(
            "This public data set would have to be fetched from the internet, which is switched off here",
            seen=PREFIX + source.name,
            remedy=f"Unset WARA_OFFLINE (and HF_HUB_OFFLINE), or {_elsewhere(source)}.",
            code="public-offline",
        )


def _download(source: PublicSet, target: Path, report: Progress) -> None:
    """Fetch the set's file, with its progress in MB."""
    host = urlsplit(source.url).netloc
    try:
        with urllib.request.urlopen(source.url, timeout=_TIMEOUT_S) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            done = 0
            with plain_disk_errors(target.parent):
                require_space(target, 2 * total)  # the file, and the images out of it
                with target.open("xb") as file:
                    while chunk := answer.read(_CHUNK):
                        file.write(chunk)
                        done += len(chunk)
                        report("Downloading", done // 10**6, max(done, total) // 10**6, "MB")
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise InputError(
            "The public data set cannot be fetched: its server does not answer as it should",
            seen=f"{host}: {reason}",
            remedy=f"Check the connection to the internet and try again, or {_elsewhere(source)}.",
            code="public-unreachable",
        ) from error


def _check_sum(source: PublicSet, file: Path) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != source.md5:
        raise _damaged(source, file, f"checksum {found} instead of {source.md5}")


def _damaged(source: PublicSet, file: Path, why: str) -> InputError:
    return InputError(
        f"The file is not MedMNIST's {source.name} in {source.size} px, or it did not arrive whole",
        seen=f"{file.name}: {why}",
        remedy=f"Fetch it again from {source.url}.",
        code="public-damaged",
    )


def _unpack(source: PublicSet, file: Path, folder: Path, report: Progress) -> dict[str, int]:
    """Write the images side by side, one in memory at a time; the large sets have 13 GB of pixels."""
    about = PngImagePlugin.PngInfo()
    about.add_text("Source", source.origin)
    images: Counter[str] = Counter()
    try:
        with zipfile.ZipFile(file) as archive:
            labels = {side: _labels(archive, side, source) for side in SPLITS}
            total = sum(map(len, labels.values()))
            for side in SPLITS:
                for label in sorted(set(labels[side])):
                    (folder / side / _folder_name(label)).mkdir(parents=True)
                for number, (label, pixels) in enumerate(
                    zip(labels[side], _pictures(archive, side, source.size), strict=True)
                ):
                    target = folder / side / _folder_name(label) / f"{source.name}_{side}_{number:06d}.png"
                    Image.fromarray(pixels).save(target, pnginfo=about)
                    images[side] += 1
                    report("Writing", images.total(), total, "images")
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(source, file, str(error)) from error
    return dict(images)


def _labels(archive: zipfile.ZipFile, side: str, source: PublicSet) -> list[str]:
    with archive.open(f"{side}_labels.npy") as stream:
        numbers = np.lib.format.read_array(stream, allow_pickle=False)
    return [source.labels[int(number)] for number in numbers.reshape(len(numbers))]


def _pictures(archive: zipfile.ZipFile, side: str, size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Give the images of a side, (size, size) or (size, size, 3), without holding them all."""
    name = f"{side}_images.npy"
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, kind = header(stream)
        if kind != np.uint8 or shape[1:] not in ((size, size), (size, size, 3)):
            raise ValueError(f"{side} images of {kind} and shape {shape}")
        if not by_column:
            for _ in range(shape[0]):
                pixels = stream.read(int(np.prod(shape[1:])))
                yield np.frombuffer(pixels, np.uint8).reshape(shape[1:])
            return
    with archive.open(name) as stream:
        yield from np.lib.format.read_array(stream, allow_pickle=False)


def _folder_name(label: str) -> str:
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "-", label).strip(" .")
