"""What the doctor finds out about the database: there, current, safe to commit to, with room left."""

import os
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ops.doctor.check import Check, fail, ok, warn
from persistence.database import Database, open_database
from persistence.database_errors import DatabaseUnavailable
from persistence.schema.versions import HEAD, check
from persistence.sqlite_file import RESTORE, damage
from strategies.secrecy import shown_url

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs"}
)
MOUNTS: Final = Path("/proc/mounts")
ROOM_TO_WORK: Final = 100 * 2**20  # bytes; below it the next checkpoint of the WAL may fail
ROOM_TO_REST: Final = 2**30
CLOCK_SLACK_S: Final = 2.0
UPGRADE: Final = "run: scheduler db upgrade"


def database(url: str) -> Iterator[Check]:
    """Yield the checks of one database, ending with the first that makes the others pointless."""
    try:
        opened = open_database(url)
    except ValueError as exc:
        yield fail("database", str(exc), "mend [database] url in scheduler.toml or ONEBAR_DATABASE_URL")
        return
    try:
        yield from _sqlite(url, opened) if opened.dialect == "sqlite" else _postgresql(url, opened)
    finally:
        opened.close()


def _sqlite(url: str, opened: Database) -> Iterator[Check]:
    path = Path(str(opened.engine.url.database)).absolute()
    yield from _folder(path)
    if not path.is_file():
        yield warn("database", f"{path} is not there yet", UPGRADE)
        return
    yield _permissions(path)
    try:
        found = damage(path)
    except sqlite3.Error as exc:
        yield fail("database", f"{path}: {exc}", f"is it an SQLite file? {RESTORE}")
        return
    if found:
        yield fail("database", f"{path} is damaged: {found}", RESTORE)
        return
    yield ok("database", str(path))
    yield from _tables(url)
    yield from _durability(opened)


def _folder(path: Path) -> Iterator[Check]:
    folder = path.parent
    if not folder.is_dir():
        yield fail("folder", f"{folder} is not there", f"make it: mkdir -p {folder}")
        return
    if not os.access(folder, os.W_OK):
        yield fail("folder", f"{folder} cannot be written", "SQLite keeps two files beside its own: allow it")
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        mend = "use a local disk, or PostgreSQL: locks of SQLite do not hold on a network share"
        yield fail("file system", f"{folder} is on {kind}", mend)
    elif kind:
        yield ok("file system", f"{kind}, local")
    yield _room(folder)


def _room(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    finding = f"{free // 2**20} MB free in {folder}"
    if free < ROOM_TO_WORK:
        return fail("disk", finding, "free some: without it nothing can be committed")
    if free < ROOM_TO_REST:
        return warn("disk", finding, "free some: less than 1 GB is soon used up")
    return ok("disk", finding)


def file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return the type of the file system of a folder, "" where the system does not say."""
    if not mounts.is_file():
        return ""
    best, found = Path("/"), ""
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split(" ")
        point = Path(place.replace("\\040", " "))
        if folder.resolve().is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, found = point, kind
    return found


def _permissions(path: Path) -> Check:
    if sys.platform == "win32":
        return ok("permissions", "not looked at on Windows")
    mode = stat.S_IMODE(path.stat().st_mode)
    finding = f"{path.name} has mode {mode:o}"
    if not os.access(path, os.W_OK):
        return fail(
            "permissions", f"{finding} and cannot be written", f"run: chmod u+w {path}, or change its owner"
        )
    if mode & stat.S_IWOTH:
        return fail("permissions", f"{finding}: everybody may change it", f"run: chmod o-w {path}")
    if mode & stat.S_IROTH:
        return warn(
            "permissions", f"{finding}: every user of this machine may read it", f"run: chmod o-r {path}"
        )
    return ok("permissions", finding)


def _tables(url: str) -> Iterator[Check]:
    findings = check(url)
    for finding in findings:
        yield fail("tables", finding, UPGRADE)
    if not findings:
        yield ok("tables", f"those of this version ({HEAD})")


def _durability(opened: Database) -> Iterator[Check]:
    with opened.read() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    finding = f"journal_mode {mode}, synchronous {synchronous}"
    if mode != "wal" or int(synchronous) < 2:  # noqa: PLR2004 - FULL, by SQLite's own number
        yield fail(
            "durability", finding, "is the file on a file system without shared memory? use a local disk"
        )
    else:
        yield ok("durability", f"{finding}: a commit survives power loss")
    try:
        with opened.write():
            pass
    except DatabaseUnavailable as exc:
        yield fail("writing", str(exc), "another program holds the file: close it (an SQLite browser?)")
    else:
        yield ok("writing", "a write lock was had at once")


def _postgresql(url: str, opened: Database) -> Iterator[Check]:
    try:
        with opened.read() as connection:
            found = connection.exec_driver_sql(
                "SELECT current_setting('server_version'), current_setting('fsync'),"
                " current_setting('synchronous_commit'), pg_is_in_recovery(),"
                " current_setting('server_encoding'), extract(epoch FROM clock_timestamp())"
            ).one()
    except DatabaseUnavailable as exc:
        mend = "does the server run, and does the URL name it? (psql with the same URL must work)"
        yield fail("database", f"{shown_url(url)}: {exc}", mend)
        return
    version, fsync, synchronous, standby, encoding, moment = found
    yield ok("database", f"{shown_url(url)}: PostgreSQL {version}")
    if standby:
        yield fail("database", "the server is a read-only standby", "name the primary in the URL")
    if fsync != "on" or synchronous == "off":
        finding = f"fsync {fsync}, synchronous_commit {synchronous}"
        yield fail("durability", finding, "turn both on: a committed order must survive power loss")
    else:
        yield ok("durability", f"fsync {fsync}, synchronous_commit {synchronous}")
    if encoding != "UTF8":
        yield warn("encoding", f"the database is in {encoding}", "make it with ENCODING 'UTF8'")
    yield _skew(float(moment) - time.time())
    yield from _tables(url)


def _skew(seconds: float) -> Check:
    finding = f"the server's clock is {seconds:+.1f} s from this machine's"
    if abs(seconds) > CLOCK_SLACK_S:
        return warn("clocks", finding, "turn on NTP on both")
    return ok("clocks", finding)
