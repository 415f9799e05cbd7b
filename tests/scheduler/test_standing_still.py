"""Threads that stand still or raise (R2.2, R8.6, R10.2): seen within 10 s, the bots go on where they can."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from scheduler_stage import add_bots, settings_for, wait_for
from sqlalchemy import text

from ops.health import read_status
from persistence.database import open_database
from scheduler.service import logs
from scheduler.service.logs import LogWriter

HERE = Path(__file__).parent
SERVICE = HERE / "standing_service.py"


def scalar(database, statement):
    with database.read() as connection:
        return connection.execute(text(statement)).scalar()


def steps(database):
    return scalar(database, "SELECT count(*) FROM bot_steps") or 0


def full_pipe():
    """Return both ends of a pipe that takes nothing more, as of a terminal after Ctrl-S."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    try:
        while True:
            os.write(writer, b"." * 4096)
    except BlockingIOError:
        fcntl.fcntl(writer, fcntl.F_SETFL, 0)
    return reader, writer


def read_all(reader):
    while os.read(reader, 1 << 20):
        pass


@pytest.fixture
def started(tmp_path):
    processes = []

    def start(url, *blow, stderr=subprocess.DEVNULL, **variables):
        (tmp_path / "scheduler.toml").write_text(
            f"[strategies]\nplugins = ['{HERE.parent / 'plugin_strategies'}']\n[markets]\nsettle_ms = 300\n"
        )
        environment = os.environ | {
            "ONEBAR_DATABASE_URL": url,
            "ONEBAR_WORKERS__COUNT": "1",
            "PYTHONPATH": f"{HERE.parents[1]}",
            **variables,
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, SERVICE, *map(str, blow or ("nobody", "-", 0, "block"))],
                env=environment,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def sqlite(sqlite_url):
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


def test_a_log_that_nobody_reads_stops_no_bot_and_is_told_within_10_s(sqlite, started):
    """A stopped terminal (Ctrl-S): the first line of the service finds the pipe full."""
    add_bots(sqlite, 3)
    reader, writer = full_pipe()
    service = started(sqlite.url, stderr=writer)
    os.close(writer)
    assert wait_for(lambda: steps(sqlite) > 9, 30)
    status = lambda: read_status(settings_for(sqlite.url))  # noqa: E731 -- asked again and again
    assert wait_for(lambda: any("its reader takes nothing" in why for why in status().reasons), 10), status()
    before = steps(sqlite)
    assert wait_for(lambda: steps(sqlite) >= before + 9, 8), "the bots go on"
    reading = threading.Thread(target=read_all, args=(reader,))
    reading.start()
    assert wait_for(lambda: status().healthy, 10), "read again, it heals"
    service.terminate()
    assert service.wait(20) == 0
    reading.join()
    os.close(reader)


@pytest.mark.parametrize(
    ("blow", "said", "goes_on"),
    [
        (("crew", "_turn", 4), "the crew", False),
        (("lease", "_rest", 5), "the lease", True),
        (("loop", "_sweep", 2), "", True),  # the row of the run goes stale: it is the loop that writes it
        (("MainThread", "_watch_over", 11), "the main", True),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_thread_that_stands_still_is_seen_within_10_s(sqlite, started, blow, said, goes_on):
    add_bots(sqlite, 2)
    service = started(sqlite.url, *blow, "block")
    assert "BLOW" in service.stdout.readline()
    before, begun = steps(sqlite), time.monotonic()
    found = []

    def red():
        found[:] = read_status(settings_for(sqlite.url)).reasons
        return any(said in why for why in found) if said else bool(found)

    assert wait_for(red, 11), found
    assert time.monotonic() - begun < 10.5
    if goes_on and said:
        assert steps(sqlite) >= before + 8, "the bots of the others go on"


def test_a_crew_that_hangs_ends_the_service_to_be_started_again(sqlite):
    add_bots(sqlite, 1)
    # The time that is given to it is cut down, so that the test need not wait for it.
    runner = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from scheduler.crew import crew
crew.FATAL_S = 3.0
import standing_service
sys.exit(standing_service.main("crew", "_wake", 1, "block"))
"""
    environment = os.environ | {"ONEBAR_DATABASE_URL": sqlite.url, "PYTHONPATH": f"{HERE.parents[1]}"}
    done = subprocess.run(
        [sys.executable, "-c", runner], env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 70, done.stderr.decode()[-2000:]


@pytest.mark.parametrize("function", ["_hear", "_supervise", "_seen", "_hand_out"])
def test_a_turn_of_the_crew_that_raises_ends_nothing(sqlite, started, function):
    """Any exception in the crew's thread: no space while logging, a look that fails, a defect of ours."""
    add_bots(sqlite, 2)
    service = started(sqlite.url, "crew", function, 2, "raise")
    assert "BLOW" in service.stdout.readline()
    before = steps(sqlite)
    assert wait_for(lambda: steps(sqlite) >= before + 6, 20), "the bots go on"
    assert service.poll() is None
    told = lambda: read_status(settings_for(sqlite.url)).details["rebuilt"] == 1  # noqa: E731 -- asked again
    assert wait_for(told, 5), "counted in the status, which is written every 2 s"
    assert scalar(sqlite, "SELECT sum(error_count) FROM trading_bots") == 0, "nobody is charged"


def test_lines_that_do_not_fit_are_counted_and_the_count_is_said(monkeypatch):
    monkeypatch.setattr(logs, "MOST_LINES", 10)
    reader, descriptor = full_pipe()
    writer = LogWriter(descriptor, as_text=False)
    writer.begin()
    begun = time.monotonic()
    for number in range(1000):
        writer.write(f"line {number}\n")
    assert time.monotonic() - begun < 1.0, "nobody waits"
    time.sleep(0.2)
    assert "its reader takes nothing; 9" in writer.said(0.1)
    got = b""
    end = time.monotonic() + 5
    while b'"lines"' not in got and time.monotonic() < end:
        got += os.read(reader, 1 << 16)
    assert b'"lines": 989' in got or b'"lines": 990' in got, got[-300:]
    writer.write("last\n")
    writer.end()
    assert b"last\n" in os.read(reader, 1 << 16), "a clean end writes what waits"
    assert writer.said(0.1) == ""
    os.close(reader)
    os.close(descriptor)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_full_disk_ends_no_logging(tmp_path):
    descriptor = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(descriptor, as_text=True)
    writer.begin()
    writer.write("lost\n")
    assert wait_for(lambda: "No space left" in writer.said(7.0), 3)
    space = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(space, descriptor)
    writer.write("there is room again\n")
    assert wait_for(lambda: writer.said(7.0) == "", 3)
    writer.end()
    assert "lines=1" in (tmp_path / "log").read_text()
    os.close(space)
    os.close(descriptor)
