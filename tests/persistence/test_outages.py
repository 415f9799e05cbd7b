"""R8.6, F3, F6, F7, F9, F10: what the database does to us, and what we make of it."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError
from stories import LIFE, add_bots, advance, everything, save, version_of
from wire import Wire

from persistence.bots import add_bot, all_bots, get_bot, set_paused
from persistence.console import Console
from persistence.database import open_database
from persistence.database_errors import CommitUnknown, DatabaseFault, DatabaseUnavailable


@pytest.fixture
def wire(postgres_url):
    cut = Wire(postgres_url)
    yield cut
    cut.close()


@pytest.fixture
def through(wire):
    database = open_database(wire.url, answer_timeout_s=1.0)
    yield database
    database.close()


@pytest.mark.parametrize(("fault", "stands"), [("before_commit", False), ("after_commit", True)])
def test_f7_a_commit_whose_answer_is_lost_is_unknown_and_can_be_looked_up(wire, through, fault, stands):
    bots = add_bots(through, 3)
    for round_ in range(3):
        wire.fault = fault
        batch = [advance(bot, LIFE[round_ : round_ + 1], from_version=round_) for bot in bots]
        with pytest.raises(CommitUnknown):
            save(through, *batch)
        wire.fault = ""
        assert wire.cuts == round_ + 1
        # Never repeat blindly: look the version up. Repeating it with the guard is harmless as well.
        assert version_of(through, bots[0]) == round_ + stands
        assert save(through, *batch) == (frozenset() if stands else frozenset(bots))
    assert len(everything(through)["bot_steps"]) == 9


def test_f7_the_console_tells_an_unknown_commit_too(wire, postgres_url):
    with Console(postgres_url) as console, console.write() as transaction:
        bot = add_bot(transaction, config="{}", now_ms=1)
    with Console(wire.url) as console:
        wire.fault = "after_commit"
        with pytest.raises(CommitUnknown), console.write() as transaction:
            set_paused(transaction, bot, paused=True)
    with Console(postgres_url) as console, console.read() as transaction:
        assert get_bot(transaction, bot).paused


def test_f5_a_lost_connection_is_unavailable_and_the_next_one_works(wire, through):
    bots = add_bots(through, 2)

    def lost() -> None:
        with through.write() as connection:
            connection.exec_driver_sql("SELECT 1")
            wire.cut_all()
            connection.exec_driver_sql("DELETE FROM trading_bots")

    for _ in range(3):
        with pytest.raises(DatabaseUnavailable) as caught:
            lost()
        assert not isinstance(caught.value, CommitUnknown)
        wire.cut_all()  # idle connections in the pool die as well
        assert version_of(through, bots[0]) == 0


def test_f6_a_frozen_server_holds_nobody_up_for_long(wire, through):
    (bot,) = add_bots(through)
    wire.fault = "frozen"
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match=r"no answer within 1\.0 s|timeout"):
        save(through, advance(bot, LIFE[:1]))
    assert time.monotonic() - began < 8  # its own limit, and that of the connection which is tried next
    wire.fault = ""
    assert save(through, advance(bot, LIFE[:1])) == {bot}


def test_f6_a_server_that_freezes_at_the_commit_leaves_it_unknown(wire, through):
    (bot,) = add_bots(through)

    def freeze_at_commit() -> None:
        with through.write() as connection:
            connection.exec_driver_sql(f"UPDATE trading_bots SET description = 'x' WHERE id = {bot}")
            wire.fault = "frozen"

    with pytest.raises(CommitUnknown):
        freeze_at_commit()


def test_a_server_that_is_not_there_is_unavailable(tmp_path):
    for url in ("postgresql://nobody@127.0.0.1:1/x", f"postgresql:///x?host={tmp_path}"):
        database = open_database(url)
        with pytest.raises(DatabaseUnavailable), database.read():
            pass
        with pytest.raises(DatabaseUnavailable):
            Console(url)


@pytest.mark.parametrize("signal", ["terminate", "cancel"])
def test_f5_an_administrator_ends_the_session(postgres_url, signal):
    database = open_database(postgres_url)

    def ended() -> None:
        with database.write() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").first()[0]
            with psycopg.connect(postgres_url, autocommit=True) as administrator:
                if signal == "terminate":
                    administrator.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
                    connection.exec_driver_sql("SELECT 1")
                else:
                    timer = threading.Timer(0.2, administrator.execute, [f"SELECT pg_cancel_backend({pid})"])
                    timer.start()
                    try:
                        connection.exec_driver_sql("SELECT pg_sleep(5)")
                    finally:
                        timer.join()

    with pytest.raises(DatabaseUnavailable):
        ended()
    assert add_bots(database)
    database.close()


@pytest.mark.parametrize(
    ("setting", "statement"),
    [("statement_timeout", "SELECT pg_sleep(5)"), ("lock_timeout", "LOCK TABLE trading_bots")],
)
def test_the_servers_own_limits_are_waits(postgres_url, setting, statement):
    database = open_database(f"{postgres_url}&options=-c%20{setting}%3D100ms")
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE trading_bots")
        with pytest.raises(DatabaseUnavailable), database.write() as connection:
            connection.exec_driver_sql(statement)
    database.close()


def test_the_limits_are_set(postgres_url):
    database = open_database(postgres_url)
    with database.read() as connection:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone")
        found = [connection.exec_driver_sql(f"SHOW {name}").first()[0] for name in names]
    assert found == ["10s", "3s", "5s", "UTC"]
    database.close()


def test_deadlock_is_a_wait(postgres_url):
    database = open_database(f"{postgres_url}&options=-c%20deadlock_timeout%3D50ms")
    one, two = add_bots(database, 2)
    barrier = threading.Barrier(2, timeout=10)
    outcomes = []

    def lock(first: int, second: int) -> None:
        try:
            with database.write() as connection:
                connection.exec_driver_sql(f"UPDATE trading_bots SET description = 'x' WHERE id = {first}")
                barrier.wait()
                connection.exec_driver_sql(f"UPDATE trading_bots SET description = 'x' WHERE id = {second}")
            outcomes.append("done")
        except DatabaseUnavailable:
            outcomes.append("retry")

    threads = [threading.Thread(target=lock, args=pair) for pair in ((one, two), (two, one))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(outcomes) == ["done", "retry"]
    database.close()


def test_f9_a_locked_file_is_unavailable_and_then_works(sqlite_url):
    database = open_database(sqlite_url, busy_timeout_ms=200)
    (bot,) = add_bots(database)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="locked"):
        save(database, advance(bot, LIFE[:1]))
    assert 0.15 < time.monotonic() - began < 2
    assert version_of(database, bot) == 0, "readers are not held up"
    other.execute("ROLLBACK")
    assert save(database, advance(bot, LIFE[:1])) == {bot}
    other.close()
    database.close()


def test_a_writer_has_the_lock_before_it_reads(sqlite_url):
    """A deferred transaction that has read fails at once, without waiting, when another has written."""
    database = open_database(sqlite_url)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None, timeout=0)
    with database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    with database.read() as connection:
        connection.exec_driver_sql("SELECT id FROM trading_bots").all()
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    other.close()
    database.close()


def test_the_threads_of_a_process_take_turns(sqlite_url):
    database = open_database(sqlite_url, busy_timeout_ms=200)
    with database.write():
        failures = []

        def second() -> None:
            try:
                add_bots(database)
            except DatabaseUnavailable as exc:
                failures.append(str(exc))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert failures == ["another thread of this process keeps writing"]
    assert add_bots(database)
    database.close()


def test_f10_a_full_disk_is_unavailable_and_leaves_no_half_of_anything(sqlite_url):
    database = open_database(sqlite_url)
    bots = add_bots(database, 3)
    save(database, *(advance(bot, LIFE[:1]) for bot in bots))
    before = everything(database, timing=True)

    def limit(pages: int) -> None:
        with database.engine.connect() as connection:  # the pool has this one connection
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    with database.engine.connect() as connection:
        used = connection.exec_driver_sql("PRAGMA page_count").first()[0]
    limit(used)
    big = (
        2 * 60_000,
        LIFE[1][1].__class__(state=b"x" * 500_000, orders=(), trades=(), cash=0.0, value=0.0, positions=()),
    )
    with pytest.raises(DatabaseUnavailable, match="full"):
        save(database, *(advance(bot, (big,), from_version=1) for bot in bots))
    assert everything(database, timing=True) == before
    limit(1_000_000)
    assert save(database, *(advance(bot, (big,), from_version=1) for bot in bots)) == set(bots)
    database.close()


def fill(file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(descriptor, b"x" * 4_096)
    os.close(descriptor)


def save_until_full(database, bot: int) -> None:
    for number in range(1_000):
        save(database, advance(bot, ((number, LIFE[0][1]),), from_version=number))


def test_f10_a_disk_that_is_really_full(sqlite_template, tmp_path):
    """A file system of 400 kB, where this machine lets us make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    try:
        (folder / "onebar.db").write_bytes(sqlite_template.read_bytes())
        database = open_database(f"sqlite:///{folder}/onebar.db")
        (bot,) = add_bots(database)
        filler = folder / "filler"
        fill(filler)
        before = version_of(database, bot)
        with pytest.raises(DatabaseUnavailable):
            save_until_full(database, bot)
        stands = version_of(database, bot)
        filler.unlink()
        assert stands >= before
        assert save(database, advance(bot, ((1_000, LIFE[0][1]),), from_version=stands)) == {bot}
        database.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_f9_a_file_in_no_folder_is_unavailable(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/nowhere/onebar.db")
    with pytest.raises(DatabaseUnavailable), database.read():
        pass


def test_r8_6_what_a_row_is_refused_for_is_told_from_a_fault_of_the_database(database):
    with pytest.raises(DBAPIError), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO leases (name) VALUES (NULL)")
    with pytest.raises(DatabaseFault, match="the schema is not whole"), database.write() as connection:
        connection.exec_driver_sql("SELECT nothing FROM nowhere")
    with pytest.raises(ZeroDivisionError), database.write():
        _ = 1 / 0
    assert add_bots(database)


def test_sqlite_survives_power_loss_by_its_settings(sqlite_url):
    database = open_database(sqlite_url)
    with database.write() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").first()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 2, 1, 5_000]
    database.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_urls_that_are_refused(url):
    with pytest.raises(ValueError, match="sqlite"):
        open_database(url)


def test_both_spellings_of_postgresql_are_taken(postgres_url):
    for url in (postgres_url, postgres_url.replace("postgresql:", "postgresql+psycopg:")):
        database = open_database(url)
        assert database.dialect == "postgresql"
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT 1").first()[0] == 1
        database.close()
        with Console(url) as console, console.read() as transaction:
            assert all_bots(transaction) == ()


KILLED = """
import os, sys
from persistence.database import open_database
database = open_database(sys.argv[1])
with database.write() as connection:
    connection.exec_driver_sql("INSERT INTO configurations VALUES ('k', 'k')")
    print("in", flush=True)
    os.kill(os.getpid(), 9)
"""


def test_f1_a_process_killed_in_mid_transaction_leaves_nothing_and_locks_nothing(database):
    for _ in range(3):
        process = subprocess.run(
            [sys.executable, "-c", KILLED, database.url], stdout=subprocess.PIPE, check=False, cwd=Path.cwd()
        )
        assert (process.returncode, process.stdout) == (-9, b"in\n")
        began = time.monotonic()
        add_bots(database)
        assert time.monotonic() - began < 3
    assert everything(database)["configurations"] == []
