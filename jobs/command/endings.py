"""How a command ends: the exit codes that scripts and service managers read."""

from enum import IntEnum


class Ending(IntEnum):
    """systemctl's and sysexits' numbers where they have one."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3  # paused, or no service
    NO_SUCH_BOT = 4
    UNREACHABLE = 5  # service or database
    REFUSED = 6  # for safety
    TRY_AGAIN = 75  # locked, or another leads
    INTERRUPTED = 130


class CommandFailed(Exception):
    """Ends a command with a sentence for stderr and an exit code. `advice` says what to do next."""

    def __init__(self, ending: Ending, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.ending = ending
        self.advice = advice
