"""An SQLite database is one file, served by one service, read by one user, and whole (R6.2)."""

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from jobs.command import main as jobs
from persistence import schema
from persistence.database import open_database
from persistence.database_errors import DatabaseMoved
from scheduler.command import main as scheduler
from scheduler.service.daemon import REFUSED
from scheduler.service.lockfile import AlreadyRunning, lock_path, only_service
from tests.strategies.broken_configs import REFERENCE

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the lock is beside the file")


def _hold(path, ready, go):
    with only_service(Path(path)):
        ready.set()
        go.wait(30)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A database that another process serves."""
    file = tmp_path_factory.mktemp("held") / "onebar.db"
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(file), ready, go))
    other.start()
    assert ready.wait(20)
    yield file
    go.set()
    other.join()


@linux
@pytest.mark.parametrize("way", ["its name", "symlink", "hard link", "no lock file", "moved away"])
def test_no_way_leads_a_second_service_to_the_file(held, tmp_path, way):
    path = held
    if way == "symlink":
        path = tmp_path / "link.db"
        path.symlink_to(held)
    elif way == "hard link":
        path = held.with_name("hard.db")
        path.hardlink_to(held)
    elif way == "no lock file":
        lock_path(held).unlink(missing_ok=True)
    elif way == "moved away":
        path = held.rename(held.with_name("moved.db"))
    try:
        with pytest.raises(AlreadyRunning), only_service(path):
            pass
    finally:
        if way == "moved away":
            path.rename(held)


LOOK = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0.1, isolation_level=None).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as exc:
    print(exc)
else:
    print("free")
"""


def _seen_from_outside(file):
    return subprocess.run(
        [sys.executable, "-c", LOOK, file], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_lock_disturbs_no_lock_of_sqlite(tmp_path, mode):
    """While it is held others may write; a transaction in whose middle it is let go keeps its locks."""
    file = tmp_path / "onebar.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE t (x)")
        with only_service(file):
            assert _seen_from_outside(file) == "free"
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (1)")
        with only_service(file):
            assert _seen_from_outside(file) == "database is locked"
        assert _seen_from_outside(file) == "database is locked", "a closed descriptor would have freed it"
        connection.execute("COMMIT")
        assert _seen_from_outside(file) == "free"


@pytest.fixture
def service(tmp_path):
    """A real service on a new file, that leads."""
    file = tmp_path / "onebar.db"
    log = tmp_path / "log"
    with log.open("w") as err:
        child = subprocess.Popen(
            [sys.executable, "-m", "scheduler.command", "run", "--db", f"sqlite:///{file}"],
            stderr=err,
            cwd=Path(__file__).parents[2],
            umask=0o022,
        )
    deadline = time.monotonic() + 40
    while not _leads(file):
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    yield file, child, log
    if child.poll() is None:
        child.send_signal(signal.SIGKILL)
        child.wait()


def _leads(file):
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM leases").fetchone()[0] == 1
    except sqlite3.OperationalError:
        return False


@pytest.mark.parametrize("loss", ["deleted", "replaced"])
def test_a_service_whose_file_is_lost_stops_within_a_second_and_writes_nothing_more(service, tmp_path, loss):
    file, child, log = service
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("onebar.db*")}
    assert set(modes.values()) == {0o600}, modes
    assert len(modes) == 4, "the database, its WAL, its shared memory, the lock"
    if loss == "replaced":
        backup = tmp_path / "backup.db"
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        before = backup.read_bytes()
        backup.rename(file)
    else:
        file.unlink()
    lost = time.time()
    assert child.wait(20) == REFUSED, log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (said,) = [line for line in lines if line["event"].startswith("stopping: the database is not the one")]
    noticed = datetime.fromisoformat(said["timestamp"]).timestamp() - lost
    assert noticed < 1.0
    assert {"deleted": "was deleted or moved away", "replaced": "was replaced by another"}[loss] in said[
        "why"
    ]
    print(f"{loss}: noticed after {noticed:.2f} s, ended after {time.time() - lost:.2f} s")
    if loss == "replaced":
        assert file.read_bytes() == before
    else:
        assert not file.exists()


def _write(database, meanwhile):
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO trading_bots (config) VALUES ('{}')")
        meanwhile()


def test_nothing_is_committed_to_a_file_that_was_replaced(sqlite_url):
    """Not even what was begun before, and what was read before may still be read to its end."""
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    schema.upgrade(sqlite_url)
    database = open_database(sqlite_url)
    try:
        with database.read() as connection:
            connection.exec_driver_sql("SELECT * FROM leases").all()
        other = file.with_name("other.db")
        shutil.copy(file, other)
        before = other.read_bytes()
        with pytest.raises(DatabaseMoved, match="replaced by another file"):
            _write(database, meanwhile=lambda: other.rename(file))
        with pytest.raises(DatabaseMoved, match="nothing is written any more"), database.write():
            pytest.fail("a transaction was begun")
    finally:
        database.close()
    assert file.read_bytes() == before


def test_a_damaged_file_is_not_served_and_the_remedy_is_named(sqlite_url, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    schema.upgrade(sqlite_url)
    with file.open("r+b") as raw:
        size = os.fstat(raw.fileno()).st_size
        raw.seek(size // 2)
        raw.write(b"\xff" * 8192)
    assert scheduler(["run", "--db", sqlite_url]) == REFUSED
    err = capfd.readouterr().err
    assert "is damaged: " in err
    assert "put a backup in its place" in err
    file.write_bytes(b"Dear madam, " * 2000)
    assert scheduler(["run", "--db", sqlite_url]) == REFUSED
    assert "file is not a database; stop the service, keep a copy" in capfd.readouterr().err
    assert jobs(["list", "--db", sqlite_url]) == 5
    assert "put a backup in its place" in capfd.readouterr().err


@pytest.mark.parametrize("maker", ["jobs add", "db upgrade"])
def test_a_new_database_is_its_owners_only(tmp_path, monkeypatch, maker):
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'onebar.db'}"
    (tmp_path / "bot.json").write_text(json.dumps(REFERENCE))
    before = os.umask(0o022)
    try:
        done = {
            "jobs add": lambda: jobs(["add", "bot.json", "--db", url]),
            "db upgrade": lambda: scheduler(["db", "upgrade", "--db", url]),
        }[maker]()
        assert done == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("onebar.db*")}
    assert set(modes.values()) == {0o600}, modes
