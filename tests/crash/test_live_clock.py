"""R4 of the schedule, R5.5, R9.4: the real service on the real clock, killed and started again.

Bots on generated one-second bars: no bar twice, none missing, in order; the bot that was paused
stays paused over every restart; the ledger is that of one replay over the same bars.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from snapshots import differences, snapshot
from worlds import PLUGINS, custom_strategy, plugin

from persistence.bots import add_bot, get_bot, set_paused
from persistence.database import open_database
from persistence.schema.tables import bot_states, bot_steps, trading_bots

SECOND = 1_000
KILLS = 4
SCHEDULER = Path(sys.executable).with_name("scheduler")
STRATEGIES = (
    custom_strategy(),
    plugin("sma_cross:SmaCross", fast=2, slow=5),
    plugin("channel_breakout:ChannelBreakout", period=4, hold=4),
)


def config_of(number):
    return json.dumps(
        {
            "id": f"live{number}",
            "name": f"Live {number}",
            "symbol": "BTCUSDT",
            "broker": {"type": "paper", "trading_mode": "paper", "cash": 10_000.0},
            "strategy": STRATEGIES[number % len(STRATEGIES)],
            "data": {"data_source": "generated", "seed": number, "interval": "1s", "lookback_bars": 20},
        }
    )


class Service:
    """`scheduler run` in a process of its own, in a group of its own so that its workers die with it."""

    def __init__(self, url, folder):
        self.environment = os.environ | {"ONEBAR_DATABASE_URL": url, "ONEBAR_WORKERS__COUNT": "2"}
        self.folder = folder
        self.log = (folder / "service.log").open("ab")
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [SCHEDULER, "run"], cwd=self.folder, env=self.environment, stdout=self.log, stderr=self.log,
            start_new_session=True,
        )  # fmt: skip

    def kill(self):
        """Kill the service itself; its workers notice that they are alone and end, as in real life."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


@pytest.fixture
def service_on(tmp_path):
    """Give a function that makes the service of a database; it is gone at the end of the test."""
    (tmp_path / "scheduler.toml").write_text(
        f'[strategies]\nplugins = ["{PLUGINS.as_posix()}"]\n'
        "[markets]\nsettle_ms = 200\n[service]\nlease_ttl_s = 2.0\n"
    )
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(closing(Service(url, tmp_path)))


@pytest.fixture
def service(database_url, service_on):
    return service_on(database_url)


def wait_for(condition, what, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def cursors(database):
    with database.read() as connection:
        return dict(connection.execute(sa.select(bot_states.c.bot_id, bot_states.c.last_bar)).all())


def slowest(database, bots):
    return min(cursor for bot, cursor in cursors(database).items() if bot in bots)


def bars_of(database, bot_id):
    with database.read() as connection:
        query = sa.select(bot_steps.c.bar).where(bot_steps.c.bot_id == bot_id)
        return list(connection.scalars(query.order_by(bot_steps.c.bar)))


@pytest.mark.timeout(400)
def test_no_bar_twice_none_missing_and_paused_stays_paused(service, database, new_replay_world):
    with database.write() as connection:
        now = time.time_ns() // 1_000_000
        bots = [add_bot(connection, config=config_of(number), now_ms=now) for number in range(6)]
    paused, *running = bots
    service.start()
    wait_for(lambda: len(cursors(database)) == len(bots), "every bot has stepped")
    with database.write() as connection:
        set_paused(connection, paused, paused=True)
    stood = cursors(database)[paused]

    rng = random.Random(7)
    for _ in range(KILLS):
        before = slowest(database, running)
        time.sleep(rng.uniform(0.2, 2.0))
        service.kill()
        time.sleep(rng.uniform(0.0, 2.0))
        service.start()
        wait_for(lambda past=before + SECOND: slowest(database, running) > past, "bars go on")
    time.sleep(3)
    assert service.stop() == 0, (service.folder / "service.log").read_text()[-3_000:]

    found = cursors(database)
    assert found[paused] == stood
    with database.read() as connection:
        assert get_bot(connection, paused).paused
    for bot in running:
        bars = bars_of(database, bot)
        assert bars == list(range(bars[0], bars[-1] + SECOND, SECOND)), f"bot {bot}"
        assert bars[-1] == found[bot]
        assert len(bars) > 20 + KILLS
    assert_ledgers_equal_a_replay(service, database, running, new_replay_world)


@pytest.mark.timeout(300)
def test_a_file_that_is_locked_for_half_a_minute_costs_no_bar(sqlite_url, tmp_path, service_on):
    """R8.6: the service lives, says that it is not well, and catches up when the lock is gone."""
    service = service_on(sqlite_url)
    database = open_database(sqlite_url)
    with database.write() as connection:
        bots = [add_bot(connection, config=config_of(number), now_ms=0) for number in range(3)]
    service.start()
    wait_for(lambda: len(cursors(database)) == len(bots), "every bot has stepped")
    locker = sqlite3.connect(tmp_path / "onebar.db", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    stood = slowest(database, bots)
    time.sleep(30)
    status = subprocess.run(
        [SCHEDULER, "status"],
        cwd=tmp_path,
        env=service.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    locker.execute("ROLLBACK")
    locker.close()
    assert status.returncode != 0, status.stdout
    wait_for(lambda: slowest(database, bots) > stood + 33 * SECOND, "bars are caught up")
    assert service.stop() == 0
    for bot in bots:
        bars = bars_of(database, bot)
        assert bars == list(range(bars[0], bars[-1] + SECOND, SECOND)), f"bot {bot}"
    database.close()


def assert_ledgers_equal_a_replay(service, database, running, new_replay_world):
    """Replay the bots' seconds from where they really began, in a fresh database, and compare the ledgers."""
    with database.read() as connection:
        began = {bot: get_bot(connection, bot).started_at for bot in running}
    ended = cursors(database)
    live = snapshot(service.environment["ONEBAR_DATABASE_URL"])
    for bot in running:
        replayed = new_replay_world(bot, config_of(bot - 1), began[bot], ended[bot] + SECOND)
        for table, key in (("bot_steps", 0), ("trading_trades", 0), ("orders", 0)):
            ours = [row for row in live[table] if row[key] == bot]
            assert differences({table: ours}, {table: replayed[table]}) == [], f"bot {bot}"


@pytest.fixture
def new_replay_world(new_database_of_kind, tmp_path):
    """Give a function that replays one bot under the same number in a fresh database."""

    def replay(number, config, begin, end):
        url = new_database_of_kind()
        fresh = open_database(url)
        with fresh.write() as connection:
            bot = add_bot(connection, config=config, now_ms=0)
            connection.execute(trading_bots.update().where(trading_bots.c.id == bot).values(id=number))
        fresh.close()
        command = [SCHEDULER, "replay", "--from", iso(begin), "--to", iso(end)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"ONEBAR_DATABASE_URL": url},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return snapshot(url)

    return replay


def iso(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1_000)) + f".{ms % 1_000:03d}Z"


@pytest.fixture
def new_database_of_kind(sqlite_template, tmp_path):
    """Give a function for fresh files: what a replay decides does not depend on the database."""
    numbers = iter(range(1_000))

    def new():
        file = tmp_path / f"replay{next(numbers)}.db"
        file.write_bytes(sqlite_template.read_bytes())
        return f"sqlite:///{file}"

    return new
