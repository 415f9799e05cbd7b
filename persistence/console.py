"""The database for commands that must start at once: a bare driver, no SQLAlchemy (0.65 s to import).

The same functions, SQL and triggers as everywhere, over a connection of sqlite3 or psycopg: a
`PlainTransaction` is all that the owners of tables ask for, so no rule is written twice. `read` and
`write` promise what those of `persistence.database.Database` do, with its errors; there is one process,
one thread and one transaction at a time, so there is no pool and nobody to take turns with.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote

from persistence.connect import (
    ANSWER_TIMEOUT_S,
    BUSY_TIMEOUT_MS,
    PRAGMAS,
    bounded_connection_class,
    postgres_arguments,
)
from persistence.database_errors import CommitUnknown, DatabaseUnavailable, named, outcome_unknown
from persistence.text import read_text
from persistence.transaction import Dialect, Transaction
from strategies.secrecy import shown_url


class SchemaMissing(Exception):
    """The database is there and has not the tables: `scheduler db upgrade` makes them."""


@dataclass(frozen=True, slots=True)
class Named:
    name: str


class Rows:
    """A cursor with the few methods that a SQLAlchemy result has in common with it."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return int(self._cursor.rowcount)

    def all(self) -> Sequence[Any]:
        rows: Sequence[Any] = self._cursor.fetchall()
        return rows

    def first(self) -> Any:
        return next(iter(self.all()), None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all())


class PlainTransaction:
    """What `persistence.transaction.Transaction` asks for, over a driver's connection."""

    __slots__ = ("_connection", "dialect")

    def __init__(self, connection: Any, dialect: Dialect) -> None:
        self._connection = connection
        self.dialect = Named(dialect)

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Rows:
        cursor = self._connection.cursor()
        if isinstance(parameters, list):
            cursor.executemany(statement, parameters)
        else:
            cursor.execute(statement, parameters or ())
        return Rows(cursor)


SQLITE: Final = "sqlite:///"


class Console:
    """A database opened for one command. Raises DatabaseUnavailable, CommitUnknown and SchemaMissing."""

    def __init__(self, url: str) -> None:
        self.dialect: Dialect = "sqlite" if url.startswith("sqlite") else "postgresql"
        with self._translated():
            self._connection = _sqlite(url) if self.dialect == "sqlite" else _postgresql(url)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._translated():
            self._begin("BEGIN")
            try:
                yield PlainTransaction(self._connection, self.dialect)
            finally:
                self._connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._translated():
            self._begin("BEGIN IMMEDIATE")
            try:
                yield PlainTransaction(self._connection, self.dialect)
            except BaseException:
                self._connection.rollback()
                raise
            try:
                self._connection.commit()
            except Exception as exc:
                if outcome_unknown(exc):
                    raise CommitUnknown(str(exc)) from exc
                raise

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _begin(self, sqlite: str) -> None:
        if self.dialect == "sqlite":  # psycopg begins by itself
            self._connection.execute(sqlite)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseUnavailable, SchemaMissing):
            raise
        except Exception as exc:
            if _says_no_table(exc):
                raise SchemaMissing(f"{exc}: run scheduler db upgrade") from exc
            found = named(exc)
            if found is None:
                raise
            raise found from exc


def _sqlite(url: str) -> sqlite3.Connection:
    if not url.startswith(SQLITE):
        raise ValueError(f"database URL {shown_url(url)!r} must begin with {SQLITE} or postgresql://")
    file = Path(unquote(url.removeprefix(SQLITE).partition("?")[0]))
    if not file.is_file():  # sqlite3 would make it
        raise DatabaseUnavailable(f"there is no database file {file}")
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_MS / 1_000, isolation_level=None)
    connection.text_factory = read_text
    try:
        for pragma in PRAGMAS:
            connection.execute(pragma)
    except sqlite3.Error:  # no database, or a locked one: nobody else has it to close
        connection.close()
        raise
    return connection


def _postgresql(url: str) -> Any:
    scheme, _, rest = url.partition("://")
    if scheme.partition("+")[0] != "postgresql":
        raise ValueError(f"database URL {shown_url(url)!r} must begin with {SQLITE} or postgresql://")
    return bounded_connection_class(ANSWER_TIMEOUT_S).connect(f"postgresql://{rest}", **postgres_arguments())


def _says_no_table(error: BaseException) -> bool:
    undefined_table = "42P01"
    if isinstance(error, sqlite3.OperationalError):
        return "no such table" in str(error)
    return getattr(error, "sqlstate", None) == undefined_table
