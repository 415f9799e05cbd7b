"""The one place where a command's errors become a sentence on stderr and an exit code."""

import os
import signal
import sys
from collections.abc import Callable

from jobs.command.endings import CommandFailed, Ending
from jobs.command.table import say
from persistence.console import SchemaMissing
from persistence.errors import DatabaseUnavailable
from strategies.faults import InvalidConfig

EXPECTED = (CommandFailed, InvalidConfig, DatabaseUnavailable, SchemaMissing, KeyboardInterrupt)


def ending_of(program: str, action: Callable[[], int]) -> int:
    """Run `action`; return its exit code, or that of the error it ended with."""
    try:
        code = action()
        sys.stdout.flush()
    except EXPECTED as exc:
        ending, lines = judged(exc)
        for line in lines:
            say(f"{program}: {line}")
        return ending
    except BrokenPipeError:
        # `jobs list | head` closes the pipe; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else Ending.FAILED
    return code


def judged(error: BaseException) -> tuple[Ending, tuple[str, ...]]:
    """Return the exit code of an error and what to say of it, line by line."""
    match error:
        case CommandFailed():
            return error.ending, tuple(filter(None, (str(error), error.advice)))
        case InvalidConfig():
            return Ending.FAILED, tuple(map(str, error.faults))
        case DatabaseUnavailable() if "locked" in str(error):
            return Ending.TRY_AGAIN, (f"another program is writing: {error}; try again",)
        case DatabaseUnavailable():
            reason = f"the database cannot be reached: {error}"
            return Ending.UNREACHABLE, (reason, "scheduler doctor says how to mend it")
        case KeyboardInterrupt():
            return Ending.INTERRUPTED, ("interrupted",)
    return Ending.FAILED, (str(error),)
