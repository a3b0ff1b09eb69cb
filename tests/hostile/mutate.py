"""Good files made bad, the same ones for the same seed: bytes, lengths and numbers that decoders trust are altered."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib

from tests.backend.support import make_zip, png
from tests.hostile import seeds

_SIZES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADS = (
    b"GIF89a",
    b"%PDF-1.7\n",
    b"PK\x03\x04",
    b"<svg onload=alert(1)>",
    b"<html><script>",
    b"\x1f\x8b\x08\0",
    b"#!",
)
_TEXTS = (
    "\0", '"', ",,,,", "\n\n", "\r", ";", "\t", "=cmd|' /C calc'!A0", "\ud7ff", "\u202egnp.exe", "../../x", "\ufeff",
    "a" * 70_000, "1e999", "-0", "nan", "e\u0301", "<script>alert(1)</script>", "'; drop table dataset;--",
)  # fmt: skip
_NAMES = (
    "../up.png", "/etc/passwd", "C:\\x.png", "a\\..\\..\\b.png", "con.png", "x" * 300, "a/\0b.png", "a/./b/../c.png",
    "\u202egnp.png", "\uff41.png", "a\u0301.png", "a//b.png", " ", ".", "", "nul", "a:b.png", "a\nb.png",
    "x/" * 600 + "y.png", "\uff0e\uff0e/x.png", "aux.tar.png", "~root/x.png", "%2e%2e/x.png", "a?b*.png",
    "<img src=x>.png",
)  # fmt: skip
_VALUES = (
    None, True, -1, 10**400, 1.5, "", "x" * 2000, "(?P<label>(a+)+)$", "(", "(?P<label>", "../../etc/passwd",
    [], {}, ["x"] * 3, {"file": "x"}, {"a": {"b": 1}}, "\ud800", "\0", "labels.csv", "0010,0010", "PixelData",
)  # fmt: skip
_FIELDS = (
    "source", "table", "sheet", "columns", "depth", "pattern", "label_tag", "patient_tag", "rename", "leave_out", "x",
)  # fmt: skip
_ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp037")
_TIFF_TAGS = (254, 256, 258, 259, 262, 273, 277, 278, 322, 330, 34665)
_VRS = (b"US", b"OW", b"SQ", b"UN", b"DS", b"IS", b"PN", b"UT", b"\xff\xff", b"FL")
_NO_FILES = (0o120777, 0o060600, 0o010600)
_PACKINGS = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def image(kind: str, rng: random.Random) -> bytes:
    """Return a bad image file: "png", "jpeg", "tiff", "webp", "bmp" or "dicom"."""
    data = rng.choice(seeds.images(kind))
    special = {"png": _png, "jpeg": _jpeg, "tiff": _tiff, "dicom": _dicom}.get(kind)
    if special is not None and rng.random() < 0.6:
        data = special(data, rng)
        if rng.random() < 0.7:
            return data
    return raw(data, rng)


def raw(data: bytes, rng: random.Random) -> bytes:
    """Alter bytes without knowing what they mean."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not out:
            return bytes(out)
        # Headers decide what a decoder does, so they are hit more often than their share.
        at = rng.randrange(min(len(out), rng.choice((64, 256, len(out)))))
        match rng.randrange(9):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.randrange(256)
            case 2:
                size = rng.choice((1, 2, 4))
                value = rng.choice(_SIZES) & ((1 << 8 * size) - 1)
                out[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
            case 3:
                del out[at:]
            case 4:
                del out[at : at + rng.choice((1, 2, 16, 100))]
            case 5:
                out[at:at] = rng.randbytes(rng.choice((1, 4, 64, 1000)))
            case 6:
                out[at:at] = out[at : at + rng.choice((4, 64, 400))] * rng.choice((1, 2, 50))
            case 7:
                start = rng.randrange(len(out))
                piece = out[start : start + 64]
                out[at : at + len(piece)] = piece
            case _:
                head = rng.choice(_HEADS)
                out = bytearray(head) + out if rng.random() < 0.5 else out + head + make_zip({"x.png": b"x"})
    return bytes(out)


def _png(data: bytes, rng: random.Random) -> bytes:
    """Alter chunks and mend their checksums, so that the decoder reads on."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + length])))
        at += 12 + length
    match rng.randrange(6):
        case 0:  # width, height, depth, colour type, interlacing
            header = chunks[0][1]
            where = rng.randrange(13)
            header[where] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        case 1:
            chunks[0][1][0:8] = struct.pack(">II", rng.choice(_SIZES), rng.choice(_SIZES))
        case 2:
            kind = rng.choice((b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fdAT", b"gAMA"))
            bomb = zlib.compress(bytes(rng.choice((10, 1000, 3_000_000))))
            body = rng.choice(
                (b"", b"x\0\0" + bomb, b"x\0\0\0\0\0" + bomb, rng.randbytes(20), b"MM\0*\0\0\0\x08\xff\xff")
            )
            chunks.insert(rng.randrange(1, len(chunks)), (kind, bytearray(body)))
        case 3:
            rng.shuffle(chunks)
        case 4:
            kind, body = rng.choice(chunks)
            chunks.insert(rng.randrange(len(chunks)), (kind, body))
        case _:
            place = next(index for index, chunk in enumerate(chunks) if chunk[0] == b"IDAT")
            body = rng.choice((rng.randbytes(50), zlib.compress(bytes(5_000_000)), zlib.compress(b"\xff" * 9), b""))
            chunks[place] = (b"IDAT", bytearray(body))
    written = [data[:8]]
    for kind, body in chunks:
        written += [struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(kind + bytes(body)))]
    return b"".join(written)


def _jpeg(data: bytes, rng: random.Random) -> bytes:
    """Alter what follows a marker: sizes, tables, components."""
    out = bytearray(data)
    marks = [at for at in range(len(out) - 12) if out[at] == 0xFF and 0xC0 <= out[at + 1] <= 0xFE]
    at = rng.choice(marks)
    match rng.randrange(4):
        case 0:
            out[at + 1] = rng.randrange(0xC0, 0xFF)
        case 1:
            out[at + 2 : at + 4] = struct.pack(">H", rng.choice((0, 1, 2, 3, 0xFF, 0x7FFF, 0xFFFF)))
        case 2:
            out[at + 4 + rng.randrange(8)] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        case _:
            out[at + 5 : at + 9] = struct.pack(">HH", *(rng.choice((0, 1, 9, 0x7FFF, 0xFFFF)) for _ in "wh"))
    return bytes(out)


def _tiff(data: bytes, rng: random.Random) -> bytes:
    """Alter entries of the directory: tags, types, counts, values, and where the next one stands."""
    out = bytearray(data)
    (start,) = struct.unpack_from("<I", out, 4)
    if start + 2 > len(out):
        return bytes(out)
    (count,) = struct.unpack_from("<H", out, start)
    for _ in range(rng.choice((1, 1, 2))):
        entry = start + 2 + 12 * rng.randrange(max(1, count))
        if entry + 12 > len(out):
            break
        match rng.randrange(5):
            case 0:
                out[entry : entry + 2] = struct.pack("<H", rng.choice(_TIFF_TAGS))
            case 1:
                out[entry + 2 : entry + 4] = struct.pack("<H", rng.randrange(20))
            case 2:
                out[entry + 4 : entry + 8] = struct.pack("<I", rng.choice(_SIZES))
            case 3:
                out[entry + 8 : entry + 12] = struct.pack("<I", rng.choice((*_SIZES, 5, 6, 7, 32946, 34712, 50000)))
            case _:  # a loop, or a directory anywhere
                where = start + 2 + 12 * count
                out[where : where + 4] = struct.pack("<I", rng.choice((start, 8, 0xFFFFFFF0, rng.randrange(len(out)))))
    return bytes(out)


_DICOM_NUMBERS = ((0x28, 2), (0x28, 4), (0x28, 8), (0x28, 0x10), (0x28, 0x11), (0x28, 0x100), (0x28, 0x101),
                  (0x28, 0x102), (0x28, 0x103), (0x28, 6), (0x28, 0x1050), (0x28, 0x1051), (0x28, 0x1052),
                  (0x28, 0x1053), (0x28, 0x1101), (0x28, 0x1201), (0x28, 0x3002), (0x7FE0, 0x10), (2, 0x10),
                  (8, 5), (8, 0x16), (0x10, 0x20), (0x10, 0x10), (0x5200, 0x9229))  # fmt: skip
_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
             "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
             "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
             "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.201", "1.2.3")  # fmt: skip


def _dicom(data: bytes, rng: random.Random) -> bytes:
    """Alter an element that decoding goes by, the transfer syntax, or the coded picture."""
    out = bytearray(data)
    if rng.random() < 0.25:
        known = [uid for uid in _SYNTAXES if uid.encode() in data[:700]]
        if known:
            old = max(known, key=len).encode()
            at = data.find(old)
            room = len(old) + (data[at + len(old)] == 0)
            new = rng.choice(_SYNTAXES).encode()
            if len(new) <= room:
                out[at : at + room] = new.ljust(room, b"\0")
                return bytes(out)
    group, element = rng.choice(_DICOM_NUMBERS)
    at = data.find(struct.pack(rng.choice(("<HH", "<HH", ">HH")), group, element))
    if at < 0 or at + 12 > len(out):
        return raw(data, rng)
    match rng.randrange(4):
        case 0:
            out[at + 8 : at + 10] = struct.pack("<H", rng.choice(_SIZES) & 0xFFFF)
        case 1:
            out[at + 4 : at + 6] = rng.choice(_VRS)
        case 2:
            out[at + 6 : at + 8] = struct.pack("<H", rng.choice(_SIZES) & 0xFFFF)
        case _:
            length = rng.choice((2, 4, 8))
            text = rng.choice((b"9" * 8, b"-1", b"1e308", b"nan", b"0", b"\\\\\\", b"..", rng.randbytes(8)))
            out[at + 8 : at + 8 + length] = text[:length].ljust(length)
    return bytes(out)


def archive(rng: random.Random) -> bytes:
    """Return a bad zip: damaged, names that lead out, links, bombs, zips inside, twice the same name, wrong sizes."""
    good = rng.choice(seeds.archives())
    match rng.randrange(8):
        case 0 | 1:
            return raw(good, rng)
        case 2:  # the list at its end
            out = bytearray(good)
            at = good.find(b"PK\x01\x02")
            where = rng.randrange(at, len(out))
            out[where : where + 4] = rng.choice(_SIZES).to_bytes(4, "little")[: len(out) - where]
            return bytes(out)
        case 3:
            return make_zip({rng.choice(_NAMES) or "x": png(1), "a/1.png": png(2), "b/2.png": png(3)})
        case 4:
            return _zip_with(rng, lambda info: setattr(info, "external_attr", rng.choice(_NO_FILES) << 16))
        case 5:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", rng.choice(_PACKINGS)) as file:
                for index in range(rng.choice((1, 2, 12))):
                    file.writestr(f"a/{index}.png", bytes(rng.choice((1 << 20, 1 << 24))))
            return buffer.getvalue()
        case 6:
            return make_zip({"inner.zip": good, "a/1.png": png(1)})
        case _:
            members = {f"{'ab'[index % 2]}/{index}.png": image(rng.choice(seeds.RASTERS), rng) for index in range(4)}
            return raw(make_zip(members), rng) if rng.random() < 0.5 else make_zip(members)


def _zip_with(rng: random.Random, change: object) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("a/link.png")
        change(info)  # type: ignore[operator]
        file.writestr(info, b"/etc/passwd")
        file.writestr("b/1.png", png(1))
    return buffer.getvalue()


def table(names: list[str], rng: random.Random) -> bytes:
    """Return a bad table of labels."""
    text = seeds.table(names)
    if rng.random() < 0.2:
        return raw(text.encode(), rng)
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.randrange(len(text))
        match rng.randrange(4):
            case 0:
                text = text[:at] + rng.choice(_TEXTS) + text[at:]
            case 1:
                text = text[:at] + text[at + rng.choice((1, 5, 30)) :]
            case 2:
                lines = text.split("\n")
                lines.insert(rng.randrange(len(lines)), rng.choice((*lines, ",".join("x" * rng.randrange(1, 99)))))
                text = "\n".join(lines)
            case _:
                text = text.replace(rng.choice((",", "\n", "label", "file", "patient", ".png")), rng.choice(_TEXTS), 3)
    try:
        return text.encode(rng.choice(_ENCODINGS), "replace")
    except UnicodeError:
        return text.encode("utf-8", "replace")


def document(rng: random.Random) -> bytes:
    """Return a bad JSON body for the route that takes a mapping."""
    good = json.loads(seeds.mapping())
    for _ in range(rng.choice((1, 2, 3))):
        good[rng.choice(_FIELDS)] = rng.choice(_VALUES)
    if rng.random() < 0.4:
        good["source"] = rng.choice(("folders", "table", "pattern", "dicom"))
    text = json.dumps(good)
    if rng.random() < 0.1:
        text = "[" * 20_000 if rng.random() < 0.3 else text.replace("null", "NaN")
    data = text.encode("utf-8", "surrogatepass")
    return raw(data, rng) if rng.random() < 0.2 else data


def weights(rng: random.Random) -> tuple[str, bytes]:
    """Return a bad weights file and its name."""
    name, data = rng.choice(seeds.weights())
    if name.endswith(".pth") or rng.random() < 0.4:
        return rng.choice((name, name, "w.safetensors", "w.pth", "w.exe", "../w.pth")), raw(data, rng)
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    key = rng.choice(list(header))
    match rng.randrange(5):
        case 0:
            header[key]["data_offsets"] = [rng.choice((*_SIZES, -1, 2**63)) for _ in "ab"]
        case 1:
            header[key]["shape"] = rng.choice(([2**62, 8], [-1], [0], [1] * 5000, "x", [1.5], []))
        case 2:
            header[key]["dtype"] = rng.choice(("F64", "I4", "", "BOOL", None, "F8_E5M2"))
        case 3:
            header["__metadata__"] = rng.choice(({"a": 1}, [], {"x" * 10_000: "y"}, None))
        case _:
            return name, struct.pack("<Q", rng.choice((*_SIZES, 2**63, 2**64 - 1))) + data[8:]
    text = json.dumps(header).encode()
    return name, struct.pack("<Q", len(text)) + text + data[8 + length :]


def name(rng: random.Random) -> str:
    """Return a bad name of a file."""
    return rng.choice(_NAMES) if rng.random() < 0.7 else "a/" + "".join(chr(rng.randrange(1, 0xD7FF)) for _ in range(9))
