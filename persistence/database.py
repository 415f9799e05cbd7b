"""The one door to the database: two kinds of transaction, and errors named for the reaction.

What is true between any two calls: no transaction is open, and no connection in the pool holds a lock or
a half-done write. All that is ever visible was committed by the end of a `write()`; `read()` is rolled
back at its end whatever was done in it.

SQLite: WAL, synchronous FULL (a commit survives power loss), foreign keys. What will write begins with
BEGIN IMMEDIATE: a transaction that reads first and writes later fails at once, without waiting, when
another has written in between, and cannot be repeated from the middle. The threads of a process take
turns before they ask SQLite, whose own waiting is a sleep that the unlucky lose for ever.

PostgreSQL: psycopg 3, read committed, every wait bounded on both sides: statement, lock and idle timeouts
in the server, and `ANSWER_TIMEOUT_S` here for a server that is frozen, whose kernel still acknowledges
and whose own timeouts do not run. Ours is the longer one, so that a server that can speak says why.

Errors of a driver that are no row's own become `DatabaseUnavailable` (`database_errors.py` has the table):
nothing was committed, come again later. Two of them say more. `DatabaseFault`: it answers and cannot be
used, and somebody has to mend it; all connections are let go, because what a session remembers (a plan,
pages of the file) may be what is wrong. `CommitUnknown`: COMMIT was sent and its answer lost. Between this
one and the others stands one statement, so `_commit` alone may raise it, and a connection that failed there
is thrown away: what it would say next belongs to a transaction that nobody can name.

| the process dies, or the line is cut ... | what the next run sees |
|---|---|
| before COMMIT is sent | nothing of the transaction; the server or the WAL drops it |
| after COMMIT was sent | all of it, as soon as the database has it; nothing if it never arrived |
| while it waits for a turn or a lock | nothing: it had not begun to write |
| lives on, its file deleted or replaced | nothing of it; it is told DatabaseMoved (`sqlite_file`) |
| frozen in mid transaction | nothing: the server ends the session; on SQLite the others wait for its end |
"""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from persistence.connect import (
    ANSWER_TIMEOUT_S,
    BUSY_TIMEOUT_MS,
    NAME,
    PRAGMAS,
    bound_transactions,
    bounded_connection_class,
    postgres_arguments,
)
from persistence.database_errors import (
    CommitUnknown,
    DatabaseFault,
    DatabaseMoved,
    DatabaseUnavailable,
    named,
    outcome_unknown,
)
from persistence.leases import Fence, assert_held
from persistence.sqlite_file import Identity, make_private
from persistence.text import read_text
from persistence.transaction import Dialect
from strategies.secrecy import shown_url

POOL_SIZE: Final = 5
WRITES: Final = "onebar_writes"  # execution option of a connection: its transaction will write


class Database:
    """A database that is open. Threads may share it; processes may not (open one in each)."""

    def __init__(
        self, url: str, engine: sa.Engine, dialect: Dialect, turn_timeout_ms: int = BUSY_TIMEOUT_MS
    ) -> None:
        self.url = url  # what other processes open the same database by
        self.engine = engine
        self.dialect = dialect
        # Whose turn it is to write in this process; PostgreSQL has writers side by side.
        self._writer = threading.Lock() if dialect == "sqlite" else None
        self._turn_timeout_s = turn_timeout_ms / 1_000
        self._file: Identity | None = None  # since the first transaction, on SQLite

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection in one transaction that is rolled back at the end.

        On SQLite all of it sees one moment of the database, on PostgreSQL each statement does.

        Raises DatabaseUnavailable.
        """
        with self._translated(), self.engine.connect() as connection:
            if self._file is None:
                self._expect_file()
            yield connection

    @contextmanager
    def write(self, fence: Fence | None = None) -> Iterator[sa.Connection]:
        """Yield a connection in one transaction that commits at the end, or rolls back on any exception.

        With a `fence` it begins by holding the lease under that epoch.

        Raises DatabaseUnavailable (nothing was committed), CommitUnknown or LeaseLost.
        """
        with self._turn(), self._translated(), self.engine.connect() as plain:
            self._expect_file()
            connection = plain.execution_options(**{WRITES: True})
            transaction = connection.begin()
            try:
                if fence is not None:
                    assert_held(connection, fence)
                yield connection
            except BaseException:
                _roll_back(transaction)
                raise
            try:
                self._expect_file()
            except DatabaseMoved:
                _roll_back(transaction)
                raise
            _commit(transaction)

    def close(self) -> None:
        self.engine.dispose()

    def moved(self) -> str | None:
        """Say what has become of an SQLite file that was opened and is not there any more."""
        return self._file.lost() if self._file else None

    def _expect_file(self) -> None:
        """Raise DatabaseMoved if this would be written to a file that nobody finds."""
        if self.dialect == "sqlite" and self._file is None:
            try:
                self._file = Identity.of(Path(str(self.engine.url.database)))  # it is open by now
            except OSError as exc:
                raise DatabaseUnavailable(f"{exc.filename}: {exc.strerror}") from exc
        if lost := self.moved():
            raise DatabaseMoved(f"{lost}: nothing is written any more")

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout, DisconnectionError, MemoryError) as exc:
            try:
                raise_if_waiting_helps(exc)
            except DatabaseFault:
                self.engine.dispose()
                raise
            raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the other threads of this process here: SQLite's own waiting is not fair."""
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=self._turn_timeout_s):
            raise DatabaseUnavailable("another thread of this process keeps writing")
        try:
            yield
        finally:
            self._writer.release()


