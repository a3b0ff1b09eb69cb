"""The catalogue of a data set and what is done with it, by one name: list, decode, refuse what cannot be trained on."""

from __future__ import annotations

from wara.data.checks import require_trainable
from wara.data.ingest import ingest
from wara.data.items import Catalogue, Item, PassedOver
from wara.data.listing import read_catalogue

__all__ = ["Catalogue", "Item", "PassedOver", "ingest", "read_catalogue", "require_trainable"]
