"""The database: migrations give exactly the tables of the models, and sessions keep or drop everything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

from backend.db import Base, Database, Dataset, Job, Model
from wara.errors import InputError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "wara.db")
    made.upgrade()
    yield made
    made.close()


def test_migrations_give_the_tables_of_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"render_as_batch": True})
        assert compare_metadata(context, Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    with database.session() as session:
        session.add(Dataset(id="x", name="kept"))
    database.upgrade()
    with database.session() as session:
        assert session.get_one(Dataset, "x").name == "kept"


def test_a_database_of_a_newer_version_is_told_and_left_alone(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    with pytest.raises(InputError, match="newer version") as error:
        database.upgrade()
    assert error.value.code == "database-newer" and str(database.path) in error.value.sentence()
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "newer"


@pytest.mark.parametrize("keep", [0, 3000])
def test_a_damaged_database_is_told_and_left_alone(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "wara.db"
    first = Database(path)
    first.upgrade()
    first.close()
    damaged = path.read_bytes()[:keep] + b"no page of a database" * 1000
    path.write_bytes(damaged)
    second = Database(path)
    with pytest.raises(InputError, match="damaged") as error:
        second.upgrade()
    second.close()
    assert error.value.code == "database-damaged" and path.read_bytes() == damaged


def test_a_database_that_cannot_be_opened_is_no_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "wara.db").mkdir()
    with pytest.raises(InputError) as error:
        Database(tmp_path / "wara.db").upgrade()
    assert error.value.code == "database-unusable"


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.session() as writer:
        writer.add(Dataset(name="half"))
        writer.flush()
        with database.session() as reader:
            assert reader.scalars(select(Dataset)).all() == []
            assert reader.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def test_times_come_back_in_utc(database: Database) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with database.session() as session:
        session.add(Dataset(id="x", name="x", created=moment))
    with database.session() as session:
        assert session.get_one(Dataset, "x").created == moment


def test_the_same_content_can_be_there_only_once(database: Database) -> None:
    with database.session() as session:
        session.add(Dataset(name="a", digest="same"))
    with pytest.raises(IntegrityError), database.session() as session:
        session.add(Dataset(name="b", digest="same"))


def test_what_a_deleted_row_was_named_by_forgets_it(database: Database) -> None:
    common = {"dataset_name": "d", "method": "wara", "backbone": "b", "backbone_spec": "b", "preset": "quick"}
    with database.session() as session:
        session.add(Dataset(id="d", name="d"))
        session.flush()
        session.add(Job(id="j", name="j", dataset_id="d", **common))
        session.flush()
        session.add(
            Model(id="m", name="m", job_id="j", dataset_id="d", pretrained=False, classes=[], metrics={}, **common)
        )
    with database.session() as session:
        session.delete(session.get_one(Dataset, "d"))
        session.delete(session.get_one(Job, "j"))
    with database.session() as session:
        model = session.get_one(Model, "m")
        assert (model.job_id, model.dataset_id, model.dataset_name) == (None, None, "d")
