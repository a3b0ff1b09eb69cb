"""De-identification at the door: the check of a data set reads each file and writes what is kept of it.

Until then an upload lies as it came, since labels may have to be read from headers, names and tables. What is kept goes
to ``clean``; its table of labels and its mapping, if any, to ``kept``. Whoever stops the server at any moment loses
nothing: until the data set's row names ``clean`` as its source, a check begins anew from what came; from then on only
what is clean is read, and ``remove_raw`` takes the rest away.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from backend.arrivals import LABELS_FOLDER
from backend.door_tables import TableKeeper
from backend.names import safe_relative
from backend.problems import RequestRefused
from backend.storage import MANIFEST_FILE
from backend.thumbnails import keeper, remove_thumbnails
from wara.data.catalogue import Catalogue, Item, PassedOver, ingest, read_catalogue, require_trainable
from wara.data.checked import restamped
from wara.data.dicom_tags import label_keyword, patient_keyword, read_tags
from wara.data.items import frame_name, natural_key
from wara.data.kept import Kept
from wara.data.mapping import MAPPING_FILE, Mapping, write_mapping
from wara.data.patients import patient_code
from wara.data.patterns import NamePattern
from wara.data.seen import SeeAll, see_all
from wara.data.sources import Source, open_source
from wara.data.table_keep import FEWEST_PATIENTS
from wara.data.zips import MAX_MEMBER_BYTES
from wara.errors import InputError, UnreadableImage
from wara.imaging.deidentify import Consent, clean
from wara.imaging.formats import is_image_name
from wara.imaging.identity import CODED
from wara.imaging.names_in_paths import coded_file, coded_folder
from wara.imaging.path_codes import PathCoder

CLEAN_FOLDER = "clean"
KEPT_FOLDER = "kept"
REFUSED_FILE = "refused.jsonl"
# What came, and what was noted of it, beside the uploaded files and the mapping that was said.
_RAW_FOLDERS = ("files", LABELS_FOLDER, "incoming")
_RAW_FILES = (MAPPING_FILE, MANIFEST_FILE, REFUSED_FILE)
_LABELS_IN_PATHS = frozenset({"class-folders", "split-folders"})
# A name that this disk cannot hold beside another, as two in a zip can be.
_NO_PLACE = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
_QUOTED = re.compile("'([^']*)'")


@dataclass(frozen=True)
class Admitted:
    """What came in.

    Attributes:
        catalogue: under the names as they are stored now.
        labels: name of the table of labels in ``kept``; None without.
        coder: knows which texts repeat a header; None where nothing was cleaned.
    """

    catalogue: Catalogue
    labels: str | None
    coder: PathCoder | None = None

    def tells(self, text: str) -> bool:
        """Whether a text, such as the data set's name, repeats a header."""
        return self.coder is not None and self.coder.tells(text)


def check(
    folder: Path,
    path: Path,
    labels: Path | None,
    mapping: Mapping | None,
    consent: Consent | None,
    on_progress: Callable[[int, int], None],
    see: SeeAll = see_all,
) -> Admitted:
    """Read every image of a data set once, and let in what may be kept.

    Args:
        folder: the data set's folder.
        path: what holds its images: the folder or zip that came, or what is clean already.
        labels: the table that the upload named, if any.
        mapping: where the labels come from, if a person said it.
        consent: what may be kept of the patients; None for what is clean already.
        on_progress: as of ``ingest``; an exception of it ends the check.
        see: as of ``ingest``.

    Raises:
        InputError: nothing can be trained with what can be read; nothing was changed.
    """
    with open_source(path) as source:
        listed = read_catalogue(source, labels, mapping)
        if consent is None:
            with keeper(folder) as show:
                catalogue, _ = ingest(source, listed, on_progress=on_progress, see=see, show=show)
            require_trainable(catalogue)
            return Admitted(restamped(catalogue, source), None if labels is None else labels.name)
        door = Door(folder, source, consent, mapping, labels)
        with keeper(folder) as show:
            catalogue, _ = ingest(source, listed, on_progress=on_progress, keep=door.keep, see=see, show=show)
        try:
            require_trainable(catalogue)
        except InputError as error:
            raise without_quotes(error, door.coder) from error
        return door.close(catalogue, listed, on_progress)


