"""Worker processes (R2.2, R2.3, R10.2): one bad bot harms no other, and is named."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from scheduler_stage import SetClock, add_bots, settings_for, wait_for
from structlog.testing import capture_logs

from persistence import bots
from persistence.database import open_database
from scheduler.crew.alarm import Alarm
from scheduler.crew.crew import Crew

WORKER = Path(__file__).with_name("misbehaving_worker.py")
COMMAND = (sys.executable, str(WORKER))


@pytest.fixture
def database(sqlite_url):
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def crew_of(database):
    crews = []

    def make(command=COMMAND, **workers):
        limits = {"count": 1, "step_deadline_s": 1.0, "memory_limit_mb": 400} | workers
        crew = Crew(settings_for(database.url, workers=limits), SetClock(), command=command)
        crews.append(crew)
        crew.start()
        crew.lead(None, leads=True)
        return crew

    yield make
    for crew in crews:
        crew.stop(1.0)


def alarms(bot_ids, group="generated"):
    return [Alarm(bot_id, group, 0) for bot_id in bot_ids]


def beaten(database):
    with database.read() as connection:
        return {bot.id for bot in bots.all_bots(connection) if bot.last_heartbeat is not None}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("hang", "longer than 1 s"),
        ("sleep", "longer than 1 s"),
        ("die", "exit code -9"),
        ("exit", "exit code 3"),
        ("raise", "SystemExit: 4 with exit code 4"),
        ("own", "worker died of OwnEnding: of a strategy"),
        ("grow", "MB of memory"),
    ],
)
def test_the_guilty_bot_is_charged_and_the_others_run_on(database, crew_of, how, why):
    good = add_bots(database, 4)
    (bad,) = add_bots(database, 1, description=how)
    good += add_bots(database, 4)
    crew = crew_of(step_deadline_s=20 if how == "grow" else 1)
    crew.fire(alarms(sorted([*good, bad])))
    assert wait_for(lambda: beaten(database) == set(good), 20.0)
    charge = crew.charges.get(timeout=5)
    assert charge.bot_id == bad
    assert why in charge.message
    assert crew.charges.empty(), "nobody else is charged"
    assert crew.busy_with(bad), "held back until the charge is written"


@pytest.mark.skipif(sys.platform != "linux", reason="what can be looked at differs")
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("threads", "many threads (left running)"),
        ("fork", "child processes (left running)"),
        ("limit", "resource limits"),
        ("folder", "working folder"),
    ],
)
def test_what_bars_leave_behind_in_the_process_is_their_bots_fault(database, crew_of, how, why):
    good = add_bots(database, 3)
    (bad,) = add_bots(database, 1, description=how)
    good += add_bots(database, 3)
    crew = crew_of(step_deadline_s=20)
    crew.fire(alarms(sorted([*good, bad])))
    assert wait_for(lambda: beaten(database) == {*good, bad}, 20.0), "their bars are committed all the same"
    charge = crew.charges.get(timeout=5)
    assert (charge.bot_id, why in charge.message) == (bad, True), charge
    assert crew.charges.empty()
    assert wait_for(lambda: crew.state().replaced == 1, 10)
    crew.let_go(bad, "generated", int(time.time() * 1000))
    assert crew.charges.get(timeout=20).bot_id == bad, "it runs alone, and is found again"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks")
def test_a_strategy_that_keeps_the_write_lock_of_the_database_is_found(database, crew_of):
    good = add_bots(database, 3)
    (bad,) = add_bots(database, 1, description="lock")
    crew = crew_of(step_deadline_s=60)
    crew.fire(alarms([*good, bad]))
    charge = crew.charges.get(timeout=90)
    assert charge.bot_id == bad
    assert "write lock" in charge.message
    assert wait_for(lambda: beaten(database) == set(good), 20.0)


def test_a_flood_of_prints_is_dropped_and_counted_and_slows_nobody(database, crew_of):
    """200 MB: less than one in a thousand of it is logged, under the bot's id, and the drops are said."""
    (bad,) = add_bots(database, 1, description="flood")
    (talker,) = add_bots(database, 1, description="say")
    crew = crew_of(step_deadline_s=60)
    with capture_logs() as logs:
        crew.fire(alarms([bad, talker]))
        assert wait_for(lambda: beaten(database) == {bad, talker}, 30.0)
        assert wait_for(lambda: crew.state().dropped_prints > 190_000_000, 5)
        crew.stop(5.0)
    assert sum(len(str(entry)) for entry in logs) < 200_000
    assert {entry["bot"] for entry in logs if entry["event"] == "prints dropped, they were too many"} == {bad}


