"""Keep of a file what training needs and nothing of whom it is of: DICOM by an allow-list, rasters without metadata.

Measured against the Basic Application Level Confidentiality Profile (DICOM PS3.15, Annex E); docs/deidentification.md
lists every choice and where it differs. Pixels are never decompressed, so text that is drawn into them stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from wara.errors import InputError, UnreadableImage
from wara.imaging.formats import sniff
from wara.imaging.names_in_paths import Identifiers, safe_path
from wara.imaging.quiet import quiet_decoders
from wara.imaging.raster_metadata import strip_raster

AGE_BANDS = (5, 10)
OLDEST_BAND = 90


@dataclass(frozen=True)
class Consent:
    """What the person who brings the images agreed to keep for reports by subgroup.

    Attributes:
        sex_and_age: keep PatientSex and the age as a band.
        years: width of the bands, 5 or 10 years; everybody of 90 and more is in one band.

    Raises:
        InputError: another width.
    """

    sex_and_age: bool = False
    years: int = 5

    def __post_init__(self) -> None:
        if self.years not in AGE_BANDS:
            raise InputError(
                "Ages are kept in bands of 5 or 10 years only",
                seen=self.years,
                remedy="Choose 5 or 10.",
                code="age-band",
            )

    @classmethod
    def of_band(cls, years: int | None) -> Consent:
        """Return the agreement to bands of so many years; None agrees to nothing."""
        return NOTHING_MORE if years is None else cls(True, years)

    def age(self, age: float | None) -> float | None:
        """Return what may be kept of an age in years: the youngest of its band, or None."""
        if age is None or not self.sex_and_age:
            return None
        return float(OLDEST_BAND if age >= OLDEST_BAND else age // self.years * self.years)


NOTHING_MORE = Consent()


@dataclass(frozen=True)
class Cleaned:
    """A file's new content, and what its header said that must stand nowhere else, its name included."""

    content: bytes
    identifiers: Identifiers


def deidentify(content: bytes, name: str, consent: Consent = NOTHING_MORE) -> bytes:
    """Return the file with its picture and what its display needs, and nothing of whom it is of.

    The same content gives the same bytes on the same machine: identifiers become hashes under its key, so that images
    of one patient, study and series stay together and nobody else can tell which.

    Args:
        content: the whole file: PNG, JPEG, TIFF, WebP, BMP or DICOM.
        name: the file's name, for errors only.
        consent: whether sex and age band are kept.

    Raises:
        UnreadableImage: the file is no image, or so damaged that nobody can say what in it is the picture.
        InputError: the key that hides patient IDs can be neither read nor made.
    """
    return clean(content, name, consent).content


def clean(content: bytes, name: str, consent: Consent = NOTHING_MORE) -> Cleaned:
    """Do as ``deidentify`` does, and say also which identifiers the header held, for the file's name.

    Raises:
        UnreadableImage: as ``deidentify``.
        InputError: as ``deidentify``.
    """
    kind = sniff(content, name)
    with quiet_decoders():
        if kind != "DICOM":
            return Cleaned(strip_raster(content, name, kind), Identifiers())
        # Imported on first use: most data sets hold no DICOM, and the package takes a moment.
        from wara.imaging.dicom_clean import clean_dicom

        return Cleaned(*clean_dicom(content, name, consent.years if consent.sex_and_age else None))


def header_identifiers(content: bytes, name: str) -> Identifiers:
    """Return what a file's header says that must not stand in its name; nothing for rasters and damaged headers."""
    try:
        if sniff(content, name) != "DICOM":
            return Identifiers()
    except UnreadableImage:
        return Identifiers()
    with quiet_decoders():
        from wara.imaging.dicom_clean import read_identifiers

        return read_identifiers(content)


def safe_name(content: bytes, name: str) -> str:
    """Return a file's relative path as it may be shown and kept: parts that repeat its own header become codes.

    Raises:
        InputError: the key that hides patients can be neither read nor made.
    """
    return safe_path(name, header_identifiers(content, name))


def safely_named(name: str, content: bytes | InputError) -> tuple[str, bytes | InputError]:
    """Return a file under its ``safe_name``; one without content, of which the reason is here, keeps its name."""
    return (safe_name(content, name) if isinstance(content, bytes) else name), content
