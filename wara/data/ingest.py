"""Decode every image once: find the unreadable, learn the patients of DICOM files, store the pixels."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from wara.data.checks import nothing_readable
from wara.data.disk import require_space
from wara.data.items import OF_ONE_FILE, Catalogue, Item, PassedOver, content_digest, frame_name
from wara.data.pixels import PixelStore, PixelWriter
from wara.data.seen import See, Seen, see
from wara.data.sources import Source
from wara.errors import InputError, UnreadableImage
from wara.imaging import read_squares
from wara.imaging.fit import FITS
from wara.imaging.image import Pixels
from wara.imaging.quiet import quiet_decoders
from wara.imaging.traits import NOTHING, Traits, read_traits
from wara.imaging.view import DEFAULT_VIEW, DicomView

# Images in flight for each worker: enough that none waits, few enough that memory stays flat.
_AHEAD = 4
_MAX_WORKERS = 16


@dataclass(frozen=True, slots=True)
class _Result:
    item: Item
    square: Pixels | None
    reason: str | None


def ingest(
    source: Source,
    catalogue: Catalogue,
    *,
    size: int | None = None,
    fit: str = "pad",
    view: DicomView = DEFAULT_VIEW,
    store: Path | str | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    keep: Callable[[Item, bytes], bytes] | None = None,
    see: See = see,
    show: Callable[[str, bytes], None] | None = None,
) -> tuple[Catalogue, PixelStore | None]:
    """Decode every image once, in threads, in order, with flat memory.

    Args:
        source: the open source that the catalogue was read from.
        catalogue: what to decode.
        size: pixels a side of the stored squares; needed with ``store``.
        fit: "pad", "crop" or "stretch" (see ``wara.imaging.fit_square``).
        view: which frames of DICOM files to take, and by which window. "all" makes one item a frame, all of one
            patient; an item that is one frame already stays that frame.
        store: where to write the pixels. A store there that matches is used as it is and nothing is decoded;
            any other is replaced.
        workers: threads; by default as many as processors that this process may use.
        on_progress: called with (files done, files in all), for each file and from this thread. An exception
            that it raises stops the work and leaves nothing half-written.
        keep: called from the threads with each file that was read well and its bytes; returns the bytes that are kept
            of it, over which the digests are, and whose header is asked for sex and age. An ``UnreadableImage`` that it
            raises passes the file over.
        see: decodes a file where no pixels are stored; a server does that in processes of their own.
        show: called from the threads with the digest and the thumbnail of each image of a file that was read well,
            where ``see`` makes thumbnails.

    Returns:
        The catalogue with unreadable images in ``passed_over``, DICOM patients, spacing and digests filled in, and of
        sex and age what the table does not tell and DICOM headers may; and the store, or None where none was asked for.

    Raises:
        InputError: the disk is full (code "disk-full"); a store was asked for and no image can be read; a view that
            is not known.
    """
    view.validate()
    if store is None:
        results = _decode_all(source, catalogue, None, fit, view, workers, on_progress, keep, see, show)
        return _finished(catalogue, [(result.item, result.reason) for result in results]), None
    if size is None:
        raise ValueError("a store needs a size")
    if fit not in FITS:
        raise InputError(
            "This way to fit images is not known", seen=fit, remedy=f"Choose one of {', '.join(FITS)}.", code="fit"
        )
    path = Path(store)
    kept = _matching_store(path, catalogue, size, fit, view)
    if kept is not None:
        if on_progress is not None:
            on_progress(len(catalogue.items), len(catalogue.items))
        return kept.catalogue, kept
    require_space(path.parent, len(catalogue.items) * size * size)
    outcomes = []
    with PixelWriter(path, size) as writer:
        for result in _decode_all(source, catalogue, size, fit, view, workers, on_progress, keep, see, None):
            if result.square is not None:
                writer.append(result.square)
            outcomes.append((result.item, result.reason))
        decoded = _finished(catalogue, outcomes)
        if not decoded.items:
            raise nothing_readable(decoded.passed_over)
        return decoded, writer.finish(decoded, fit, view)


def _matching_store(path: Path, catalogue: Catalogue, size: int, fit: str, view: DicomView) -> PixelStore | None:
    if not path.exists():
        return None
    with contextlib.suppress(InputError):  # not whole: it is written anew
        store = PixelStore.open(path)
        if store.matches(catalogue.fingerprint, size, fit, view):
            return store
    return None


def _decode_all(
    source: Source,
    catalogue: Catalogue,
    size: int | None,
    fit: str,
    view: DicomView,
    workers: int | None,
    on_progress: Callable[[int, int], None] | None,
    keep: Callable[[Item, bytes], bytes] | None,
    see: See,
    show: Callable[[str, bytes], None] | None,
) -> Iterator[_Result]:
    """Yield the results in the order of the items; at most a few files a worker are held at a time."""
    threads = workers or min(_MAX_WORKERS, _processors())
    total = len(catalogue.items)
    waiting: deque[Future[list[_Result]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        with quiet_decoders():
            items = iter(catalogue.items)
            for item in items:
                order = (item, size, fit, view, keep, see, show, catalogue.from_table)
                waiting.append(pool.submit(_decode, source, *order))
                if len(waiting) >= threads * _AHEAD:
                    break
            done = 0
            while waiting:
                results = waiting.popleft().result()
                following = next(items, None)
                if following is not None:
                    order = (following, size, fit, view, keep, see, show, catalogue.from_table)
                    waiting.append(pool.submit(_decode, source, *order))
                yield from results
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode(
    source: Source,
    item: Item,
    size: int | None,
    fit: str,
    view: DicomView,
    keep: Callable[[Item, bytes], bytes] | None,
    see: See,
    show: Callable[[str, bytes], None] | None,
    from_table: tuple[str, ...],
) -> list[_Result]:
    """Return the images of one file: one, or its frames where all are chosen; its squares are held, not its pixels."""
    found: list[tuple[Item, Pixels | None]] = []
    thumbnails: list[tuple[str, bytes]] = []
    try:
        data = source.read(item.path)
        images: Iterable[tuple[Pixels | None, Seen]]
        if size is None:
            images = ((None, seen) for seen in see(data, item.file, view, item.frame))
        else:
            # A JPEG comes too small here to be looked at for text, and nobody is there to be told.
            squares = read_squares(data, item.file, size, fit, view, item.frame)
            images = ((square, Seen.of(image, item.text)) for square, image in squares)
        content, traits = "", NOTHING
        for square, seen in images:
            if not content:
                kept = keep(item, data) if keep else data
                content = hashlib.blake2b(kept, digest_size=16).hexdigest()
                if seen.format == "DICOM":
                    traits = read_traits(kept, item.file).without(from_table)
            known = _known(item, seen, content, view, traits)
            found.append((known, square))
            if show is not None and known.digest and seen.thumbnail:
                thumbnails.append((known.digest, seen.thumbnail))
    except UnreadableImage as error:
        # A file with a damaged frame is passed over whole: half of it would look like all of it.
        where = f" ({error.seen.rpartition(', ')[2]})" if found and error.seen else ""
        return [_Result(item, None, error.what + where)]
    if show is not None:
        for digest, thumbnail in thumbnails:
            show(digest, thumbnail)
    return [_Result(known, square, None) for known, square in found]


def _known(item: Item, seen: Seen, content: str, view: DicomView, traits: Traits) -> Item:
    """Return an item with what decoding told of it; a frame of several gets a name and a digest of its own."""
    frame, name, digest, patient = item.frame, item.file, content, item.patient or seen.patient
    if frame is None and view.frames == "all" and seen.frames > 1:
        frame, name = seen.frame, frame_name(item.file, seen.frame)
    if frame is not None:
        # Copies are found by digests, and frames of one file are no copies of each other.
        digest = hashlib.blake2b(f"{content}#{frame}".encode(), digest_size=16).hexdigest()
        # Where nobody knows whose they are, they are still of one patient: a split must not part them.
        patient = patient or f"{OF_ONE_FILE}{content[:12]}"
    return replace(
        item,
        file=name,
        patient=patient,
        digest=digest,
        format=seen.format,
        width=seen.width,
        height=seen.height,
        pixels=seen.pixels,
        look=seen.look,
        modality=seen.modality,
        frame=frame,
        spacing=seen.spacing,
        sex=item.sex or traits.sex,
        age=traits.age if item.age is None else item.age,
        text=seen.text,
    )


def _finished(catalogue: Catalogue, outcomes: list[tuple[Item, str | None]]) -> Catalogue:
    items = [item for item, reason in outcomes if reason is None]
    unreadable = [PassedOver(item.file, reason, item.label) for item, reason in outcomes if reason is not None]
    passed_over = sorted([*catalogue.passed_over, *unreadable], key=lambda entry: entry.file)
    return replace(catalogue.with_items(items, passed_over), digest=content_digest(items))


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
