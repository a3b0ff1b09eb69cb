"""The words of tus 1.0.0: headers read and written, and the refusals that the protocol names.

Source: https://tus.io/protocols/resumable-upload (core, creation, creation-with-upload, expiration, termination,
checksum).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers

from backend.problems import RequestRefused, problem_of, problem_response
from wara.errors import InputError

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,termination,checksum"
CHUNK_TYPE = "application/offset+octet-stream"
LARGEST_NUMBER = 2**53  # what a browser can count to


class Summer(Protocol):
    """Something that bytes are fed into and that sums them up."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the sum of all bytes so far."""


class Crc32:
    """CRC-32, big-endian: for pages on plain http, whose browsers offer no hash functions."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """Return four bytes."""
        return self._value.to_bytes(4, "big")


# sha1 is what the protocol demands of every server; it guards against accidents here, not against people.
ALGORITHMS: dict[str, Callable[[], Summer]] = {
    "sha256": hashlib.sha256,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "crc32": Crc32,
}


@dataclass(frozen=True)
class Checksum:
    """What the bytes of one request must sum up to."""

    algorithm: str
    expected: bytes

    def begin(self) -> Summer:
        """Return an empty sum."""
        return ALGORITHMS[self.algorithm]()

    def matches(self, found: bytes) -> bool:
        """Tell whether a sum is the expected one."""
        return hmac.compare_digest(found, self.expected)


class TusRoute(APIRoute):
    """A route whose every answer, refusals included, carries the protocol's version, and that takes no other."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's own handler."""
        handler = super().get_route_handler()

        async def serve(request: Request) -> Response:
            try:
                if request.method != "OPTIONS" and request.headers.get("tus-resumable") != VERSION:
                    raise _other_version(request.headers.get("tus-resumable"))
                response = await handler(request)
            except (InputError, OSError) as error:
                response = problem_response(problem_of(error))
            response.headers["Tus-Resumable"] = VERSION
            if response.status_code == 412:
                response.headers["Tus-Version"] = VERSION
            response.headers["Cache-Control"] = "no-store"
            return response

        return serve


def read_number(headers: Headers, name: str) -> int:
    """Return a header that must be a whole number.

    Raises:
        RequestRefused: 400 when it is missing or is none.
    """
    text = headers.get(name, "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 16 or int(text) > LARGEST_NUMBER:
        raise _bad_header(name, text or "nothing", "Send it as a whole number of bytes.")
    return int(text)


def read_metadata(headers: Headers) -> dict[str, str]:
    """Return ``Upload-Metadata``: names to values, which travel as base64 of UTF-8.

    Raises:
        RequestRefused: 400 when a value cannot be read.
    """
    found = {}
    for pair in filter(None, (pair.strip() for pair in headers.get("upload-metadata", "").split(","))):
        name, _, value = pair.partition(" ")
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError) as error:
            raise _bad_header("Upload-Metadata", name[:40], "Send every value as base64 of UTF-8.") from error
    return found


def read_checksum(headers: Headers) -> Checksum | None:
    """Return ``Upload-Checksum``, or None where a request has none.

    Raises:
        RequestRefused: 400 when the algorithm is unknown or the value is no base64.
    """
    text = headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    try:
        expected = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        expected = b""
    if algorithm not in ALGORITHMS or not expected:
        known = ", ".join(ALGORITHMS)
        raise _bad_header("Upload-Checksum", text[:60], f"Send one of {known}, a space, and the sum in base64.")
    return Checksum(algorithm, expected)


def http_date(moment: datetime) -> str:
    """Return a point in time as headers write it."""
    return format_datetime(moment, usegmt=True)


def wrong_offset(sent: int, expected: int) -> RequestRefused:
    """Return the 409 for bytes that do not follow those that are here."""
    return RequestRefused(
        409,
        "The bytes do not follow those that have arrived",
        seen=f"offset {sent:,}, but {expected:,} bytes are here",
        remedy="Ask for the offset by HEAD and go on from there.",
        code="wrong-offset",
    )


def checksum_mismatch(algorithm: str) -> RequestRefused:
    """Return the 460 for bytes that changed on their way."""
    return RequestRefused(
        460,
        "The bytes changed on their way here",
        seen=f"another {algorithm} sum than was announced",
        remedy="Send the same bytes again from the same offset; none of them were kept.",
        code="checksum-mismatch",
    )


def too_long(length: int) -> RequestRefused:
    """Return the 413 for more bytes than were announced."""
    return RequestRefused(
        413,
        "More bytes came than the upload was announced with",
        seen=f"more than {length:,} bytes",
        remedy="Send the file as it was when the upload began, or begin a new upload.",
        code="upload-too-long",
    )


def locked() -> RequestRefused:
    """Return the 423 for an upload that another request is writing to."""
    return RequestRefused(
        423,
        "Another request is sending to this upload",
        remedy="Wait until it has ended, then ask for the offset and go on from there.",
        code="upload-locked",
    )


def expired() -> RequestRefused:
    """Return the 410 for an upload that nobody went on with."""
    return RequestRefused(
        410,
        "This upload was not gone on with in time and was removed",
        remedy="Begin it anew.",
        code="upload-expired",
    )


def _other_version(seen: str | None) -> RequestRefused:
    return RequestRefused(
        412,
        "The request does not speak the version of the upload protocol that this server speaks",
        seen=(seen or "no Tus-Resumable header")[:40],
        remedy=f"Send the header Tus-Resumable: {VERSION}.",
        code="tus-version",
    )


def _bad_header(name: str, seen: str, remedy: str) -> RequestRefused:
    return RequestRefused(
        400, f"The header {name} cannot be used", seen=seen[:80], remedy=remedy, code="upload-header-invalid"
    )
