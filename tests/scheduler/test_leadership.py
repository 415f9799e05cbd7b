"""One service leads (D5, B7): lease, epoch, takeover, and what the old holder can still do (nothing)."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from scheduler_stage import Stage, add_bots, settings_for, wait_for
from sqlalchemy import text

from ops.health import read_status
from persistence import leases
from persistence.database import open_database
from persistence.leases import Fence, LeaseLost
from scheduler.service.clock_watch import ClockWatch
from scheduler.service.leadership import Leadership
from scheduler.service.lockfile import AlreadyRunning, lock_path, only_service, read_holder

START = """
import sys
from jobs.settings import load_settings
from scheduler.service.daemon import run_service
sys.exit(run_service(load_settings(), resume="afresh" not in sys.argv))
"""


@pytest.fixture
def postgres(postgres_url):
    opened = open_database(postgres_url)
    yield opened
    opened.close()


class Monotonic:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def leadership(database, holder, ttl_s=6.0, monotonic=None):
    return Leadership(
        database, name="scheduler", holder=holder, ttl_s=ttl_s, monotonic=monotonic or Monotonic()
    )


def expire(database):
    with database.write() as connection:
        connection.execute(text("UPDATE leases SET until = 0"))


def test_one_of_two_leads_and_the_other_follows(postgres):
    first, second = leadership(postgres, "one"), leadership(postgres, "two")
    first.attempt()
    second.attempt()
    assert first.fence() == Fence("scheduler", 1)
    assert second.fence() is None
    expire(postgres)
    second.attempt()
    assert second.fence() == Fence("scheduler", 2)
    first.attempt()
    assert first.fence() is None


def test_a_holder_that_cannot_renew_stops_before_its_lease_is_over(postgres):
    clock = Monotonic()
    holder = leadership(postgres, "one", 6.0, clock)
    holder.attempt()
    clock.now += 4.4
    assert holder.fence() is not None
    clock.now += 0.2
    assert holder.fence() is None, "a quarter of the lease's time is the margin"
    holder.attempt()
    assert holder.fence() == Fence("scheduler", 1), "nobody took it: it goes on under the same epoch"


def test_nothing_is_written_under_an_old_epoch(postgres):
    old, new = leadership(postgres, "one"), leadership(postgres, "two")
    old.attempt()
    fence = old.fence()
    expire(postgres)
    new.attempt()
    with pytest.raises(LeaseLost), postgres.write() as connection:
        leases.assert_held(connection, fence)


def test_a_release_lets_the_standby_lead_at_once(postgres):
    first, second = leadership(postgres, "one"), leadership(postgres, "two")
    first.attempt()
    first.stop()
    second.attempt()
    assert second.fence() == Fence("scheduler", 2)


def test_a_doubt_ends_the_belief_until_the_database_confirms_it(postgres):
    holder = leadership(postgres, "one")
    holder.attempt()
    holder.doubt()
    assert holder.fence() is None
    holder.attempt()
    assert holder.fence() is not None


def test_the_lease_outlives_whatever_its_look_raises(postgres):
    """Found by chaos: its thread had died of a wake-up before the loop was there, and nobody took over."""
    told = []

    def changed():
        told.append(1)
        raise RuntimeError("a fault of our own")

    holder = leadership(postgres, "one", 1.0, time.monotonic)
    holder.changed = changed
    holder.start()
    assert wait_for(lambda: told)
    assert wait_for(lambda: holder.fence() is not None)
    time.sleep(2.0)
    assert not holder.pulse.seen().dead
    assert holder.fence() == Fence("scheduler", 1), "it was renewed all the while"
    holder.stop()


def test_a_wake_up_before_the_start_is_no_fault(postgres):
    Stage(postgres).scheduler.wakeup()


def test_on_sqlite_the_lock_decides_and_the_epoch_moves_on(sqlite_url):
    database = open_database(sqlite_url)
    leadership(database, "killed").attempt()
    after = leadership(database, "next")
    after.attempt()
    assert after.fence() == Fence("scheduler", 2), "it does not wait for the lease of a dead service"
    database.close()


def _hold(path, ready, go):
    with only_service(Path(path)):
        ready.set()
        go.wait(30)


def test_the_lock_of_an_sqlite_file_names_who_runs_and_dies_with_it(tmp_path):
    file = tmp_path / "onebar.db"
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(file), ready, go))
    other.start()
    assert ready.wait(20)
    with (
        pytest.raises(AlreadyRunning, match=f"process {other.pid} on {socket.gethostname()}"),
        only_service(file),
    ):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert read_holder(lock_path(file)).pid == other.pid, "its words stay, its lock does not"
    with only_service(file):
        assert read_holder(lock_path(file)).pid == os.getpid()
    ready.clear()


def test_a_step_back_of_the_clock_and_a_suspend_are_told_apart():
    wall, mono, slept = [10**12], [0], [0]

    class Wall:
        def now_ms(self):
            return wall[0]

    watch = ClockWatch(Wall(), lambda: mono[0], lambda: slept[0])
    wall[0] += 1000
    mono[0] += 1000
    assert watch.look() is None
    wall[0] -= 3_600_000
    assert "backwards by 3600 s" in str(watch.look())
    wall[0] += 3 * 86_400_000
    slept[0] += 3 * 86_400_000
    assert "suspended for 259200 s" in str(watch.look())
    assert not watch.held, "a machine may sleep as long as it likes"
    wall[0] += 40 * 86_400_000
    assert "forwards" in str(watch.look())
    assert watch.held
    wall[0] -= 40 * 86_400_000
    watch.look()
    assert not watch.held


def service(url, folder, *arguments, **environment):
    variables = os.environ | {
        "ONEBAR_DATABASE_URL": url,
        "ONEBAR_WORKERS__COUNT": "1",
        "ONEBAR_MARKETS__SETTLE_MS": "300",
        "ONEBAR_SERVICE__POLL_INTERVAL_S": "0.5",
        "PYTHONPATH": f"{Path(__file__).parents[2]}",
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        env=variables,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process):
    process.kill()
    process.wait()
    process.stderr.close()


def scalar(database, sql):
    with database.read() as connection:
        return connection.execute(text(sql)).scalar()


@pytest.fixture
def plugin_settings(tmp_path):
    folder = Path(__file__).parents[1] / "plugin_strategies"
    (tmp_path / "scheduler.toml").write_text(f"[strategies]\nplugins = ['{folder}']\n")
    return tmp_path


def test_a_service_runs_stops_and_tells_how_it_ended(database, plugin_settings):
    """R5.2, R5.3, R5.4, R5.5, R5.7, R9.1, R9.4, on the live clock: no bar twice, none missing."""
    _, paused = add_bots(database, 2)
    status = lambda: read_status(settings_for(database.url))  # noqa: E731 -- asked again and again
    assert not status().running
    first = service(database.url, plugin_settings)
    assert wait_for(lambda: (scalar(database, "SELECT count(*) FROM bot_steps") or 0) > 12, 30)
    assert wait_for(lambda: status().healthy, 5), status()
    assert (status().role, status().pid, status().bots) == ("leader", first.pid, 2)
    with database.write() as connection:
        connection.execute(text("UPDATE trading_bots SET paused = '1' WHERE id = 2"))
    time.sleep(1.5)
    kill(first)
    assert wait_for(lambda: not status().running, 15)
    assert "said nothing" in status().reasons[0]
    at_kill = scalar(database, f"SELECT max(bar) FROM bot_steps WHERE bot_id = {paused}")

    second = service(database.url, plugin_settings)
    assert wait_for(lambda: status().running and status().role == "leader", 30)
    bars = scalar(database, "SELECT count(*) FROM bot_steps WHERE bot_id = 1")
    assert wait_for(
        lambda: scalar(database, "SELECT count(*) FROM bot_steps WHERE bot_id = 1") > bars + 2, 20
    )
    second.send_signal(signal.SIGINT if database.dialect == "sqlite" else signal.SIGTERM)
    assert second.wait(30) == 0
    said = [json.loads(line) for line in second.stderr if line.startswith("{")]
    second.stderr.close()
    report = next(line["report"] for line in said if line["event"] == "recovery")
    assert f"not ended cleanly (process {first.pid}" in report
    assert "owe" in report
    assert (status().reasons, status().clean) == (("the service was stopped",), True)
    assert scalar(database, f"SELECT max(bar) FROM bot_steps WHERE bot_id = {paused}") == at_kill
    assert_left_in_order(database)


def assert_left_in_order(database):
    with database.read() as connection:
        bars = (
            connection.execute(text("SELECT bar FROM bot_steps WHERE bot_id = 1 ORDER BY version"))
            .scalars()
            .all()
        )
        found = connection.execute(text("SELECT status FROM trading_bots ORDER BY id")).scalars().all()
        told = connection.execute(text("SELECT count(*) FROM notifications WHERE kind = 'service'")).scalar()
    assert bars == list(range(bars[0], bars[-1] + 1, 1000))
    assert found == ["stopped", "paused"]
    assert told == 2


def test_a_second_service_on_an_sqlite_file_is_refused(sqlite_url, plugin_settings):
    """D5: it says who runs."""
    first = service(sqlite_url, plugin_settings)
    database = open_database(sqlite_url)
    assert wait_for(lambda: scalar(database, "SELECT count(*) FROM leases") == 1, 20)
    second = service(sqlite_url, plugin_settings)
    _, said = second.communicate(timeout=30)
    assert second.returncode == 6
    assert f"process {first.pid} on" in said
    first.terminate()
    assert first.wait(20) == 0
    first.stderr.close()
    database.close()


def test_started_afresh_forgives_the_bots_that_errors_had_stopped(sqlite_url, plugin_settings):
    """R5.7."""
    database = open_database(sqlite_url)
    add_bots(database, 1)
    with database.write() as connection:
        connection.execute(text("UPDATE trading_bots SET status = 'error', error_count = 9"))
    resumed = service(sqlite_url, plugin_settings)
    assert wait_for(lambda: scalar(database, "SELECT count(*) FROM leases") == 1, 20)
    time.sleep(2.0)
    assert scalar(database, "SELECT status FROM trading_bots") == "error"
    resumed.terminate()
    assert resumed.wait(20) == 0
    resumed.stderr.close()
    afresh = service(sqlite_url, plugin_settings, "afresh")
    assert wait_for(lambda: scalar(database, "SELECT status FROM trading_bots") == "running", 20)
    afresh.terminate()
    assert afresh.wait(20) == 0
    afresh.stderr.close()
    database.close()


def test_health_is_red_while_the_database_is_lost(sqlite_url):
    """R8.6, R10.2."""
    database = open_database(sqlite_url)
    stage = Stage(database).led()
    stage.one_pass()
    assert stage.scheduler.health().reasons == ()
    stage.scheduler._database_said -= 60
    assert "database" in stage.scheduler.health().reasons[0]
    assert stage.scheduler.health().lives, "no reason for the watchdog to bite"
    stage.scheduler.pulse.begin(threading.current_thread())
    stage.scheduler.pulse._at -= 120
    assert not stage.scheduler.health().lives
    database.close()


def test_a_database_that_cannot_be_reached_is_said_not_raised(tmp_path):
    found = read_status(settings_for("postgresql://postgres@127.0.0.1:1/none"))
    assert not found.healthy
    assert "cannot be reached" in found.reasons[0]
    found = read_status(settings_for(f"sqlite:///{tmp_path}/none/onebar.db"))
    assert not found.running


@pytest.mark.skipif(sys.platform == "win32", reason="systemd")
def test_systemd_is_told_ready_alive_and_stopping(sqlite_url, plugin_settings, tmp_path):
    """R5.1: READY after the first pass, the watchdog fed from the loop's heartbeat."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.settimeout(20)
        process = service(sqlite_url, plugin_settings, NOTIFY_SOCKET=address, WATCHDOG_USEC="1000000")
        assert heard.recv(1000) == b"READY=1"
        assert heard.recv(1000).startswith(b"WATCHDOG=1")
        process.terminate()
        while (said := heard.recv(1000)) != b"STOPPING=1":
            assert said.startswith(b"WATCHDOG=1")
        assert process.wait(20) == 0
        process.stderr.close()
