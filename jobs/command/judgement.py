"""The one place where a command's errors become a sentence on stderr and an exit code."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Final

from jobs.command.endings import CommandFailed, Ending
from jobs.command.table import say
from persistence.console import SchemaMissing
from persistence.database_errors import DatabaseFault, DatabaseUnavailable, NoSuchBot
from persistence.sqlite_file import RESTORE, is_damage
from strategies.faults import InvalidConfig
from strategies.secrecy import without_secrets

ADVICE: Final = "scheduler doctor says how to mend it"
WHICH: Final = "name it by --db, ONEBAR_DATABASE_URL or --config; jobs add and scheduler run make one"
REPORT: Final = "this is a fault of the program itself, not of yours; please report the lines above"
CANNOT_USE: Final = frozenset({"DatabaseError", "OperationalError", "ProgrammingError"})
DATABASE_LIBRARIES: Final = frozenset({"sqlite3", "psycopg", "sqlalchemy"})


def ending_of(program: str, action: Callable[[], int]) -> int:
    """Run `action`; return its exit code, or that of the error it ended with."""
    try:
        code = action()
        sys.stdout.flush()
    except BrokenPipeError:
        # `jobs list | head` closes the pipe; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else Ending.FAILED
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 -- Python would print it with what is secret in it
        ending, lines = judged(exc) or (Ending.FAILED, _fault_of_ours(exc))
        for line in lines:
            say(f"{program}: {without_secrets(line)}")
        return ending
    return code


def judged(error: BaseException) -> tuple[Ending, tuple[str, ...]] | None:
    """Return the exit code of an error and what to say of it, line by line; None for a fault of ours."""
    ending = Ending.FAILED
    lines: tuple[str, ...] = (str(error),)
    match error:
        case CommandFailed():
            ending, lines = error.ending, tuple(filter(None, (str(error), error.advice)))
        case InvalidConfig():
            lines = tuple(map(str, error.faults))
        case DatabaseUnavailable():
            ending, lines = _unavailable(error)
        case NoSuchBot():
            ending, lines = Ending.NO_SUCH_BOT, (str(error), "jobs list shows those that there are")
        case KeyboardInterrupt():
            ending, lines = Ending.INTERRUPTED, ("interrupted",)
        case SchemaMissing():
            pass
        case _ if _unusable(error):
            # Such as a file of another kind, or an option that no server knows: the library says it best.
            reason = str(error).splitlines()[0]
            advice = RESTORE if is_damage(getattr(error, "orig", None) or error) else ADVICE
            ending, lines = Ending.UNREACHABLE, (f"the database cannot be used: {reason}", advice)
        case _:
            return None
    return ending, lines


def _fault_of_ours(error: BaseException) -> tuple[str, ...]:
    """Return the traceback for a report, through the sieve of every message: values may be secret."""
    return (*"".join(traceback.format_exception(error)).splitlines(), REPORT)


def _unavailable(error: DatabaseUnavailable) -> tuple[Ending, tuple[str, ...]]:
    reason = str(error)
    if isinstance(error, DatabaseFault):
        return Ending.UNREACHABLE, (f"the database cannot be used: {reason}", ADVICE)
    if "locked" in reason:
        return Ending.TRY_AGAIN, (f"another program is writing: {reason}; try again",)
    if "there is no database file" in reason:
        return Ending.UNREACHABLE, (reason, WHICH)
    return Ending.UNREACHABLE, (f"the database cannot be reached: {reason}", ADVICE)


def _unusable(error: BaseException) -> bool:
    kind = type(error)
    return kind.__module__.partition(".")[0] in DATABASE_LIBRARIES and kind.__name__ in CANNOT_USE
