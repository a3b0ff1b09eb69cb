"""The one error that a person is meant to read: what was wrong, the value seen, what to do."""

from __future__ import annotations


class InputError(ValueError):
    """Something that a person gave (data, an option, a file) cannot be used.

    Args:
        what: what was wrong, without a full stop, e.g. ``"The CSV has no column 'label'"``.
        remedy: what to do, as a sentence, e.g. ``"Rename the column that holds the classes to 'label'."``
        seen: the value seen, shown as it is; keep identifiers of patients out of it.
        code: a stable short name of the kind of error, e.g. ``"csv-column-missing"``.
    """

    def __init__(self, what: str, *, remedy: str, seen: object = None, code: str = "invalid-input") -> None:
        self.what = what.rstrip(".")
        self.remedy = remedy
        self.seen = None if seen is None else str(seen)
        self.code = code
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """Return the error as one plain text, in the order what, seen, remedy."""
        seen = f" (seen: {self.seen})" if self.seen is not None else ""
        return f"{self.what}{seen}. {self.remedy}"


class UnreadableImage(InputError):
    """One image file cannot be decoded; the reason is in ``what``."""
