"""Folder, zip or table to a catalogue, a patient-safe split, stored pixels and a report on the data."""

from wara.data.catalogue import Catalogue, Item, PassedOver, ingest, read_catalogue, require_trainable
from wara.data.pixels import PixelStore
from wara.data.report import data_report
from wara.data.sources import Source, open_source
from wara.data.split import make_split
from wara.data.split_file import read_split_csv, write_split_csv

__all__ = [
    "Catalogue",
    "Item",
    "PassedOver",
    "PixelStore",
    "Source",
    "data_report",
    "ingest",
    "make_split",
    "open_source",
    "read_catalogue",
    "read_split_csv",
    "require_trainable",
    "write_split_csv",
]
