"""What a bot's bars leave behind in the process that they share with other bots' bars.

A strategy may do to its process whatever Python can: fork, start threads, lower a limit, change the folder,
the time zone, a signal's handler. Its own bars end well, and those of its neighbours fail later for a reason
that nobody sees. So the worker looks before a bot's bars and after them, and says what has changed under that
bot's name; the parent replaces the worker and charges the bot. The look costs some microseconds.

Not everything that changes is a fault: libraries start a few threads when they are first needed, and add
variables of their own. Counted are threads by the dozen, and variables that were there before.

A write lock on the SQLite file that a strategy keeps in a transaction of its own cannot be asked for without
waiting for it. It is looked for when a batch has failed for the database: `holds_write_lock`.
"""

import locale
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

MANY_THREADS: Final = 64 + 2 * (os.cpu_count() or 1)  # more than a worker that is ready had
SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGCHLD", "SIGPIPE")
    if hasattr(signal, name)
)
TASKS: Final = Path("/proc/self/task")
LOCKS: Final = Path("/proc/locks")
WRITE_LOCK: Final = 120  # byte of the shared memory that SQLite's writer locks (WAL_WRITE_LOCK)


class Traces:
    """Looks at this process at every change of hands, and collects what was left behind."""

    def __init__(self) -> None:
        self._bot_id = 0
        self._most_threads = _threads() + MANY_THREADS
        self._before = self._look()
        self._found: dict[int, str] = {}

    def hand_over(self, bot_id: int) -> None:
        """Charge what has changed to who was at work; `bot_id` is next (0 is nobody)."""
        now = self._look()
        if self._bot_id and now != self._before:
            left = [f"{what} ({_pair(old, new)})" for what, old, new in _differences(self._before, now)]
            if left:
                self._found.setdefault(self._bot_id, "; ".join(left))
        self._before = now
        self._bot_id = bot_id

    def taken(self) -> list[tuple[int, str]]:
        found, self._found = self._found, {}
        return list(found.items())

    def _look(self) -> dict[str, Any]:
        return {
            "many threads": _threads() > self._most_threads,
            "child processes": _has_children(),
            "resource limits": _limits(),
            "working folder": _folder(),
            "signal handlers": tuple(map(signal.getsignal, SIGNALS)),
            "timers": signal.getitimer(signal.ITIMER_REAL)[0] > 0 if hasattr(signal, "getitimer") else False,
            "file mode mask": _mask(),
            "locale": locale.setlocale(locale.LC_ALL),
            "environment": _environment(),
        }


def holds_write_lock(path: Path) -> bool:
    """Whether this process holds SQLite's write lock on `path`, while none of our transactions is open."""
    try:
        inode = path.with_name(f"{path.name}-shm").stat().st_ino
        locks = LOCKS.read_text().splitlines()
    except OSError:  # no /proc, or no such file: then nothing is known
        return False
    for lock in locks:  # 1: POSIX  ADVISORY  WRITE 4711 fe:01:393228 120 120
        words = lock.split()
        if "WRITE" not in words or "->" in words:
            continue
        pid, where, first, last = words[-4:]
        covers = first.isdigit() and int(first) <= WRITE_LOCK and (last == "EOF" or int(last) >= WRITE_LOCK)
        if pid == str(os.getpid()) and where.rsplit(":", 1)[-1] == str(inode) and covers:
            return True
    return False


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found = []
    for what, old in before.items():
        new = now[what]
        if what == "environment":
            # A variable that is added is a library's own business, except for those that all of us read.
            names = {*old, *map(os.environ.encodekey, ("TZ", "LC_ALL"))}
            changed = sorted(os.fsdecode(name) for name in names if old.get(name) != new.get(name))
            if changed:  # only the names are told: a value may be a secret
                found.append((what, None, ", ".join(changed)))
        elif new != old and new is not False:  # threads and children that have ended are no trace
            found.append((what, old, new))
    return found


def _pair(old: Any, new: Any) -> str:
    if new is True:
        return "left running"
    return str(new)[:200] if old is None else f"{str(old)[:100]} before, {str(new)[:100]} after"


def _threads() -> int:
    try:
        return len(os.listdir(TASKS))  # noqa: PTH208 -- asked for every bot; a list of names is cheaper
    except OSError:
        return threading.active_count()


def _has_children() -> bool:
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


if sys.platform == "win32":

    def _limits() -> tuple[Any, ...]:
        return ()
else:
    import resource

    _LIMITS: Final = tuple(
        getattr(resource, f"RLIMIT_{name}")
        for name in ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
        if hasattr(resource, f"RLIMIT_{name}")
    )

    def _limits() -> tuple[Any, ...]:
        return tuple(map(resource.getrlimit, _LIMITS))


def _environment() -> dict[Any, Any]:
    # A copy of the mapping itself would decode every variable, for every bot.
    return dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001 -- see above


def _folder() -> str | None:
    with suppress(OSError):  # a folder that is gone
        return os.getcwd()  # noqa: PTH109 -- asked for every bot
    return None


def _mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
