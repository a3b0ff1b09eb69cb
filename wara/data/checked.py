"""A catalogue that was checked and stored: read again, and brought up to the files as they lie now."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from wara.data.items import Catalogue, Item, PassedOver, content_digest
from wara.data.listing import fingerprint_of
from wara.data.sources import Source


def read_checked(path: Path) -> Catalogue:
    """Return a stored catalogue (the fields of ``Catalogue`` as JSON)."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["items"] = tuple(Item(**fields) for fields in stored["items"])
    stored["passed_over"] = tuple(PassedOver(**fields) for fields in stored["passed_over"])
    stored["classes"] = tuple(stored["classes"])
    stored["from_table"] = tuple(stored.get("from_table", ()))  # which an older one lacks
    return Catalogue(**stored)


def restamped(catalogue: Catalogue, source: Source) -> Catalogue:
    """Return a catalogue with its fingerprint and digest as its items and files are now."""
    return replace(
        catalogue, fingerprint=fingerprint_of(source, catalogue.items), digest=content_digest(catalogue.items)
    )
