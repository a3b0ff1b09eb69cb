"""The one place that opens the database: engine, sessions, migrations at start."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from wara.errors import InputError

MIGRATIONS = Path(__file__).with_name("migrations")
# Names that this server gives (`new_id`, and the digests of `BackboneRegistry.add`); another folder is somebody else's.
OURS = re.compile(r"[0-9a-f]{12}|[0-9a-f]{32}")
# In the data folder: a new database found folders there that it does not know.
UNKNOWN_KEPT = "unknown-folders-kept"


class Database:
    """A SQLite file in WAL mode, so that readers never wait for a writer.

    Args:
        path: the database file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Parameters hold names of files and people; they belong in no message and no log.
        self.engine = create_engine(f"sqlite:///{path}", hide_parameters=True)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        event.listen(self.engine, "connect", _prepare_connection)

    def upgrade(self) -> None:
        """Bring the tables to the newest form; a database that is made anew beside folders of a former one says so.

        Raises:
            InputError: the file was written by a newer version, is damaged, or cannot be used.
        """
        if not self.path.exists():
            _keep_what_is_there(self.path.parent)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        try:
            with self.engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise InputError(
                "The database was written by a newer version of WaRA Studio", seen=f"{self.path}: {error}",
                remedy="Start the version that wrote it, or restore a backup that this version wrote.",
                code="database-newer",
            ) from error  # fmt: skip
        except (DBAPIError, sqlite3.Error) as error:
            raise unusable(self.path, error) from error

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Give a session that commits at the end and rolls back on an error."""
        with self._sessions.begin() as session:
            yield session

    def forget_overwritten(self) -> None:
        """Empty the log of changes into the database, so that no former value of a row stays on the disk."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def unusable(path: Path, error: DBAPIError | sqlite3.Error) -> InputError:
    """Return what a person is told of a database file that SQLite refuses."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.OperationalError):
        return InputError(
            "The database cannot be used", seen=f"{path}: {cause}",
            remedy="Let this user read and write it and its folder, see that the disk has room, and try again.",
            code="database-unusable",
        )  # fmt: skip
    return InputError(
        "The database is damaged", seen=f"{path}: {cause}",
        remedy="Stop the server, set WARA_DATA_DIR to a new folder, and unpack the last backup there: python -m "
        "backend restore FILE.", code="database-damaged",
    )  # fmt: skip


def _keep_what_is_there(data: Path) -> None:
    """Note that folders of the data folder, which a new database does not know, are no leftovers."""
    if any(OURS.fullmatch(folder.name) and folder.is_dir() for folder in data.glob("*/*")):
        (data / UNKNOWN_KEPT).touch()


# synchronous=FULL: what was answered as done is on the disk, also when the power fails in the next moment.
# secure_delete: what a row held before is overwritten, not only let go of; it may have been a person's name.
def _prepare_connection(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    pragmas = "journal_mode=WAL synchronous=FULL foreign_keys=ON busy_timeout=10000 secure_delete=ON"
    for pragma in pragmas.split():
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