class Door:
    """Takes the files of one data set in.

    Args:
        folder: the data set's folder.
        source: what came, open.
        consent: what may be kept of the patients.
        mapping: where the labels come from, if a person said it.
        labels: the table that the upload named, if any.
    """

    def __init__(
        self, folder: Path, source: Source, consent: Consent, mapping: Mapping | None, labels: Path | None
    ) -> None:
        self._folder = folder
        self._root = folder / CLEAN_FOLDER
        self._source = source
        self._consent = consent
        self._mapping = mapping
        self._labels = labels
        self._above = [part for part in source.prefix.split("/") if part]
        self.coder = PathCoder()
        self._lock = threading.Lock()
        self._made = {""}
        self._places: dict[str, str] = {}
        self._tags = _wanted_tags(mapping)
        self._kept = Kept(consent.sex_and_age, self._tags)
        empty(folder)
        for part in (self._root, folder / KEPT_FOLDER):
            part.mkdir(mode=0o700)

    def keep(self, item: Item, content: bytes) -> bytes:
        """Clean one file that was read well and write what is kept of it; return that. Called from several threads.

        Raises:
            UnreadableImage: what in the file is the picture cannot be told.
        """
        return self._keep(item.path, content)

    def close(self, catalogue: Catalogue, listed: Catalogue, on_progress: Callable[[int, int], None]) -> Admitted:
        """End the pass: keep images without a label, code the names, reduce the tables; return what came in.

        Args:
            catalogue: after ``ingest``.
            listed: before it.
            on_progress: as of ``ingest``; an exception of it ends the work.
        """
        self._keep_others(listed, on_progress)
        self.coder.spare(_folders_of_many(catalogue))
        names = self._rename()
        admitted = self._renamed(catalogue, names)
        tables = TableKeeper(self._source, names, self.coder, self._consent, self._root)
        mapping, labels = tables.keep(self._mapping, self._labels, self._folder / KEPT_FOLDER)
        self._note(names)
        if mapping is not None:
            write_mapping(self._folder / KEPT_FOLDER / MAPPING_FILE, self._mapping_renamed(mapping))
        with open_source(self._root) as stored:
            return Admitted(restamped(admitted, stored), labels, self.coder)

    def _keep(self, name: str, content: bytes) -> bytes:
        found = clean(content, name, self._consent)
        self.coder.note(name, found.identifiers, self._above)
        if self._tags:
            with contextlib.suppress(UnreadableImage):
                values = read_tags(io.BytesIO(content), self._tags)
                if values is not None:
                    self._kept.tags[name] = values
        with self._lock:
            known = name in self._places  # several frames of one file
            self._places.setdefault(name, name)
        if not known:
            self._store(name, content, found.content)
        return found.content

    def _store(self, name: str, content: bytes, cleaned: bytes) -> None:
        place = _safe(name)
        try:
            self._write(name, place, content, cleaned)
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise
            place = f"{coded_folder(name)}/{coded_file(name.rsplit('/', 1)[-1])}"
            self._write(name, place, content, cleaned)
        self._places[name] = place

    def _write(self, name: str, place: str, content: bytes, cleaned: bytes) -> None:
        self._make(place.rpartition("/")[0])
        target = f"{self._root}/{place}"  # strings: as fast as that matters for 100,000 files
        came = self._source.file(name) if cleaned == content else None
        if came is not None:
            try:
                os.link(came, target)  # nothing to take out: a second name, which costs no space
                return
            except FileExistsError:
                raise
            except OSError:
                pass  # a disk without second names
        with Path(target).open("xb") as file:
            file.write(cleaned)

    def _make(self, folder: str) -> None:
        """Make a folder below the root. The root itself is never made again: the data set may be deleted meanwhile."""
        if folder not in self._made:
            self._make(folder.rpartition("/")[0])
            (self._root / folder).mkdir(mode=0o700, exist_ok=True)
            self._made.add(folder)

    def _keep_others(self, listed: Catalogue, on_progress: Callable[[int, int], None]) -> None:
        """Keep the images that have no label so far, so that other labels can still take them in."""
        tried = {item.path for item in listed.items}
        for name in self._source.names():
            if name in tried or not is_image_name(name):
                continue
            on_progress(len(tried), len(tried))
            came = self._source.file(name)
            if came is not None and came.stat().st_size > MAX_MEMBER_BYTES:
                continue
            with contextlib.suppress(UnreadableImage):  # no image: only its name stays, in the report
                self._keep(name, self._source.read(name))

    def _rename(self) -> dict[str, str]:
        """Give every file its name without what its header says; return the names now by those in the source."""
        names: dict[str, str] = {}
        used: set[str] = set()
        for name, place in sorted(self._places.items()):
            final = self.coder.path(place)
            while final in used:
                path = PurePosixPath(final)
                final = path.with_name(f"{path.stem}_{path.suffix}").as_posix()
            used.add(final)
            names[name] = final
            if final != place:
                self._make(final.rpartition("/")[0])
                (self._root / place).rename(self._root / final)
        for folder in sorted(self._made - {""}, reverse=True):
            with contextlib.suppress(OSError):  # it holds something still
                (self._root / folder).rmdir()
        return names

    def _renamed(self, catalogue: Catalogue, names: dict[str, str]) -> Catalogue:
        folders = catalogue.layout in _LABELS_IN_PATHS

        def label(written: str) -> str:
            return self.coder.folder(written) if folders else written

        items = [
            replace(
                item,
                file=names[item.path] if item.frame is None else frame_name(names[item.path], item.frame),
                label=label(item.label),
                sex=item.sex if self._consent.sex_and_age else None,
                age=self._consent.age(item.age),
            )
            for item in catalogue.items
        ]
        passed_over = [
            PassedOver(
                names.get(entry.file) or self.coder.path(entry.file),
                self._reason(entry.reason),
                None if entry.label is None else label(entry.label),
            )
            for entry in catalogue.passed_over
        ]
        items.sort(key=lambda item: item.file)
        passed_over.sort(key=lambda entry: entry.file)
        classes = tuple(sorted({label(name) for name in catalogue.classes}, key=natural_key))
        told = catalogue.from_table if self._consent.sex_and_age else ()
        return replace(catalogue.with_items(items, passed_over), classes=classes, from_table=told)

    def _reason(self, reason: str) -> str:
        """Return a reason without what it quotes of a header."""
        return _QUOTED.sub(lambda found: "'...'" if self.coder.tells(found[1]) else found[0], reason)

    def _note(self, names: dict[str, str]) -> None:
        """Write down what labels were read from and can be read no more."""
        kept = self._kept
        kept.tags = {names[name]: values for name, values in kept.tags.items() if name in names}
        patient_tag = None if self._mapping is None else self._mapping.patient_tag
        for keyword in ([patient_keyword(patient_tag)] if patient_tag else []):
            for values in kept.tags.values():
                _code(values, keyword)
        if self._mapping is not None and self._mapping.pattern:
            pattern = NamePattern(self._mapping.pattern)
            kept.pattern = self._mapping.pattern
            for name, now in names.items():
                if name != now:
                    groups = pattern.find(name)
                    kept.groups[now] = None if groups is None else _groups(groups)
        kept.write(self._root)

    def _mapping_renamed(self, mapping: Mapping) -> Mapping:
        if mapping.source != "folders":
            return mapping
        return replace(
            mapping,
            rename={self.coder.folder(name): new for name, new in mapping.rename.items()},
            leave_out=tuple(map(self.coder.folder, mapping.leave_out)),
        )


