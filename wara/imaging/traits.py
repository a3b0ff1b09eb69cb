"""Sex and age of a DICOM header, where somebody decided that the file may tell them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace

from wara.errors import UnreadableImage
from wara.imaging.formats import sniff
from wara.imaging.quiet import quiet_decoders

# Of the codes for what was done (PS3.16 CID 7050): Retain Patient Characteristics Option.
RETAINED = "113108"
_SEXES = ("M", "F", "O")
_WANTED = ("PatientSex", "PatientAge", "PatientIdentityRemoved", "DeidentificationMethodCodeSequence")


@dataclass(frozen=True)
class Traits:
    """What a header tells: ``sex`` as M, F or O, ``age`` in whole years or as the youngest of a band; None if not."""

    sex: str | None = None
    age: float | None = None

    def without(self, names: Iterable[str]) -> Traits:
        """Return these but for those that something else tells."""
        return replace(self, **dict.fromkeys(names))


NOTHING = Traits()


def read_traits(content: bytes, name: str) -> Traits:
    """Return sex and age of a DICOM file that says of itself that both were kept on purpose.

    That is a file with PatientIdentityRemoved YES and the code 113108, as ``wara.imaging.deidentify`` writes it where
    a person agreed, and as public archives do. Any other header, and any picture, tells nothing here: nobody agreed.

    Args:
        content: the whole file, which can be decoded.
        name: the file's name, for nothing but the decision what kind of file it is.
    """
    try:
        if sniff(content, name) != "DICOM":
            return NOTHING
    except UnreadableImage:
        return NOTHING
    with quiet_decoders():
        # Imported on first use: most data sets hold no DICOM, and the package takes a moment.
        import pydicom

        from wara.imaging.dicom import DECODER_ERRORS
        from wara.imaging.dicom_identifiers import stated_age

        try:
            header = pydicom.dcmread(
                io.BytesIO(content), stop_before_pixels=True, force=True, specific_tags=list(_WANTED)
            )
            if str(header.get("PatientIdentityRemoved") or "").strip().upper() != "YES":
                return NOTHING
            codes = {str(entry.get("CodeValue") or "") for entry in header.get(_WANTED[-1]) or ()}
            if RETAINED not in codes:
                return NOTHING
            sex, age = str(header.get("PatientSex") or "").strip().upper(), stated_age(header)
        except DECODER_ERRORS:
            return NOTHING
    return Traits(sex if sex in _SEXES else None, None if age is None else float(age))
