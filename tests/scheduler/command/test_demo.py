"""`scheduler demo` and `make run`: bots trade before a newcomer, without key, network or leftovers."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from jobs.settings import load_settings
from persistence.bots import all_bots, get_bot
from persistence.database import open_database
from persistence.ledger.history import read_steps
from scheduler.command.demo import BOTS, add_bots_if_none, prepared
from scheduler.command.verbs import main
from strategies.values import interval_ms

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120  # machines that run other tests beside this one are slow
NOT_ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of POSIX")


def _environment():
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ONEBAR_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def _demo(folder, *options, **popen):
    command = [sys.executable, "-m", "scheduler.command", "demo", "--dir", str(folder), *options]
    return subprocess.Popen(command, env=_environment(), **popen)


def _left_behind(folder):
    return [
        process.pid
        for process in psutil.process_iter()
        if str(folder) in " ".join(_command_line(process)) and process.pid != os.getpid()
    ]


def _command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_it_ends_by_itself_with_a_summary_and_every_bot_has_stepped(tmp_path):
    folder = tmp_path / "demo"
    with _demo(folder, "--seconds", "4", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        out, err = _ended(child)
    assert child.returncode == 0, err
    assert re.search(r"^5 bots, \d+ bars, \d+ trades$", out, re.MULTILINE)
    assert f"jobs list --config {folder}/scheduler.toml" in out
    assert "5 of 5 bots running" in out
    assert _left_behind(folder) == []
    database = open_database(f"sqlite:///{folder / 'demo.db'}")
    with database.read() as connection:
        for bot in all_bots(connection):
            length = interval_ms(json.loads(bot.config)["data"]["interval"])
            bars = [step.bar for step in reversed(read_steps(connection, bot.id))]
            assert len(bars) > 120, "the lookback bars and some of today"
            assert bars == list(range(bars[0], bars[-1] + 1, length)), "none missing, none twice"
            assert (bot.status, bot.error_count) == ("stopped", 0)
    database.close()
    assert main(["status", "--config", str(folder / "scheduler.toml")]) == 3


def _ended(child):
    """Wait for the end; one that does not come ends the service too, by the signal that people use."""
    try:
        return child.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.terminate()
        raise


def _wait_for_bars(folder, child):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and child.poll() is None:
        if (folder / "demo.db").is_file() and (folder / "service.log").is_file():
            database = open_database(f"sqlite:///{folder / 'demo.db'}")
            try:
                with database.read() as connection:
                    if read_steps(connection, 1):
                        return
            finally:
                database.close()
        time.sleep(0.2)
    raise AssertionError("no bar")


@NOT_ON_WINDOWS
def test_on_a_terminal_it_draws_a_table_and_ctrl_c_ends_it_cleanly(tmp_path):
    import pty
    import termios

    folder = tmp_path / "demo"
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 140))
    with _demo(folder, stdout=slave, stderr=slave, stdin=slave) as child, ThreadPoolExecutor() as reader:
        os.close(slave)
        drawn = bytearray()
        reading = reader.submit(_read_all, master, drawn)
        try:
            _wait_for_bars(folder, child)
            _wait_until(lambda: b"POSITION" in drawn)
        finally:
            child.send_signal(signal.SIGINT)
            _ended(child)
        reading.result()
        text = drawn.decode()
    os.close(master)
    assert child.returncode == 0, text
    assert "Crossover ETH" in text
    assert "POSITION" in text
    assert "5 bots, " in text
    assert _left_behind(folder) == []


def _read_all(descriptor, drawn):
    """Read a terminal into `drawn` until its other end is closed."""
    while True:
        try:
            drawn += os.read(descriptor, 65_536)
        except OSError:
            return


def _wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_folder_that_is_taken_is_left_alone(tmp_path, capsys):
    prepared(tmp_path)
    before = (tmp_path / "demo.db").read_bytes()
    assert main(["demo", "--dir", str(tmp_path)]) == 6
    assert (tmp_path / "demo.db").read_bytes() == before
    assert "scheduler run --config" in capsys.readouterr().err


def test_a_service_that_ends_by_itself_is_told(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "demo"
    monkeypatch.setattr(
        "scheduler.command.demo.SETTINGS", "[nonsense]\nurl = {url}\nx = {plugins}\ny = {settle_ms}\n"
    )
    assert main(["demo", "--dir", str(folder), "--seconds", "30"]) == 1
    assert "nonsense" in capsys.readouterr().err


def test_the_bots_of_the_demo_are_added_to_an_empty_table_only(database_url, tmp_path, monkeypatch, capsys):
    """What `make run` does: while the table has no bots it adds the demo's and says how to add others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONEBAR_DATABASE_URL", database_url)
    monkeypatch.setenv("ONEBAR_STRATEGIES__PLUGINS", json.dumps([str(BOTS / "strategies")]))
    settings = load_settings()
    added = add_bots_if_none(settings)
    assert len(added) == len(list(BOTS.glob("*.json")))
    assert "jobs add FILE" in capsys.readouterr().err
    assert add_bots_if_none(settings) == ()
    assert capsys.readouterr().err == ""
    database = open_database(database_url)
    with database.read() as connection:
        assert get_bot(connection, added[0]).enabled
        assert len(all_bots(connection)) == len(added)
    database.close()


def test_the_bots_of_the_demo_run_with_the_settings_of_the_checkout(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for key in [key for key in os.environ if key.startswith("ONEBAR_")]:
        monkeypatch.delenv(key)
    from jobs.command import main as jobs

    assert jobs(["validate", *map(str, sorted(BOTS.glob("*.json")))]) == 0
    assert capsys.readouterr().out.count(": valid") == 5
