"""`scheduler replay`: every bar of every bot once, at its close, and on from the cursors after any stop."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from jobs.settings import Settings
from persistence import runs
from persistence.bots import add_bot, all_bots, edit_bot, set_paused
from persistence.database import open_database
from persistence.ledger.history import read_steps
from scheduler.command.verbs import main
from tests.crash.snapshots import differences, snapshot
from tests.strategies.broken_configs import BROKEN, REFERENCE, text_of

MINUTE = 60_000
HOUR = 60 * MINUTE
BEGIN = 1_609_459_200_000  # 2021-01-01
SETTLE = Settings().markets.settle_ms
PATIENCE_S = 120  # machines that run other tests beside this one are slow
HOLES = {30, 31, 32, 77}  # hours that the file lacks

STRATEGIES = """
import backtrader as bt


class Cross(bt.Strategy):
    params = (("fast", 2), ("slow", 5))

    def __init__(self):
        self.cross = bt.ind.CrossOver(
            bt.ind.SMA(self.data, period=self.p.fast), bt.ind.SMA(self.data, period=self.p.slow)
        )

    def next(self):
        if self.cross > 0:
            self.buy()
        elif self.cross < 0 and self.position:
            self.close()


class Failing(bt.Strategy):
    params = (("at", 0),)

    def next(self):
        if len(self.data) == self.p.at:
            raise ValueError("no such luck")
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for key in [key for key in os.environ if key.startswith("ONEBAR_")]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine.py").write_text(STRATEGIES)
    (tmp_path / "scheduler.toml").write_text('[strategies]\nplugins = ["plugins"]\n')
    rows = ["timestamp,open,high,low,close,volume"]
    for hour in set(range(200)) - HOLES:
        price = 100 + (hour * 37 % 23) + (hour % 5)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(BEGIN // 1000 + hour * 3600))
        rows.append(f"{moment},{price},{price + 2},{price - 2},{price + 1},{10 + hour % 3}")
    (tmp_path / "gaps.csv").write_text("\n".join([rows[0], *sorted(rows[1:])]) + "\n")
    return tmp_path


def _config(strategy="mine:Cross", interval="1h", lookback=0, source=None, **parameters):
    data = source or {"data_source": "csv", "file": "gaps.csv"}
    return json.dumps(
        {
            "id": "bot",
            "symbol": "BTCUSDT",
            "strategy": {"type": strategy, "parameters": parameters},
            "data": {**data, "interval": interval, "lookback_bars": lookback},
        }
    )


def _generated(interval, **more):
    return _config(interval=interval, source={"data_source": "generated", "seed": 5}, **more)


def _add(database, *configs):
    with database.write() as connection:
        return [add_bot(connection, config=config, now_ms=1) for config in configs]


def _replay(url, begin=0, end=200, *options):
    """Replay from hour `begin` to hour `end` of 2021."""
    moments = [
        time.strftime("%Y-%m-%dT%H:%M", time.gmtime(BEGIN // 1000 + hour * 3600)) for hour in (begin, end)
    ]
    return main(["replay", "--from", moments[0], "--to", moments[1], "--db", url, *options])


def _steps(database, bot_id):
    with database.read() as connection:
        return read_steps(connection, bot_id)[::-1]


def _bot(database, bot_id):
    with database.read() as connection:
        (found,) = [bot for bot in all_bots(connection) if bot.id == bot_id]
    return found


def test_every_bar_is_stepped_once_at_its_own_close_and_gaps_stay_gaps(database, database_url, capsys):
    """One bar a boundary: the moment of each decision is the simulated close of its bar."""
    bot_id, twin = _add(database, _config(), _config(fast=3))
    assert _replay(database_url) == 0
    expected = [BEGIN + hour * HOUR for hour in range(200) if hour not in HOLES]
    for each in (bot_id, twin):
        steps = _steps(database, each)
        assert [step.bar for step in steps] == expected
        assert [step.decided_at for step in steps] == [bar + HOUR + SETTLE for bar in expected]
        assert [step.version for step in steps] == list(range(1, len(expected) + 1))
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"2 bots, {2 * len(expected)} bars, ")
    assert line.endswith(" bars/s")


def test_bars_outside_from_and_to_are_left_alone(database, database_url):
    (bot_id,) = _add(database, _config())
    assert _replay(database_url, 10, 20) == 0
    bars = [(step.bar - BEGIN) // HOUR for step in _steps(database, bot_id)]
    assert bars == list(range(10, 20))


def test_lookback_bars_come_before_from_and_decide_no_orders(database, database_url):
    (bot_id,) = _add(database, _config(lookback=40))
    assert _replay(database_url, 100, 150) == 0
    steps = _steps(database, bot_id)
    assert [(step.bar - BEGIN) // HOUR for step in steps] == [h for h in range(60, 150) if h not in HOLES]
    before = [step for step in steps if step.bar < BEGIN + 100 * HOUR]
    assert all(step.cash == 10_000 and json.loads(step.positions) == {} for step in before)
    assert any(step.cash != 10_000 for step in steps)


def test_a_longer_replay_goes_on_from_the_cursor_as_if_it_had_never_stopped(database_url, place):
    database = open_database(database_url)
    _add(database, _config(lookback=30), _generated("30m", lookback=20), _generated("1h", fast=3))
    assert _replay(database_url, 10, 77) == 0
    assert _replay(database_url, 10, 120) == 0
    assert _replay(database_url, 10, 120) == 0
    in_parts = snapshot(database_url)
    assert all(in_parts[table] for table in ("bot_states", "bot_steps", "orders", "trading_trades"))
    whole_url = f"sqlite:///{place / 'whole.db'}"
    main(["db", "upgrade", "--db", whole_url])
    whole = open_database(whole_url)
    _add(whole, _config(lookback=30), _generated("30m", lookback=20), _generated("1h", fast=3))
    assert _replay(whole_url, 10, 120) == 0
    at_once = snapshot(whole_url)
    database.close()
    whole.close()
    for table in ("bot_steps", "orders", "trading_trades", "trading_positions", "bars"):
        assert not differences({table: at_once[table]}, {table: in_parts[table]})


def test_bots_of_several_intervals_and_sources_each_get_their_own_bars(database, database_url):
    hourly, half, quarter = _add(database, _config(), _generated("30m"), _generated("15m"))
    assert _replay(database_url, 0, 12) == 0
    assert [len(_steps(database, each)) for each in (hourly, half, quarter)] == [12, 24, 48]
    assert _steps(database, quarter)[-1].bar == BEGIN + 12 * HOUR - 15 * MINUTE


def test_only_the_bots_named(database, database_url, capsys):
    first, second = _add(database, _config(), _config())
    assert _replay(database_url, 0, 5, "--bot", str(second)) == 0
    assert (len(_steps(database, first)), len(_steps(database, second))) == (0, 5)
    assert _replay(database_url, 0, 5, "--bot", "99999") == 4
    assert "no bot 99999" in capsys.readouterr().err


def test_what_people_have_stopped_stays_stopped(database, database_url, capsys):
    paused, disabled, runs = _add(database, _config(), _config(), _config())
    with database.write() as connection:
        set_paused(connection, paused, paused=True)
        edit_bot(connection, disabled, {"enabled": False})
    assert _replay(database_url, 0, 5) == 0
    assert [len(_steps(database, each)) for each in (paused, disabled, runs)] == [0, 0, 5]
    err = capsys.readouterr().err
    assert f"bot {paused} is left out: it is paused" in err
    assert f"bot {disabled} is left out: it is disabled" in err
    assert _replay(database_url, 0, 5, "--bot", str(paused)) == 3


def test_a_pause_of_today_suppresses_no_order_of_the_past(database, database_url):
    (bot_id,) = _add(database, _config())
    with database.write() as connection:
        set_paused(connection, bot_id, paused=True)
        set_paused(connection, bot_id, paused=False)
    assert _bot(database, bot_id).resumed_at > BEGIN
    assert _replay(database_url, 0, 60) == 0
    assert any(step.cash != 10_000 for step in _steps(database, bot_id))


def test_a_bot_that_fails_is_named_and_the_others_go_on(database, database_url, capsys):
    """R2.3: a failing bot is isolated; its bars up to the failing one count."""
    good, bad = _add(database, _config(), _config("mine:Failing", at=7))
    assert _replay(database_url, 0, 20) == 1
    assert len(_steps(database, good)) == 20
    assert len(_steps(database, bad)) == 6
    assert "no such luck" in capsys.readouterr().err
    row = _bot(database, bad)
    assert row.error_count > 0
    assert "no such luck" in row.last_error


def test_broken_rows_say_error_and_why_and_valid_bots_go_on_beside_them(sqlite_url, capsys):
    """Bad input: rows broken by plain SQL; each row says `error` and why (R1.4, R8.5)."""
    database = open_database(sqlite_url)
    first, *_ = _add(database, _config())
    broken = {}
    for case in BROKEN:
        # Those that run after all, by falling back, must not ask an exchange.
        text = text_of(case)
        if not case.faults[0][0].startswith("data."):
            text = text.replace('"data_source": "binance"', '"data_source": "generated"')
        with database.write() as connection:
            row = connection.exec_driver_sql(
                "INSERT INTO trading_bots (config) VALUES (?) RETURNING id",
                (text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"),),
            )
            broken[row.scalar_one()] = case
    last, *_ = _add(database, _config(fast=3))
    assert _replay(sqlite_url, 0, 10) == 1
    for bot_id in (first, last):
        assert len(_steps(database, bot_id)) == 10
        assert _bot(database, bot_id).status == "running"
    for bot_id, case in broken.items():
        row = _bot(database, bot_id)
        if row.status != "error":
            # R3.3: an unknown strategy type falls back to CustomStrategy; a surrogate was replaced above.
            assert case.faults[0][0] in {"strategy.type", "name"}, case.name
            continue
        assert case.faults[0][0] in row.last_error, case.name
    assert sum(_bot(database, bot_id).status == "error" for bot_id in broken) >= 60
    database.close()
    assert "bot" in capsys.readouterr().err


def test_json_that_is_no_configuration_in_postgresql(postgres_url):
    database = open_database(postgres_url)
    (good,) = _add(database, _config())
    with database.write() as connection:
        for text in ("[]", "{}", "null", "7", json.dumps({**REFERENCE, "symbol": 5})):
            connection.exec_driver_sql("INSERT INTO trading_bots (config) VALUES (%s)", (text,))
    assert _replay(postgres_url, 0, 10) == 1
    assert len(_steps(database, good)) == 10
    with database.read() as connection:
        assert [bot.status for bot in all_bots(connection)] == ["running", *["error"] * 5]
    database.close()


def test_a_database_without_tables_is_refused(empty_url, capsys):
    assert _replay(empty_url, 0, 1) == 1
    assert "scheduler db upgrade" in capsys.readouterr().err


def test_a_service_that_runs_is_not_disturbed(database, database_url, capsys):
    (bot_id,) = _add(database, _config())
    now = time.time_ns() // 1_000_000
    begun = runs.Run("r", "host", 4711, None, "leader", now, now)
    with database.write() as connection:
        runs.begin_run(connection, begun)
    assert _replay(database_url) == 75
    assert "pid 4711" in capsys.readouterr().err
    with database.write() as connection:
        runs.end_run(connection, "r", now_ms=now, clean=True)
    assert _replay(database_url, 0, 5) == 0
    assert len(_steps(database, bot_id)) == 5


def test_moments_are_checked_before_anything_is_done(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["replay", "--from", "yesterday", "--to", "2021-01-01"])
    assert ended.value.code == 2
    assert "ISO 8601" in capsys.readouterr().err
    assert main(["replay", "--from", "2021-01-02", "--to", "2021-01-01", "--db", "sqlite:///x.db"]) == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_batch_and_the_same_command_goes_on(database, sqlite_url, number):
    (bot_id,) = _add(database, _generated("1m"))
    command = [sys.executable, "-m", "scheduler.command", "replay", "--db", sqlite_url]
    command += ["--from", "2021-01-01", "--to", "2021-01-01T05:00"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_env()
    ) as child:
        try:
            _wait_for_a_step(database, bot_id, child)
            child.send_signal(number)
            out, err = child.communicate(timeout=PATIENCE_S)
        finally:
            child.kill()
    assert child.returncode == 130, err
    assert "the same command goes on from there" in err
    so_far = len(_steps(database, bot_id))
    assert 0 < so_far < 300
    assert out.startswith(f"1 bots, {so_far} bars, ")
    if number == signal.SIGTERM:
        return  # one of the two is enough for what follows
    done = subprocess.run(command, capture_output=True, text=True, env=_env(), check=False)
    assert done.returncode == 0, done.stderr
    assert [step.bar for step in _steps(database, bot_id)] == [BEGIN + each * MINUTE for each in range(300)]
    assert done.stdout.startswith(f"1 bots, {300 - so_far} bars, ")


def _wait_for_a_step(database, bot_id, child):
    deadline = time.monotonic() + PATIENCE_S
    while not _steps(database, bot_id):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)


def _env():
    from pathlib import Path

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
