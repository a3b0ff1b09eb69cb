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
from typing import NamedTuple, TypeVar

from wara.data.checks import nothing_readable
from wara.data.disk import require_space
from wara.data.items import OF_ONE_FILE, Catalogue, Item, PassedOver, content_digest, frame_name
from wara.data.pixels import PixelStore, PixelWriter
from wara.data.seen import Found, Look, SeeAll, Seen, file_digest, see_all
from wara.data.sources import Source
from wara.errors import InputError, UnreadableImage
from wara.imaging import read_squares
from wara.imaging.fit import FITS
from wara.imaging.image import Pixels
from wara.imaging.quiet import quiet_decoders
from wara.imaging.traits import NOTHING, Traits, read_traits
from wara.imaging.view import DEFAULT_VIEW, DicomView

T = TypeVar("T")
# Images in flight for each worker: enough that none waits, few enough that memory stays flat.
_AHEAD = 4
_MAX_WORKERS = 16
# Small files are looked at together: what is done once a file, and not once a byte, is most of what they cost.
TOGETHER = 32
TOGETHER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Result:
    item: Item
    square: Pixels | None
    reason: str | None


class _Identity(NamedTuple):
    content: str
    traits: Traits


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
    see: SeeAll = see_all,
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
        workers: threads; by default by the number of processors that this process may use.
        on_progress: called with (files done, files in all), for each file and from this thread. An exception
            that it raises stops the work and leaves nothing half-written.
        keep: called from the threads with each file that was read well and its bytes; returns the bytes that are kept
            of it, over which the digests are, and whose header is asked for sex and age. An ``UnreadableImage`` that it
            raises passes the file over.
        see: decodes files where no pixels are stored; a server does that in processes of their own.
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
    see: SeeAll,
    show: Callable[[str, bytes], None] | None,
) -> Iterator[_Result]:
    """Yield the results in the order of the items; at most a few batches of files a worker are held at a time."""
    # Twice as many where pixels are not kept: while some wait for decoders in other processes, others store files.
    threads = workers or min(_MAX_WORKERS, _processors() * (2 if size is None else 1))
    total = len(catalogue.items)
    waiting: deque[Future[list[list[_Result]]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def begin(items: list[Item]) -> None:
        if size is None:
            order = (view, keep, see, show, catalogue.from_table)
            waiting.append(pool.submit(_look_at, source, items, *order))
        else:
            waiting.append(pool.submit(_decode, source, items, size, fit, view, keep, catalogue.from_table))

    try:
        with quiet_decoders():
            batches = _batches(source, catalogue.items, singly=size is not None)
            for items in batches:
                begin(items)
                if len(waiting) >= threads * _AHEAD:
                    break
            done = 0
            while waiting:
                files = waiting.popleft().result()
                following = next(batches, None)
                if following is not None:
                    begin(following)
                for results in files:
                    yield from results
                    done += 1
                    if on_progress is not None:
                        on_progress(done, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(source: Source, items: Iterable[Item], *, singly: bool) -> Iterator[list[Item]]:
    def size(item: Item) -> int:
        with contextlib.suppress(InputError, OSError):  # reading it will say what is wrong
            return source.size(item.path)
        return 0

    return ([item] for item in items) if singly else together(items, size)


def together(files: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield files in their order, so many together that none waits long for another: few if they are large.

    Args:
        files: any.
        size: returns the bytes of one.
    """
    batch: list[T] = []
    held = 0
    for file in files:
        more = size(file)
        if batch and (len(batch) >= TOGETHER or held + more > TOGETHER_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(file)
        held += more
    if batch:
        yield batch


def _look_at(
    source: Source,
    items: list[Item],
    view: DicomView,
    keep: Callable[[Item, bytes], bytes] | None,
    see: SeeAll,
    show: Callable[[str, bytes], None] | None,
    from_table: tuple[str, ...],
) -> list[list[_Result]]:
    """Return the images of each of some files, of which no pixels are kept."""
    looks: list[Look] = []
    refused: dict[int, UnreadableImage] = {}
    for number, item in enumerate(items):
        try:
            looks.append(Look(source.read(item.path), item.file, item.frame, source.prefix + item.path))
        except UnreadableImage as error:
            refused[number] = error
    answers = zip(looks, see(looks, view), strict=True)
    files: list[list[_Result]] = []
    for number, item in enumerate(items):
        if number in refused:
            files.append([_Result(item, None, refused[number].what)])
            continue
        look, found = next(answers)
        files.append(_taken(item, look.data, found, view, keep, show, from_table))
    return files


def _taken(
    item: Item,
    data: bytes,
    found: Found,
    view: DicomView,
    keep: Callable[[Item, bytes], bytes] | None,
    show: Callable[[str, bytes], None] | None,
    from_table: tuple[str, ...],
) -> list[_Result]:
    """Return the images of a file that was seen, and let it be kept and shown."""
    # A file with a damaged frame is passed over whole: half of it would look like all of it.
    if found.error is not None:
        return [_Result(item, None, _reason(found.error, among=bool(found.seen)))]
    known: list[_Result] = []
    identity: _Identity | None = None
    try:
        for seen in found.seen:
            identity = identity or _identify(item, data, seen, keep, from_table, found.digest)
            known.append(_Result(_known(item, seen, identity, view), None, None))
    except UnreadableImage as error:
        return [_Result(item, None, error.what)]
    if show is not None:
        for result, seen in zip(known, found.seen, strict=True):
            if result.item.digest and seen.thumbnail:
                show(result.item.digest, seen.thumbnail)
    return known


def _decode(
    source: Source,
    items: list[Item],
    size: int,
    fit: str,
    view: DicomView,
    keep: Callable[[Item, bytes], bytes] | None,
    from_table: tuple[str, ...],
) -> list[list[_Result]]:
    """Return the images of each of some files with their squares; these are held, not the pixels."""
    return [_squares(source, item, size, fit, view, keep, from_table) for item in items]


def _squares(
    source: Source,
    item: Item,
    size: int,
    fit: str,
    view: DicomView,
    keep: Callable[[Item, bytes], bytes] | None,
    from_table: tuple[str, ...],
) -> list[_Result]:
    found: list[_Result] = []
    identity: _Identity | None = None
    try:
        data = source.read(item.path)
        for square, image in read_squares(data, item.file, size, fit, view, item.frame):
            # A JPEG comes too small here to be looked at for text, and nobody is there to be told.
            seen = Seen.of(image, item.text)
            identity = identity or _identify(item, data, seen, keep, from_table)
            found.append(_Result(_known(item, seen, identity, view), square, None))
    except UnreadableImage as error:
        return [_Result(item, None, _reason(error, among=bool(found)))]
    return found


def _reason(error: UnreadableImage, *, among: bool) -> str:
    """Return why a file is passed over, with the number of the frame where others of it were read."""
    return error.what + (f" ({error.seen.rpartition(', ')[2]})" if among and error.seen else "")


def _identify(
    item: Item,
    data: bytes,
    seen: Seen,
    keep: Callable[[Item, bytes], bytes] | None,
    from_table: tuple[str, ...],
    digest: str | None = None,
) -> _Identity:
    """Let a file that was read be kept, and return what all its images share; its own digest may be known.

    Raises:
        UnreadableImage: as ``keep``.
    """
    kept = keep(item, data) if keep else data
    traits = read_traits(kept, item.file).without(from_table) if seen.format == "DICOM" else NOTHING
    return _Identity(digest if digest and kept == data else file_digest(kept), traits)


def _known(item: Item, seen: Seen, identity: _Identity, view: DicomView) -> Item:
    """Return an item with what decoding told of it; a frame of several gets a name and a digest of its own."""
    content, traits = identity
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
