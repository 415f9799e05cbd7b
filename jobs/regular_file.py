"""Files that somebody named: read if they are files, refused at once if they are not.

A pipe that nobody writes to would hold the reader for ever, a device has no end. What was opened is looked at
and not what stood under the name a moment before, and opening waits for nobody.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

KINDS: Final = (
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Of these Windows has the last one only, and nobody else has that.
AT_ONCE: Final = sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"))


class NotRegular(Exception):
    """Something else than a file stands there: what was found and what is allowed."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises NotRegular, and OSError as `open` does."""
    descriptor = os.open(path, os.O_RDONLY | AT_ONCE)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        found = next((name for is_kind, name in KINDS if is_kind(mode)), "something else")
        raise NotRegular(f"found {found}, allowed: a regular file")
    return os.fdopen(descriptor, "rb")
