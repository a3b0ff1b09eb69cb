"""Multipart requests written to disk while they arrive: memory stays flat, and no number of files is too many.

Starlette's own form parser keeps up to 1 MiB a file in memory and one open file a part, which a folder of thousands
of images outgrows; here every part goes straight into its batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from backend.incoming import Batch, PartWriter
from backend.problems import RequestRefused
from backend.settings import MEGABYTE
from backend.storage import Storage
from wara.errors import InputError

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 100
# A refused request is read on for this long, since browsers show the answer only once they could send everything.
MAX_DRAINED_BYTES = 512 * MEGABYTE


@dataclass
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    writer: PartWriter | None = None
    ignored: bool = False
    text: bytearray = field(default_factory=bytearray)


class MultipartReceiver:
    """Feeds a multipart body into a batch.

    Args:
        content_type: the request's Content-Type header.
        batch: where the files go.
        file_field: name of the form field that carries files; other files are refused.
    """

    def __init__(self, content_type: str, batch: Batch, file_field: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise RequestRefused(
                415,
                "The request is no upload",
                seen=content_type[:80] or "no content type",
                remedy=f"Send multipart/form-data with the files in the field '{file_field}'.",
                code="not-multipart",
            )
        self.fields: dict[str, str] = {}
        self._batch = batch
        self._file_field = file_field
        self._part = _Part()
        self._header_name = b""
        self._header_value = b""
        self._ended = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value_,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )
        except FormParserError as error:
            raise _broken() from error

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _broken() from error

    def finish(self) -> None:
        """Check that the body came to its end."""
        if not self._ended:
            raise _broken()

    def _begin(self) -> None:
        self._part = _Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._part.headers[self._header_name.decode("latin-1").lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get("content-disposition"))
        self._part.name = _text(options.get(b"name", b""))
        if b"filename" not in options:
            if len(self.fields) >= MAX_FIELDS:
                raise _broken()
            return
        # Browsers write quotes and line ends in names as %22, %0D and %0A, and nothing else.
        filename = _text(options[b"filename"]).replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
        if not filename:  # what a browser sends for a file field left empty
            self._part.ignored = True
        elif self._part.name != self._file_field:
            raise RequestRefused(
                422,
                "A file came in a form field that takes none",
                seen=self._part.name[:80],
                remedy=f"Send files in the field '{self._file_field}'.",
                code="unknown-file-field",
            )
        else:
            self._part.writer = self._batch.open(filename)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.ignored:
            return
        if self._part.writer is not None:
            self._part.writer.write(data[start:end])
            return
        self._part.text += data[start:end]
        if len(self._part.text) > MAX_FIELD_BYTES:
            raise RequestRefused(
                413,
                f"The form field '{self._part.name[:80]}' is too long",
                remedy="Send files as files, with a file name.",
                code="field-too-long",
            )

    def _end(self) -> None:
        if self._part.writer is not None:
            self._part.writer.close()
        elif self._part.name == self._file_field and self._part.text:
            raise RequestRefused(
                422,
                f"The form field '{self._file_field}' holds text where a file belongs",
                seen=_text(bytes(self._part.text[:40])),
                remedy="Send the file as a part with a file name.",
                code="file-as-text",
            )
        elif not self._part.ignored:
            self.fields[self._part.name] = _text(bytes(self._part.text))
        self._part = _Part()

    def _finish(self) -> None:
        self._ended = True


async def receive(request: Request, storage: Storage, batch: Batch, *, file_field: str = "files") -> dict[str, str]:
    """Write a multipart request's files into a batch and return its text fields.

    Disk writes and hashing run in a worker thread, about a mebibyte at a time; what the batch holds in memory is taken
    at once.

    Raises:
        RequestRefused: 413, 415, 422 or 507; nothing of the batch is then kept.
    """
    stream = request.stream()
    buffer = bytearray()
    try:
        length = request.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else 0
        storage.require_space(size)
        receiver = MultipartReceiver(request.headers.get("content-type", ""), batch, file_field)
        async for chunk in stream:
            buffer += chunk
            if len(buffer) >= MEGABYTE:
                await run_in_threadpool(receiver.feed, bytes(buffer))
                buffer.clear()
        if 0 < size <= batch.room:
            receiver.feed(bytes(buffer))
        else:
            await run_in_threadpool(receiver.feed, bytes(buffer))
        receiver.finish()
    except InputError:
        drained = 0
        async for chunk in stream:
            drained += len(chunk)
            if drained > MAX_DRAINED_BYTES:
                break
        raise
    return receiver.fields


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _broken() -> RequestRefused:
    return RequestRefused(
        400,
        "The upload broke off or is not in the form of an upload",
        remedy="Send it again.",
        code="upload-broken",
    )
