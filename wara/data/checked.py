"""A catalogue that was checked: stored, read again, and brought up to the files as they lie now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import IO, Any

from wara.data.items import Catalogue, Item, PassedOver, content_digest
from wara.data.listing import fingerprint_of
from wara.data.sources import Source

# Between what stands before the items and the first of them; each item then has a line of its own.
_ITEMS = ', "items": ['


def checked_as_json(catalogue: Catalogue) -> Iterator[str]:
    """Yield a catalogue as JSON, an object of the fields of ``Catalogue``, in pieces: never all items at once."""
    rest = {field.name: getattr(catalogue, field.name) for field in fields(catalogue) if field.name != "items"}
    rest["passed_over"] = [asdict(entry) for entry in catalogue.passed_over]
    yield json.dumps(rest, ensure_ascii=False)[:-1] + _ITEMS
    for number, item in enumerate(catalogue.items):
        yield (",\n" if number else "\n") + json.dumps(asdict(item), ensure_ascii=False)
    yield "\n]}\n"


def read_checked(path: Path) -> Catalogue:
    """Return a stored catalogue."""
    with path.open(encoding="utf-8") as file:
        stored = _read(file)
    stored["passed_over"] = tuple(PassedOver(**fields) for fields in stored["passed_over"])
    stored["classes"] = tuple(stored["classes"])
    stored["from_table"] = tuple(stored.get("from_table", ()))  # which an older one lacks
    return Catalogue(**stored)


def _read(file: IO[str]) -> dict[str, Any]:
    head = file.readline()
    if not head.endswith(_ITEMS + "\n"):  # of an older version: all in one line
        stored: dict[str, Any] = json.loads(head + file.read())
        stored["items"] = tuple(Item(**item) for item in stored["items"])
        return stored
    stored = json.loads(head.removesuffix(_ITEMS + "\n") + "}")
    items: list[Item] = []
    for line in file:
        if line == "]}\n":
            return stored | {"items": tuple(items)}
        items.append(Item(**json.loads(line.rstrip(",\n"))))
    raise ValueError("a catalogue without its end")


def restamped(catalogue: Catalogue, source: Source) -> Catalogue:
    """Return a catalogue with its fingerprint and digest as its items and files are now."""
    return replace(
        catalogue, fingerprint=fingerprint_of(source, catalogue.items), digest=content_digest(catalogue.items)
    )
