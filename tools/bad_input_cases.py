"""Bad input of each kind, built anew: image files, uploads, orders of a training, weights files, command lines."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import torch
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    MPEG4HP41,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from safetensors.torch import save

from backend.decoding import LIMIT_S, MEMORY_MB

Files = dict[str, bytes]


def picture(seed: int, kind: str = "PNG", size: int = 48, mode: str = "L") -> bytes:
    """A texture with a seed of its own."""
    grid = np.random.default_rng(seed).integers(0, 256, (size // 4, size // 4), dtype=np.uint8)
    image = Image.fromarray(grid).resize((size, size), Image.Resampling.NEAREST).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def deep_tiff() -> bytes:
    """16 bits of grey."""
    values = np.random.default_rng(0).integers(0, 40_000, (40, 60)).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    return buffer.getvalue()


def pages(kind: str) -> bytes:
    """Two pictures in one file."""
    first, second = (Image.open(io.BytesIO(picture(seed))) for seed in (1, 2))
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=[second])
    return buffer.getvalue()


def five_channel_tiff() -> bytes:
    """Five samples a pixel, which no colour model knows."""
    entries = [
        (256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200),
        (277, 3, 1, 5), (278, 3, 1, 4), (279, 4, 1, 80), (284, 3, 1, 1),
    ]  # fmt: skip
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", 0)
    return (head + body).ljust(200, b"\0") + bytes(range(80))


def huge_png() -> bytes:
    """A header that says 20,000 x 20,000 pixels, in 70 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def example(name: str) -> bytes:
    """A file that comes with pydicom."""
    path = get_testdata_file(name)
    assert path is not None, name
    return Path(str(path)).read_bytes()


def dicom(rows: int, columns: int, *, video: bool = False) -> bytes:
    """A DICOM file that states this size and holds almost no pixels; with `video`, one in MPEG-4."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41 if video else ExplicitVRLittleEndian
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage if video else SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    data = bytes(64)
    dataset.PixelData = pydicom.encaps.encapsulate([data]) if video else data
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = video
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def damaged_png() -> bytes:
    """A PNG with bytes overwritten inside its pixels."""
    data = bytearray(picture(3))
    middle = data.index(b"IDAT") + 12
    data[middle : middle + 16] = bytes(16)
    return bytes(data)


IMAGES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "an empty file": ("scan.png", lambda: b""),
    "a text file named .png": ("scan.png", lambda: b"This is no image, whatever its name says."),
    "a PNG that is cut off": ("scan.png", lambda: picture(1)[:-60]),
    "a JPEG that is cut off": ("scan.jpg", lambda: picture(1, "JPEG")[:400]),
    "a PNG with damaged pixels": ("scan.png", damaged_png),
    "a PNG of 20,000 x 20,000 pixels in 70 bytes": ("scan.png", huge_png),
    "a TIFF of 16 bits": ("scan.tif", deep_tiff),
    "a TIFF of two pages": ("scan.tif", lambda: pages("TIFF")),
    "a TIFF of five channels": ("scan.tif", five_channel_tiff),
    "a WebP that moves": ("scan.webp", lambda: pages("WEBP")),
    "a GIF": ("scan.gif", lambda: picture(1, "GIF")),
    "an SVG drawing": ("scan.svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9"/></svg>'),
    "a PDF": ("report.pdf", lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"),
    "a HEIC photo": ("photo.heic", lambda: b"\0\0\0\x18ftypheic" + bytes(40)),
    "a NIfTI volume": ("brain.nii", lambda: bytes(344) + b"n+1\0" + bytes(40)),
    "an office document": ("notes.docx", lambda: make_zip({"word/document.xml": b"<w/>"})),
    "DICOM: a structured report": ("report.dcm", lambda: example("test-SR.dcm")),
    "DICOM: a radiotherapy plan": ("plan.dcm", lambda: example("rtplan.dcm")),
    "DICOM: the index of a disc": ("DICOMDIR", lambda: example("DICOMDIR")),
    "DICOM: a video": ("loop.dcm", lambda: dicom(480, 640, video=True)),
    "DICOM: 12-bit lossy JPEG": ("scan.dcm", lambda: example("JPEG-lossy.dcm")),
    "DICOM: cut off": ("scan.dcm", lambda: example("MR_truncated.dcm")),
    "DICOM: 65,000 x 65,000 pixels stated": ("scan.dcm", lambda: dicom(65_000, 65_000)),
    "DICOM: no size stated": ("scan.dcm", lambda: dicom(0, 0)),
    "text named .dcm": ("scan.dcm", lambda: b"no DICOM at all"),
}

# Of a sound picture: memory in MB, seconds and side of the square by which the process that decodes comes to grief over
# it. No file is known that does so within the limits of every day.
DECODERS: dict[str, tuple[Callable[[], bytes], int, float, int]] = {
    "a file over which its decoder crashes twice (here 16 MB where 1 MB may be taken)": (
        lambda: picture(1, "TIFF", 4096), 1, LIMIT_S, 64,
    ),
    "a file that takes more than 60 s of the processor to decode (0.05 s here)": (
        lambda: picture(1), MEMORY_MB, 0.05, 64,
    ),
    "a file over which its decoder meets an error that nobody foresaw (here a square of 10**12 pixels)": (
        lambda: picture(1), MEMORY_MB, LIMIT_S, 10**12,
    ),
}  # fmt: skip


def make_zip(files: Files) -> bytes:
    """Pack files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def encrypted(data: bytes) -> bytes:
    """The zip with the flag of encryption on every member."""
    marked = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = marked.find(signature)
        while place >= 0:
            marked[place + offset] |= 1
            place = marked.find(signature, place + 4)
    return bytes(marked)


