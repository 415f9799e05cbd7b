"""What can go wrong between a transaction and its commit, named for the reaction. Imports no driver.

A driver's error is one of three things, and the tables below are the whole knowledge of which:

- what was written has no place in the database (`ROW_CLASSES`, `ROW_SQLITE`): a value out of range, a key
  that is there already. That is the row's own fault, so its bot's; the driver's error propagates as it is;
- the server is gone, going, full, frozen or busy: `DatabaseUnavailable`. It passes by itself;
- everything else is the database's as well, and somebody has to mend it (`DatabaseFault`): a right, a table
  or a column that is missing, a damaged page, a statement that it does not know. Nobody's row has done that.

The row's faults are the list, and not the database's: an error that nobody thought of stops the work until
somebody looks, instead of stopping one bot after the other for what they have not done.
"""

import sqlite3
from typing import Final

from persistence.sqlite_file import RESTORE


class DatabaseUnavailable(Exception):
    """Lost, locked, full or too slow. Nothing was committed. Retry later, beginning with a read."""


class DatabaseFault(DatabaseUnavailable):
    """It answers, and cannot be used as it is: a right, a table, a page is missing. Says what mends it.

    A subclass, because for who waits it is the same: nothing was committed, nobody's row is to blame, and the
    work begins anew with a read once the fault is mended.
    """


class DatabaseMoved(DatabaseUnavailable):
    """The SQLite file that is open was deleted or replaced: nothing may be written to it, by nobody, ever."""


class CommitUnknown(DatabaseUnavailable):
    """COMMIT was sent and its answer lost: look the outcome up by key, such as (bot, version).

    A subclass, because work that begins by reading the version again is right in both cases.
    """


class LeaseLost(Exception):
    """Another holder has a later epoch: stop acting at once, nothing of this transaction may stay."""


class UnsavableStep(ValueError):
    """A step that says something the ledger cannot hold: a fault of this bot, found before any SQL ran."""

    def __init__(self, bot_id: int, reason: str) -> None:
        super().__init__(f"a step of bot {bot_id} cannot be saved: {reason}")
        self.bot_id = bot_id


class NoSuchBot(LookupError):
    def __init__(self, *bot_ids: int) -> None:
        super().__init__(f"there is no bot {', '.join(map(str, bot_ids))}")
        self.bot_ids = bot_ids


class IllegalMove(ValueError):
    """A status that may not follow the present one (`persistence.rows.MOVES`)."""


class PositionOpen(Exception):
    """A bot with an open position is removed only on purpose: nobody would watch the position."""


# https://www.postgresql.org/docs/current/errcodes-appendix.html
ROW_CLASSES: Final = frozenset({"22", "23"})  # data exception, integrity constraint
ROW_STATES: Final = frozenset(
    {
        "54000",  # a value that is longer than an index takes
        "P0001",  # raised by a trigger of ours
    }
)
ROW_SQLITE: Final = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})
# SQLITE_ERROR says these of a value, and everything else of the schema or the statement.
ROW_WORDS: Final = ("malformed JSON", "integer overflow", "JSON path error", "JSON cannot hold BLOB")

WAIT_CLASSES: Final = frozenset({"08", "53", "57"})  # connection, resources, operator intervention
WAIT_STATES: Final = frozenset(
    {
        "25006",  # read-only transaction: the server is a standby now, the primary is elsewhere
        "25P03",  # idle in transaction for too long: we were stopped and woken up
        "25P04",  # in one transaction for too long: the same
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock not available in time
        "58030",  # I/O error
    }
)
LOST: Final = frozenset({"psycopg.OperationalError", "psycopg.errors.OperationalError"})
WAIT_SQLITE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
    }
)

# What mends a fault, by state or class, and by code. Said after the database's own words.
LOOK: Final = "scheduler doctor looks for what is wrong"
RIGHTS: Final = "give the service's role its rights back (GRANT ... ON ALL TABLES IN SCHEMA ...)"
SCHEMA: Final = "the schema is not whole: undo the change, restore a backup, or run scheduler db upgrade"
DAMAGE: Final = "it is damaged: stop the service, restore a backup, and look at the disk"
REMEDIES: Final = {
    "42501": RIGHTS,
    "42P01": SCHEMA,
    "42703": SCHEMA,
    "3F000": SCHEMA,
    "XX001": DAMAGE,
    "XX002": "an index is damaged: REINDEX it, and look at the disk",
}
REMEDIES_SQLITE: Final = {
    sqlite3.SQLITE_ERROR: SCHEMA,
    sqlite3.SQLITE_CORRUPT: RESTORE,
    sqlite3.SQLITE_NOTADB: RESTORE,
    sqlite3.SQLITE_PERM: "the service's user must be allowed to read and write the file and its folder",
    sqlite3.SQLITE_AUTH: "the service's user must be allowed to read and write the file and its folder",
}


def named(error: BaseException | None) -> DatabaseUnavailable | None:
    """Return a driver's error as what it means for who waits, or None if it is a row's own or no driver's.

    `error` is the driver's (sqlite3 or psycopg), known by its attributes, so that no driver is imported.
    """
    if isinstance(error, MemoryError):  # what sqlite3 makes of SQLITE_NOMEM
        return DatabaseUnavailable("out of memory")
    if isinstance(error, sqlite3.Error):
        return _named_sqlite(error)
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    state = getattr(error, "sqlstate", None)
    if state is None:
        # psycopg: an operational error without a state means that the server never answered.
        return DatabaseUnavailable(str(error)) if kinds & LOST else None
    if state[:2] in ROW_CLASSES or state in ROW_STATES:
        return None
    if state in WAIT_STATES or state[:2] in WAIT_CLASSES:
        return DatabaseUnavailable(str(error))
    return DatabaseFault(f"{_first_line(error)}; {REMEDIES.get(state, LOOK)}")


def _named_sqlite(error: sqlite3.Error) -> DatabaseUnavailable | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own checks of what it is given raise without one
        return None
    kind = code & 0xFF
    if kind in ROW_SQLITE or (kind == sqlite3.SQLITE_ERROR and str(error).startswith(ROW_WORDS)):
        return None
    if kind in WAIT_SQLITE:
        return DatabaseUnavailable(str(error))
    return DatabaseFault(f"{error}; {REMEDIES_SQLITE.get(kind, LOOK)}")


def _first_line(error: BaseException | None) -> str:
    return next(iter(str(error).splitlines()), "")


def outcome_unknown(error: BaseException | None) -> bool:
    """Whether an error of COMMIT leaves open if the transaction stands.

    PostgreSQL: any loss of the connection. SQLite: an I/O error; the frames may be in the WAL.
    """
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT}
    state = getattr(error, "sqlstate", None)
    return named(error) is not None and (state is None or state[:2] in {"08", "57", "58", "XX"})
