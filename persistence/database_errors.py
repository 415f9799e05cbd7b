"""What can go wrong between a transaction and its commit, named for the reaction. Imports no driver.

`reason_to_wait` is the whole knowledge of which driver errors mean "later, nothing was wrong with
the request": the server is gone, going, full, frozen or busy. Everything else is a fault and propagates.
"""

import sqlite3
from typing import Final


class DatabaseUnavailable(Exception):
    """Lost, locked, full or too slow. Nothing was committed. Retry later, beginning with a read."""


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
WAIT_CLASSES: Final = frozenset({"08", "53", "57"})  # connection, resources, operator intervention
WAIT_STATES: Final = frozenset(
    {
        "25006",  # read-only transaction: the server is a standby now, the primary is elsewhere
        "25P03",  # idle in transaction for too long: we were stopped and woken up
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


def reason_to_wait(error: BaseException | None) -> str | None:
    """Return why it makes sense to try again later, or None if the error is a fault of its own.

    `error` is the driver's (sqlite3 or psycopg), known by its attributes, so that no driver is imported.
    """
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)  # absent where Python's own checks raise
        return str(error) if code is not None and code & 0xFF in WAIT_SQLITE else None
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return str(error) if state in WAIT_STATES or state[:2] in WAIT_CLASSES else None
    # psycopg: no state at all means that the server never answered.
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    return str(error) if kinds & LOST else None


def outcome_unknown(error: BaseException | None) -> bool:
    """Whether an error of COMMIT leaves open if the transaction stands.

    PostgreSQL: any loss of the connection. SQLite: an I/O error; the frames may be in the WAL.
    """
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF == sqlite3.SQLITE_IOERR
    state = getattr(error, "sqlstate", None)
    return reason_to_wait(error) is not None and (state is None or state[:2] in {"08", "57"})
