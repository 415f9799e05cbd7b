"""One service per SQLite database: a lock on the file itself, which the system frees when its holder dies.

The lock belongs to the file and not to a name, so no symlink, hard link or second mount leads round it, and
there is nothing beside the database that could be deleted to get it twice. It is a `flock`, which on Linux
knows nothing of the POSIX locks of SQLite and disturbs none (measured: `tests/scheduler/test_one_file.py`).
But to close a descriptor drops this process's POSIX locks on the file, SQLite's among them; so the one that
holds the lock is never closed, only unlocked, and ends with the process.

Elsewhere `flock` and POSIX locks are one thing, so a lock on the database would lock SQLite out. There the
lock is on FILE.lock beside the real file: a symlink does not lead round it, a hard link does.

FILE.lock says who runs; whether somebody runs, only the lock says. Earlier versions locked it, so it is
locked as well. It stays behind after a kill -9, without a lock.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from persistence.sqlite_file import make_private, private

LOCKED_BYTE: Final = 1 << 30  # on Windows a locked byte cannot be read, so it is one that holds nothing


@dataclass(frozen=True, slots=True)
class Holder:
    """Who runs: process id, machine, start in s since the epoch."""

    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return f"process {self.pid} on {self.host}, running since {at}"


class NoLock(Exception):
    """The database file cannot be locked: not ours to read, or another service's."""


class AlreadyRunning(NoLock):
    """Another service has this database file."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(f"another service runs on this database: {holder or 'it does not say who it is'}")
        self.holder = holder


def lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


@contextmanager
def only_service(database: Path) -> Iterator[None]:
    """Hold the lock of an SQLite file. Raises AlreadyRunning."""
    real = database.resolve()
    path = lock_path(real)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _file_locked(real), open(path, "a+", encoding="utf-8", opener=private) as file:
        if not _lock(file):
            raise AlreadyRunning(read_holder(path))
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # the file stays: unlinked, two services could lock two files of one name


@contextmanager
def _file_locked(database: Path) -> Iterator[None]:
    """Hold the lock on the database file, which is made if it is not there."""
    if sys.platform != "linux":
        yield
        return
    import fcntl

    make_private(database)
    try:
        descriptor = os.open(database, os.O_RDONLY)  # never closed, see above
    except OSError as exc:
        raise NoLock(f"{database}: {exc.strerror}; scheduler doctor says how to mend it") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise AlreadyRunning(read_holder(lock_path(database))) from None
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def read_holder(path: Path) -> Holder | None:
    """Return who wrote the lock file last, whether or not it still runs."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Holder(int(found["pid"]), str(found["host"]), float(found["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lock(file: IO[str]) -> bool:
    if sys.platform == "win32":
        import msvcrt

        file.seek(LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        file.seek(0)
        return True
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