@pytest.mark.parametrize(
    "answer",
    [
        "no json",
        "[]",
        '{"lost": "database"}',
        '{"done": [[1]]}',
        '{"done": 5}',
        '{"done": [[999, 1, false, null, null]]}',
        '{"done": [["1", 1, false, null, null]]}',
        '{"neither": 1}',
    ],
)
def test_an_answer_that_is_none_is_the_fault_of_its_worker_and_its_bot(database, crew_of, answer):
    (bad,) = add_bots(database, 1, description=answer)
    good = add_bots(database, 3)
    crew = crew_of((sys.executable, str(WORKER.with_name("lying_worker.py"))), step_deadline_s=60)
    crew.fire(alarms([bad, *good]))
    charge = crew.charges.get(timeout=20)
    assert charge.bot_id == bad
    assert "what is no answer" in charge.message
    assert wait_for(lambda: beaten(database) == set(good), 20.0)
    assert crew.charges.empty()
    assert crew.state().faults.count == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a file without a name")
def test_no_watch_file_has_a_name_that_could_stay(crew_of, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    crew = crew_of()
    assert wait_for(lambda: crew.state().ready == 1, 20), "no temporary folder is needed"


def test_who_dies_between_bots_is_found_by_halves(database, crew_of):
    good = add_bots(database, 5)
    (bad,) = add_bots(database, 1, description="die between")
    crew = crew_of()
    crew.fire(alarms([*good, bad]))
    assert wait_for(lambda: beaten(database) == set(good), 30.0)
    assert crew.charges.get(timeout=20).bot_id == bad
    assert crew.charges.empty()


def test_a_killed_worker_is_replaced_and_nothing_is_lost(database, crew_of):
    ids = add_bots(database, 20, description="slow")
    crew = crew_of(count=2, batch=5, step_deadline_s=20)
    assert wait_for(lambda: crew.state().ready == 2, 20)
    crew.fire(alarms(ids))
    time.sleep(1.0)
    psutil.Process(crew.state().pids[0]).kill()
    assert wait_for(lambda: len(beaten(database)) >= 19, 30)
    assert crew.state().replaced == 1
    charge = crew.charges.get(timeout=5)  # of the bot that was at work when it died
    crew.let_go(charge.bot_id, "generated", int(time.time() * 1000))
    assert wait_for(lambda: len(beaten(database)) == 20, 10)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP")
def test_a_stopped_worker_is_replaced_without_a_charge(database, crew_of):
    ids = add_bots(database, 3)
    crew = crew_of()
    assert wait_for(lambda: crew.state().ready == 1, 20)
    os.kill(crew.state().pids[0], signal.SIGSTOP)
    crew.fire(alarms(ids))
    assert wait_for(lambda: beaten(database) == set(ids), 25)
    assert crew.charges.empty()


def test_an_exchange_that_hangs_leaves_workers_to_the_others(database, crew_of):
    """A14, and the bulkhead: with two workers one exchange gets one of them."""
    stuck = add_bots(database, 10, description="sleep")
    good = add_bots(database, 10)
    crew = crew_of(count=2, batch=1, step_deadline_s=60)
    assert wait_for(lambda: crew.state().ready == 2, 20)
    crew.fire(alarms(stuck, "binance"))
    crew.fire(alarms(good, "kraken"))
    assert wait_for(lambda: beaten(database) == set(good), 10)
    # The last of them has committed; its worker's answer may still be on its way.
    assert wait_for(lambda: crew.state().busy == 1, 5)


def test_nothing_is_handed_out_without_the_lease(database, crew_of):
    ids = add_bots(database, 2)
    crew = crew_of()
    crew.lead(None, leads=False)
    crew.fire(alarms(ids))
    time.sleep(1.0)
    assert beaten(database) == set()
    crew.lead(None, leads=True)
    assert wait_for(lambda: beaten(database) == set(ids), 20)


def test_a_stop_lets_work_finish_and_cuts_what_does_not(database, crew_of):
    """R2.5."""
    ids = add_bots(database, 1, description="slow")
    crew = crew_of(step_deadline_s=60)
    assert wait_for(lambda: crew.state().ready == 1, 20)
    crew.fire(alarms(ids))
    assert wait_for(lambda: crew.state().busy == 1, 5)
    assert crew.stop(10.0) is True
    assert beaten(database) == set(ids)
    stuck = add_bots(database, 1, description="sleep")
    crew = crew_of(step_deadline_s=60)
    crew.fire(alarms(stuck))
    assert wait_for(lambda: crew.state().busy == 1, 20)
    (pid,) = crew.state().pids
    assert crew.stop(0.5) is False
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_workers_do_not_outlive_their_parent(database):
    """R5.5: an orphan in an endless loop would hold the machine, and its lease's epoch."""
    ids = add_bots(database, 1, description="hang")
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from scheduler_stage import SetClock, settings_for
from scheduler.crew.alarm import Alarm
from scheduler.crew.crew import Crew
crew = Crew(settings_for({database.url!r}, workers={{"count": 1}}), SetClock(), command={COMMAND!r})
crew.start()
crew.lead(None, leads=True)
crew.fire([Alarm({ids[0]}, "generated", 0)])
while crew.state().busy == 0:
    time.sleep(0.05)
time.sleep(0.5)
print("pid", crew.state().pids[0], flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        said = next(line for line in parent.stdout if line.startswith("pid"))  # behind lines of the log
        worker = psutil.Process(int(said.split()[1]))
        parent.kill()
        parent.wait()
        gone, _ = psutil.wait_procs([worker], timeout=10)
    assert gone
