"""Patterns over file names, as people give them: named groups, and an end to every search, however the pattern is.

Python's own ``re`` cannot be stopped: ``(a+)+$`` on a name of 40 letters takes hours. The package ``regex`` takes the
same patterns and stops after a given time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import regex

from wara.errors import InputError

MAX_PATTERN = 300
MAX_NAME = 1024
GROUPS = ("label", "patient", "split")
EXAMPLE = r"(?P<patient>\d+)_(?P<label>[a-z]+)"
# A sane pattern takes microseconds a name. What takes longer than this for one name never ends for some other.
_SECONDS_A_NAME = 0.25
_SECONDS_IN_ALL = 20.0


class NamePattern:
    """A regular expression with named groups, searched in file names.

    Args:
        text: the pattern. It is searched in the file's own name, or in the whole path where it holds a slash.

    Raises:
        InputError: too long, not a pattern, or without a named group; code "pattern".
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise _wrong(f"it has {len(text):,} characters", f"Give at most {MAX_PATTERN}.")
        try:
            self._compiled = regex.compile(text, regex.VERSION0)
        except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
            why = str(error) or "not a pattern"
            raise _wrong(f"{text}: {why}", f"Write a regular expression, e.g. {EXAMPLE}") from error
        self.groups: tuple[str, ...] = tuple(self._compiled.groupindex)
        if not self.groups:
            raise _wrong(f"{text}: it has no named group", f"Name what it finds, e.g. {EXAMPLE}")
        self._text = text
        self._whole_path = "/" in text
        self._spent = 0.0

    def find(self, name: str) -> dict[str, str] | None:
        """Return the named groups that are in a name, empty ones left out; None where the pattern is not in it.

        Raises:
            InputError: the search takes too long; code "pattern-slow".
        """
        if len(name) > MAX_NAME:
            return None
        began = time.monotonic()
        try:
            found = self._compiled.search(
                name if self._whole_path else name.rsplit("/", 1)[-1],
                timeout=min(_SECONDS_A_NAME, _SECONDS_IN_ALL - self._spent),
                concurrent=True,
            )
        except TimeoutError:
            raise _slow(self._text) from None
        self._spent += time.monotonic() - began
        if self._spent > _SECONDS_IN_ALL:
            raise _slow(self._text)
        if found is None:
            return None
        return {group: value.strip() for group, value in found.groupdict().items() if value and value.strip()}

    def over(self, names: Iterable[str]) -> Iterator[tuple[str, dict[str, str] | None]]:
        """Yield every name with what ``find`` gives."""
        for name in names:
            yield name, self.find(name)


def _wrong(seen: str, remedy: str) -> InputError:
    return InputError("The file-name pattern cannot be used", seen=seen, remedy=remedy, code="pattern")


def _slow(text: str) -> InputError:
    return InputError(
        "The file-name pattern takes too long to search for",
        seen=text,
        remedy="Make it simpler: no repeats within repeats such as (a+)+, and say what stands between the groups.",
        code="pattern-slow",
    )
