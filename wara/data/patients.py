"""Patients of tables, patterns and headers as codes: the same on this machine every time, and of nobody elsewhere."""

from __future__ import annotations

import re
from functools import lru_cache

from wara.imaging.identity import pseudonym

# What pseudonym() gives: the split.csv of a run holds such codes, and is itself a table to train by again.
_CODE = re.compile(r"(?=.*[a-f])[0-9a-f]{12}")


@lru_cache(maxsize=1 << 16)
def patient_code(written: str) -> str | None:
    """Return a patient's code (see ``wara.imaging.identity.pseudonym``); a code stays as it is, "" becomes None.

    Twelve digits without a letter may be a hospital's number, so they are coded.

    Raises:
        InputError: the key that hides patients can be neither read nor made.
    """
    text = written.strip()
    return text if _CODE.fullmatch(text) else pseudonym(text)
