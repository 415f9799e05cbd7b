"""The one place where a command's errors become a sentence on stderr and an exit code."""

import os
import signal
import sys
from collections.abc import Callable

from jobs.command.endings import CommandFailed, Ending
from jobs.command.table import say
from persistence.errors import DatabaseUnavailable
from strategies.faults import InvalidConfig


def ending_of(program: str, action: Callable[[], int]) -> int:
    """Run `action`; return its exit code, or that of the error it ended with."""
    try:
        code = action()
        sys.stdout.flush()
    except CommandFailed as exc:
        say(f"{program}: {exc}" + (f"\n{exc.advice}" if exc.advice else ""))
        return exc.ending
    except InvalidConfig as exc:
        for fault in exc.faults:
            say(f"{program}: {fault}")
        return Ending.FAILED
    except DatabaseUnavailable as exc:
        say(f"{program}: the database cannot be reached: {exc}\nscheduler doctor says how to mend it")
        return Ending.UNREACHABLE
    except KeyboardInterrupt:
        say(f"{program}: interrupted")
        return Ending.INTERRUPTED
    except BrokenPipeError:
        # `jobs list | head` closes the pipe; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else Ending.FAILED
    return code
