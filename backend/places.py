"""Where the parts of a data set lie: its images, its table of labels, its mapping, its catalogue and decisions."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from backend.arrivals import LABELS_FOLDER
from backend.catalogues import CATALOGUE_FILE, load_catalogue
from backend.db import Database, Dataset
from backend.door import CLEAN_FOLDER, KEPT_FOLDER
from backend.problems import not_found
from backend.refusals import refuse_in_use, refuse_unless_ready, refuse_unless_receiving
from backend.storage import Storage
from backend.thumbnails import remove_thumbnails
from wara.data.catalogue import Catalogue
from wara.data.mapping import MAPPING_FILE, Mapping, kept_mapping

DECISIONS_FILE = "decisions.json"


class Places:
    """The files of data sets.

    Args:
        database: their rows.
        storage: the data folder.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self.database = database
        self.storage = storage

    def receiving(self, dataset_id: str) -> Dataset:
        """Return a data set that receives, as it stands now.

        Raises:
            RequestRefused: 404, or 409 when it is finished.
        """
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is None:
                raise not_found("data set", dataset_id)
            refuse_unless_receiving(dataset)
            return dataset

    def changeable(self, dataset_id: str) -> Dataset:
        """Return a data set as it stands now, for a decision about it.

        Raises:
            RequestRefused: 404, or 409 while it is not ready or a job uses it.
        """
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is None:
                raise not_found("data set", dataset_id)
            refuse_unless_ready(dataset)
            refuse_in_use(session, dataset_id)
        return dataset

    def source(self, dataset: Dataset) -> Path:
        """Return the folder, zip or file that holds a data set's images."""
        return self.storage.folder("datasets", dataset.id) / (dataset.source or "files")

    def labels_file(self, dataset: Dataset) -> Path | None:
        """Return the table that the upload named as its labels, or what is kept of it."""
        if not dataset.labels:
            return None
        kept = KEPT_FOLDER if dataset.source == CLEAN_FOLDER else LABELS_FOLDER
        return self.storage.folder("datasets", dataset.id) / kept / PurePosixPath(dataset.labels).name

    def mapping_file(self, dataset: Dataset) -> Path:
        """Return where it is kept where the labels come from, if a person said it."""
        folder = self.storage.folder("datasets", dataset.id)
        return (folder / KEPT_FOLDER if dataset.source == CLEAN_FOLDER else folder) / MAPPING_FILE

    def catalogue_file(self, dataset: Dataset) -> Path:
        """Return where the catalogue of a checked data set is kept."""
        return self.storage.folder("datasets", dataset.id) / CATALOGUE_FILE

    def decisions_file(self, dataset: Dataset) -> Path:
        """Return where the decisions about a data set's findings are kept, if there are any."""
        return self.storage.folder("datasets", dataset.id) / DECISIONS_FILE

    def mapping(self, dataset: Dataset) -> Mapping | None:
        """Return where a person said that the labels come from; None for a usual layout."""
        return kept_mapping(self.mapping_file(dataset).parent)

    def catalogue(self, dataset: Dataset) -> Catalogue:
        """Return the catalogue as it was checked, before any decision.

        Raises:
            RequestRefused: 409 while the data set is not ready.
        """
        refuse_unless_ready(dataset)
        return load_catalogue(self.catalogue_file(dataset))


def drop_former(folder: Path) -> None:
    """Remove what was made under the numbers of a former catalogue, and what was decided about it.

    At the beginning of a check, which a killed server begins anew, so that no decision outlives the labels that it was
    taken about.
    """
    (folder / DECISIONS_FILE).unlink(missing_ok=True)
    remove_thumbnails(folder)
    shutil.rmtree(folder / "cache", ignore_errors=True)