def empty(folder: Path) -> None:
    """Remove what a check that did not end has written."""
    for name in (CLEAN_FOLDER, KEPT_FOLDER):
        shutil.rmtree(folder / name, ignore_errors=True)
    remove_thumbnails(folder)


def settle_on_disk() -> None:
    """Have the system write what was kept to the disk itself, before what came is given up."""
    if hasattr(os, "sync"):
        os.sync()


def holds_raw(folder: Path) -> bool:
    """Whether a data set's folder still holds something of what came."""
    return any(os.path.lexists(folder / name) for name in (*_RAW_FOLDERS, *_RAW_FILES))


def remove_raw(folder: Path) -> None:
    """Remove what came, once what is kept of it is all that is read."""
    for name in _RAW_FILES:
        (folder / name).unlink(missing_ok=True)
    for name in _RAW_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def _safe(name: str) -> str:
    """Return a path that can be stored: names inside a zip need not be such."""
    try:
        return safe_relative(name)
    except RequestRefused:
        *folders, file = name.split("/")
        parts = [part if _storable(part) else coded_folder(part) for part in folders]
        path = "/".join([*parts, file if _storable(file) else coded_file(file)])
        return path if _storable(path) else f"{coded_folder(name)}/{coded_file(file)}"


def _storable(path: str) -> bool:
    try:
        return safe_relative(path) == path
    except RequestRefused:
        return False


def _folders_of_many(catalogue: Catalogue) -> set[str]:
    """Return the classes with so many patients that the name is nobody's, whoever is called like it."""
    patients: dict[str, set[str]] = defaultdict(set)
    for item in catalogue.items:
        if item.patient:
            patients[item.label].add(item.patient)
    return {label for label, who in patients.items() if len(who) >= FEWEST_PATIENTS}


def _wanted_tags(mapping: Mapping | None) -> list[str]:
    if mapping is None:
        return []
    label = label_keyword(mapping.label_tag) if mapping.source == "dicom" and mapping.label_tag else None
    patient = patient_keyword(mapping.patient_tag) if mapping.patient_tag else None
    return [keyword for keyword in (label, patient) if keyword]


def _code(values: dict[str, str], keyword: str) -> None:
    written = values.get(keyword)
    code = patient_code(written) if written else None
    if code:
        values[keyword] = f"{CODED}{code}"


def _groups(found: dict[str, str]) -> dict[str, str]:
    """Return what labels, sides and patients need of a pattern's groups; others may say anything."""
    groups = {key: value for key, value in found.items() if key in ("label", "split", "patient")}
    _code(groups, "patient")
    return groups


def without_quotes(error: InputError, coder: PathCoder) -> InputError:
    """Return an error without the value seen where that repeats a header."""
    if error.seen is None or not coder.tells(error.seen):
        return error
    return InputError(error.what, remedy=error.remedy, code=error.code)