def open_database(
    url: str, *, answer_timeout_s: float = ANSWER_TIMEOUT_S, busy_timeout_ms: int = BUSY_TIMEOUT_MS
) -> Database:
    """Open `sqlite:///FILE` or `postgresql://...`. Connects to nothing yet.

    `answer_timeout_s` bounds the wait for a PostgreSQL server's answer, `busy_timeout_ms` that for
    the lock of an SQLite file.

    Raises ValueError for another kind of URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        # Such as a port that is none: quoted, it may be half a password.
        raise ValueError(f"database URL {shown_url(url)!r} cannot be read") from exc
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return Database(url, _sqlite_engine(parsed, busy_timeout_ms), "sqlite", busy_timeout_ms)
    if backend == "postgresql":
        return Database(url, _postgres_engine(parsed, answer_timeout_s), "postgresql")
    raise ValueError(f"database URL {shown_url(url)!r} must begin with sqlite:/// or postgresql://")


def _sqlite_engine(url: URL, busy_timeout_ms: int) -> sa.Engine:
    if url.database in {None, "", ":memory:"}:
        raise ValueError("a database in memory would not outlive the process: name a file, sqlite:///FILE")
    if str(url.database).startswith("file:"):
        raise ValueError("found a file: URI, allowed: the path of a file, sqlite:///FILE")
    engine = sa.create_engine(
        url.set(drivername="sqlite+pysqlite"),
        poolclass=sa.QueuePool,
        pool_size=POOL_SIZE,
        max_overflow=-1,
        hide_parameters=True,  # an error would quote a configuration with its secrets
        connect_args={"timeout": busy_timeout_ms / 1_000, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def _private(dialect: object, record: object, args: object, arguments: object) -> None:
        del dialect, record, args, arguments
        make_private(Path(str(url.database)))

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: object) -> None:
        del record
        connection.text_factory = read_text
        connection.isolation_level = None  # no BEGIN by the driver: it would be a deferred one
        for pragma in PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A deferred transaction that reads and then writes fails at once when another has written.
        kind = "BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN"
        connection.exec_driver_sql(kind)

    return engine


def _postgres_engine(url: URL, answer_timeout_s: float) -> sa.Engine:
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=BUSY_TIMEOUT_MS / 1_000,
        pool_pre_ping=True,
        connect_args=postgres_arguments(
            str(url.query.get("options", "")), str(url.query.get("application_name", NAME))
        ),
        hide_parameters=True,
    )
    bounded = bounded_connection_class(answer_timeout_s)

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: object, record: object, args: Any, arguments: Any) -> Any:
        del dialect, record
        connection: Any = bounded.connect(*args, **arguments)
        bound_transactions(connection)
        return connection

    return engine


def raise_if_waiting_helps(error: Exception) -> None:
    """Raise DatabaseUnavailable in place of `error` where that is what it means."""
    driver = error if isinstance(error, MemoryError) else getattr(error, "orig", None)
    found = named(driver)
    if found is None and (getattr(error, "connection_invalidated", False) or driver is None):
        found = DatabaseUnavailable(str(error))
    if found is not None:
        raise found from error


def _roll_back(transaction: sa.RootTransaction) -> None:
    """Roll back, or leave it to the loss of the connection, which comes to the same."""
    try:
        transaction.rollback()
    except DBAPIError as exc:
        transaction.connection.invalidate(exc)


def _commit(transaction: sa.RootTransaction) -> None:
    try:
        transaction.commit()
    except DBAPIError as exc:
        transaction.connection.invalidate(exc)
        if outcome_unknown(exc.orig) or exc.connection_invalidated:
            raise CommitUnknown(str(exc.orig)) from exc
        raise
