"""The database: connections that behave alike on SQLite and PostgreSQL, transactions, and the schema's migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from vmferry.catalog._schema import Base

if TYPE_CHECKING:  # else imported where the schema is migrated: a worker never does, and its memory is counted
    from alembic.config import Config as AlembicConfig

_MIGRATIONS = Path(__file__).with_name("migrations")
_REVISIONS = "[0-9][0-9][0-9][0-9]_*.py"
_VERSION_TABLE = "alembic_version"
_BUSY_SECONDS = 30
"""How long a writer waits for another process's transaction; transactions here take milliseconds."""


_WRITER = 0x766D6665727279
"""The lock in PostgreSQL that stands for the writer's place: no other program's of that database."""


class Database:
    """An engine and its transactions. Thread-safe; several processes may share one database."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        if self.engine.dialect.name == "sqlite":
            _prepare_sqlite(self.engine)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that sees one state of the database and changes nothing."""
        with self.engine.connect() as connection, Session(connection) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that takes the writer's place from its start, so that what it reads still holds when it writes.

        Committed at the end of the block, rolled back when the block raises.
        """
        with (
            self.engine.connect().execution_options(vmferry_immediate=True) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            if connection.dialect.name == "postgresql":  # which has no BEGIN IMMEDIATE: one writer at a time, as there
                session.execute(select(func.pg_advisory_xact_lock(_WRITER)))
            yield session

    def migrate(self) -> None:
        """Bring the schema to the newest revision. One process at a time: the server, before it starts its workers.

        A new catalog in SQLite is made at the newest revision: to load Alembic, and to go there step by step, would
        take tenths of a second of a processor, each time that a server starts.
        """
        with self.engine.begin() as connection:
            found = inspect(connection).get_table_names()
            if not found and connection.dialect.name == "sqlite":
                _make_newest(connection)
            elif _VERSION_TABLE not in found or _revision(connection) != newest_revision():
                from alembic import command

                command.upgrade(alembic_config(connection), "head")

    def close(self) -> None:
        self.engine.dispose()


def alembic_config(connection: Connection) -> AlembicConfig:
    """Alembic's view of our migrations, over an open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """The revision of the schema that the code is for."""
    return max(path.name[:4] for path in (_MIGRATIONS / "versions").glob(_REVISIONS))


def _revision(connection: Connection) -> str | None:
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {_VERSION_TABLE}"))
    return revision


def _make_newest(connection: Connection) -> None:
    """Make all tables, and Alembic's own as it would, in an empty database."""
    Base.metadata.create_all(connection)
    column = "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)"
    connection.execute(text(f"CREATE TABLE {_VERSION_TABLE} ({column})"))
    connection.execute(text(f"INSERT INTO {_VERSION_TABLE} VALUES (:revision)"), {"revision": newest_revision()})


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # a task once accepted survives a power cut, too
            "foreign_keys=ON",
            f"busy_timeout={_BUSY_SECONDS * 1000}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("vmferry_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
