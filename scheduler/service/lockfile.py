"""One service per SQLite file: a lock beside it that the system lets go of when its holder dies.

The file says who runs; only the lock says whether. It stays behind after a kill -9, without a lock.
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


class AlreadyRunning(Exception):
    """Another service has this database file."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(f"another service runs on this database: {holder or 'it does not say who it is'}")
        self.holder = holder


def lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


@contextmanager
def only_service(database: Path) -> Iterator[None]:
    """Hold the lock of an SQLite file. Raises AlreadyRunning."""
    path = lock_path(database)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _lock(file):
            raise AlreadyRunning(read_holder(path))
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # the file stays: unlinked, two services could lock two files of one name


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
