"""The file of an SQLite database: who may read it, whether it is the one that was opened and whole.

**Identity.** SQLite goes on writing to a file that was deleted or moved away, and finds its WAL by name:
with a backup put in place under a running service, pages of one database would be replayed into the other. So
a file that was opened is known by device and inode, and whoever writes compares them first (`Identity`): what
stands under the name has to be what is open. Two things pass unseen: the moment between the look and the
commit, and a copy *into* the file (`cp backup onebar.db`), which leaves it the same file.

**Mode.** A file is made before SQLite would make it, readable by its owner only; SQLite gives its WAL and its
shared memory the mode of the database.

**Descriptors.** SQLite's locks are POSIX locks, which a process loses on *all* its descriptors of a file
when it closes *any* of them. So nobody here opens a database file that SQLite may have open and closes it
again: `make_private` closes only what it made a moment before, `scheduler.service.lockfile` never closes.
"""

import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

OWNER_ONLY: Final = 0o600
CHECKED_UP_TO: Final = 256 * 2**20  # bytes; a larger file would take minutes
RESTORE: Final = (
    "stop the service, keep a copy of the file with its -wal, and put a backup in its place;"
    " without one: sqlite3 FILE .recover | sqlite3 NEW"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A file as the system knows it, under whatever name."""

    path: Path
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self:
        found = path.stat()
        return cls(path, found.st_dev, found.st_ino)

    def lost(self) -> str | None:
        """Say what has become of the file, if it is not there any more; a look of 2 us."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - half the time of Path.stat, before every transaction
        except FileNotFoundError:
            return f"{self.path} was deleted or moved away while it was open"
        except OSError:
            return None  # a disk that does not answer says nothing of the file; SQLite will say what it is
        if (found.st_dev, found.st_ino) == (self.device, self.inode):
            return None
        return f"{self.path} was replaced by another file while it was open"


def make_private(path: Path) -> None:
    """Make an empty database, which is an empty file, for its owner only; leave one that is there."""
    if sys.platform == "win32" or not path.resolve().parent.is_dir():
        return  # there rights are inherited from the folder; here SQLite will say it
    try:
        made = os.open(path.resolve(), os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
    except OSError:
        return  # it is there, or cannot be made: SQLite will say it
    os.close(made)


def private(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=private)`, so that one that is made is its owner's only."""
    return os.open(path, flags, OWNER_ONLY)


def damage(path: Path) -> str | None:
    """Return what SQLite finds wrong with a file of moderate size, None for nothing. Raises sqlite3.Error."""
    # mode=ro: looking must not make a file, nor a WAL beside it.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        if path.stat().st_size > CHECKED_UP_TO:
            connection.execute("PRAGMA schema_version").fetchone()
            return None
        (first,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    return None if first == "ok" else str(first)


def is_damage(error: BaseException | None) -> bool:
    """Whether an error of sqlite3 says that the file is damaged, or no database."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
