"""The database is lost while bars are due (R1.5, R8.6): nothing twice, nothing missing, alive afterwards.

The chaos test does this at random; here every kind is alone, with the moment chosen.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from scheduler_stage import SetClock, Stage, add_bots, settings_for, wait_for
from sqlalchemy import event, text

from jobs.bar.runtime import open_runtime
from jobs.clock import SimulatedClock
from persistence import bots
from persistence.database import open_database
from persistence.database_errors import CommitUnknown, DatabaseUnavailable, LeaseLost
from scheduler.crew.verdicts import Charge


@pytest.fixture
def sqlite(sqlite_url):
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("nth", range(1, 15))
def test_any_statement_of_a_pass_may_fail(sqlite, nth):
    """The n-th statement of the passes fails, once: the loop comes round again and every bot is fired."""
    add_bots(sqlite, 3)
    stage = Stage(sqlite)
    left = [nth]

    def fail(*_):
        left[0] -= 1
        if left[0] == 0:
            raise DatabaseUnavailable("planted")

    event.listen(sqlite.engine, "before_cursor_execute", fail)
    stage.leadership.start()
    stage.thread = threading.Thread(target=stage.scheduler.start, daemon=True)
    stage.thread.start()
    assert wait_for(lambda: {alarm.bot_id for alarm in stage.crew.alarms} == {1, 2, 3}, 10)
    before = len(stage.crew.alarms)
    assert wait_for(lambda: len(stage.crew.alarms) >= before + 3, 10)
    assert wait_for(lambda: left[0] < 1, 10)
    assert stage.thread.is_alive()
    stage.stop()
    stage.leadership.stop()


def test_an_unexpected_exception_in_a_pass_is_survived(sqlite):
    add_bots(sqlite, 1)
    stage = Stage(sqlite)
    swept = []

    def broken():
        swept.append(1)
        raise RuntimeError("a fault of our own")

    stage.scheduler._fire_due = broken
    stage.start()
    assert wait_for(lambda: len(swept) >= 3, 10), "backed off and tried again"
    assert stage.scheduler.health().database_age_s < 30
    del stage.scheduler._fire_due
    before = len(stage.crew.alarms)
    assert wait_for(lambda: len(stage.crew.alarms) > before, 10)
    stage.stop()


def test_a_charge_waits_until_the_database_is_back(sqlite):
    """R3: who hung a worker while the database was away is charged all the same, once."""
    (bot,) = add_bots(sqlite, 1)
    stage = Stage(sqlite).led()
    stage.one_pass()
    stage.crew.charges.put(Charge(bot, "hung"))
    original = sqlite.write

    def lost(_fence=None):
        raise DatabaseUnavailable("away")

    sqlite.write = lost
    with pytest.raises(DatabaseUnavailable):
        stage.one_pass()
    del sqlite.write
    assert sqlite.write == original
    stage.one_pass()
    with sqlite.read() as connection:
        found = bots.get_bot(connection, bot)
    assert (found.error_count, found.last_error) == (1, "strategy: hung")
    assert found.retry_at is not None
    assert [released[0] for released in stage.crew.released] == [bot]


def test_a_commit_of_the_claim_whose_answer_is_lost(sqlite):
    """The claim stands and nobody was fired: the late bots are found by what is missing in the database."""
    add_bots(sqlite, 1)
    clock = SetClock()
    stage = Stage(sqlite, clock).led()
    stage.one_pass()
    stage.crew.alarms.clear()
    moved = stage.scheduler.store._move

    def lost(moves):
        moved(moves)
        raise CommitUnknown("planted")

    stage.scheduler.store._move = lost
    time.sleep(2.6)
    with pytest.raises(CommitUnknown):
        stage.scheduler._fire_due()
    assert stage.crew.alarms == []
    stage.scheduler.store._move = moved
    stage.scheduler._sweeps.at_once()
    clock.step(1_900)  # less than what counts as a step of the clock
    assert wait_for(lambda: stage.one_pass() is not None and bool(stage.crew.alarms), 5)


def failing(*_):
    raise DatabaseUnavailable("planted")


def test_an_edit_is_not_lost_when_the_database_goes_between_reading_and_writing(sqlite):
    """R2.7: the next pass applies it, and fires the bot that is new."""
    stage = Stage(sqlite).led()
    stage.one_pass()
    (bot,) = add_bots(sqlite, 1, interval="1h")
    store, put = stage.scheduler.store, stage.scheduler.store.put
    store.put = failing
    stage.scheduler._polls.at_once()
    with pytest.raises(DatabaseUnavailable):
        stage.one_pass()
    store.put = put
    stage.scheduler._polls.at_once()
    stage.one_pass()
    assert bot in store.rows()[0]
    assert stage.crew.of(bot)


def test_a_bot_on_a_cron_is_fired_when_the_answer_of_its_claim_was_lost(sqlite):
    """Nothing finds it late: its next fire may be a day away."""
    (bot,) = add_bots(sqlite, 1, interval="1h", schedule="0 0 1 1 *")
    stage = Stage(sqlite).led()
    stage.one_pass()
    stage.crew.alarms.clear()
    with sqlite.write() as connection:
        connection.execute(text("UPDATE apscheduler_jobs SET next_run_time = 1"))
    store, looked = stage.scheduler.store, stage.scheduler.store._next_ms
    store._next_ms = failing
    with pytest.raises(DatabaseUnavailable):
        stage.scheduler._fire_due()
    assert stage.crew.of(bot) == []
    store._next_ms = looked
    stage.scheduler._fire_due()
    assert len(stage.crew.of(bot)) == 1
    stage.scheduler._fire_due()
    assert len(stage.crew.of(bot)) == 1


def test_a_step_of_the_clock_is_answered_once_the_database_is_back(sqlite):
    clock = SetClock()
    stage = Stage(sqlite, clock).led()
    stage.one_pass()
    clock.step(-3_600_000)
    write, sqlite.write = sqlite.write, failing
    with pytest.raises(DatabaseUnavailable):
        stage.one_pass()
    sqlite.write = write
    stage.one_pass()
    stage.one_pass()
    with sqlite.read() as connection:
        told = connection.execute(text("SELECT count(*) FROM notifications WHERE title = 'Clock stepped'"))
        assert told.scalar() == 1


def test_an_old_leader_charges_nobody(postgres_url):
    """An error is counted by one of two leaders: the later one."""
    database = open_database(postgres_url)
    (bot,) = add_bots(database, 1)
    stage = Stage(database).led()
    stage.one_pass()
    with database.write() as connection:
        connection.execute(text("UPDATE leases SET epoch = epoch + 1, holder = 'another'"))
    with pytest.raises(LeaseLost):
        stage.scheduler._charge(Charge(bot, "hung"))
    with database.read() as connection:
        assert bots.get_bot(connection, bot).error_count == 0
    database.close()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_is_full_and_has_room_again(sqlite_template):
    """A3, F10: the loop lives and goes on without a restart."""
    folder = Path(tempfile.mkdtemp(prefix="onebar-full-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("mounting is not allowed here")
    try:
        shutil.copyfile(sqlite_template, folder / "onebar.db")
        database = open_database(f"sqlite:///{folder / 'onebar.db'}")
        add_bots(database, 2)
        stage = Stage(database).start()
        assert wait_for(lambda: len(stage.crew.alarms) > 2, 10)
        ballast = folder / "ballast"
        fill(ballast)
        filled = wait_for(lambda: unwritable(database), 5)
        time.sleep(2.0)
        ballast.unlink()
        before = len(stage.crew.alarms)
        assert filled
        assert wait_for(lambda: len(stage.crew.alarms) > before, 15)
        stage.stop()
        database.close()
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
        folder.rmdir()


def fill(ballast):
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def unwritable(database):
    """Whether a large write finds no room; one that does is taken back."""
    try:
        with database.write() as connection:
            connection.execute(text("UPDATE trading_bots SET description = :text"), {"text": "x" * 1_000_000})
            raise DatabaseUnavailable("there was room")
    except DatabaseUnavailable as exc:
        return "full" in str(exc) or "disk" in str(exc)


def test_a_runtime_opens_without_its_database(tmp_path):
    """A worker that starts while the database is down says so when it is asked to work, and not before."""
    rt = open_runtime(settings_for(f"sqlite:///{tmp_path}/none/onebar.db"), clock=SimulatedClock(0))
    with pytest.raises(DatabaseUnavailable), rt.database.read() as connection:
        connection.execute(text("SELECT 1"))