def zip_bomb() -> bytes:
    """300 MB of zeros in 1.3 MB."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a/1.png", "w") as member,
    ):
        for _ in range(300):
            member.write(bytes(1_000_000))
    return buffer.getvalue()


def study(per_class: int = 5, classes: tuple[str, ...] = ("benign", "malignant")) -> Files:
    """Class folders of pictures that all differ."""
    return {
        f"study/{name}/{number}.png": picture(100 * place + number)
        for place, name in enumerate(classes)
        for number in range(per_class)
    }


def with_table(table: str) -> Files:
    """Six pictures in one folder with a table of labels."""
    return {f"scans/{number}.png": picture(number) for number in range(6)} | {"scans/labels.csv": table.encode()}


def rows(*, head: str = "file,label", label: Callable[[int], str] = lambda i: "ab"[i % 2], more: str = "") -> str:
    """A table of six rows."""
    return "\n".join([head, *(f"{i}.png,{label(i)}" for i in range(6))]) + more


def leaking() -> Files:
    """A given split in which one patient stands in training and in test."""
    lines = ["file,label,patient,split"]
    for number in range(24):
        side = "train" if number < 14 else "val" if number < 18 else "test"
        patient = "p0" if number in (0, 20) else f"p{number}"
        lines.append(f"{number}.png,{'ab'[number % 2]},{patient},{side}")
    scans = {f"scans/{number}.png": picture(number) for number in range(24)}
    return scans | {"scans/labels.csv": "\n".join(lines).encode()}


def torn_copy() -> Files:
    """One picture in both classes."""
    files = study(6)
    return files | {"study/malignant/copy.png": files["study/benign/0.png"]}


UPLOADS: dict[str, Callable[[], Files]] = {
    "no image at all": lambda: {"study/notes.txt": b"no image"},
    "one class only": lambda: study(5, ("benign",)),
    "a class with one image": lambda: study(5) | {"study/rare/1.png": picture(900)},
    "a class of unreadable files only": lambda: study(5, ("benign",)) | {
        f"study/malignant/{i}.png": f"text {i}".encode() for i in range(3)
    },
    "a table without the column label": lambda: with_table(rows(head="file,diagnosis")),
    "a table that names missing files": lambda: with_table(rows(more="\n77.png,a\n78.png,b")),
    "a table with empty labels": lambda: with_table(rows(label=lambda i: "a" if i % 2 else "")),
    "a table that names a file twice": lambda: with_table(rows(more="\n0.png,a")),
    "a table with a side that is none": lambda: with_table(
        "file,label,split\n" + "\n".join(f"{i}.png,{'ab'[i % 2]},holiday" for i in range(6))
    ),
    "a patient on two sides of a given split": leaking,
    "one picture in two classes": torn_copy,
    "an empty zip": lambda: {"set.zip": make_zip({})},
    "a zip that is cut off": lambda: {"set.zip": make_zip(study(5))[:400]},
    "a zip with paths that lead out (..)": lambda: {"set.zip": make_zip({"../../evil.png": picture(0)})},
    "an encrypted zip": lambda: {"set.zip": encrypted(make_zip(study(5)))},
    "a zip in a zip": lambda: {"set.zip": make_zip({"inner.zip": make_zip(study(5))})},
    "a zip that grows beyond reason": lambda: {"set.zip": zip_bomb()},
    "a name that leads out of the folder": lambda: study(5) | {"../evil.png": picture(0)},
    "a name that Windows cannot hold": lambda: study(5) | {"study/benign/con.png": picture(0)},
}  # fmt: skip


class _Code:
    """Would run a command if it were unpickled as code."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return print, ("this must never run",)


def program_as_weights() -> bytes:
    """A PyTorch file that holds code beside tensors."""
    buffer = io.BytesIO()
    torch.save({"head.weight": torch.zeros(2, 2), "more": _Code()}, buffer, pickle_module=pickle)
    return buffer.getvalue()


WEIGHTS: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "weights of another architecture": (
        "deit_tiny_patch16_224", "w.safetensors", lambda: save({"some.weight": torch.zeros(3, 3)}),
    ),
    "a file that is no weights": ("deit_tiny_patch16_224", "w.safetensors", lambda: b"no weights at all"),
    "a pickle that holds program code": ("deit_tiny_patch16_224", "w.pth", program_as_weights),
    "a file of another kind": ("deit_tiny_patch16_224", "w.exe", lambda: b"MZ"),
    "an architecture that does not exist": (
        "deit_of_dreams", "w.safetensors", lambda: save({"some.weight": torch.zeros(3, 3)}),
    ),
    "no architecture named": ("", "w.safetensors", lambda: save({"some.weight": torch.zeros(3, 3)})),
}  # fmt: skip

ORDERS: dict[str, dict[str, object]] = {
    "an unknown option": {"recipe": {"colour": 3}},
    "a word for a number": {"recipe": {"rank": "eight"}},
    "a rank of 0": {"recipe": {"rank": 0}},
    "a rank beyond the layer's width": {"recipe": {"rank": 97}},
    "an unknown wavelet": {"recipe": {"wavelet": "wobble"}},
    "an unknown rule for the threshold": {"recipe": {"operating_point": "luck=0.5"}},
    "an unknown method": {"method": "magic"},
    "an unknown preset": {"preset": "instant"},
    "an unknown backbone": {"backbone": "resnet_of_dreams"},
    "a path as a backbone": {"backbone": "vit_tiny_patch16_224:/etc/passwd"},
    "an image size that the patches do not fill": {"recipe": {"image_size": 100}},
    "a data set that is not there": {"dataset_id": "nowhere"},
    "a field that is not known": {"colour": "red"},
}
