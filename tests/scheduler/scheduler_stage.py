"""Hand-written stand-ins for the tests of this room: a crew that only remembers, a clock that obeys."""

import json
import queue
import threading
import time
from contextlib import suppress

from jobs.settings import Settings
from ops.pulse import Pulse
from persistence import bots, runs
from persistence.database_errors import DatabaseUnavailable
from scheduler.crew.crew_state import CrewState
from scheduler.service.leadership import Leadership
from scheduler.service.loop import BotScheduler


class SetClock:
    """A wall clock that moves with real time and can be set."""

    def __init__(self, at_ms=None):
        self.shift_ms = 0 if at_ms is None else at_ms - time.time_ns() // 1_000_000

    def now_ms(self):
        return time.time_ns() // 1_000_000 + self.shift_ms

    def step(self, by_ms):
        self.shift_ms += by_ms


class RememberingCrew:
    """Takes alarms and does nothing with them."""

    def __init__(self):
        self.alarms = []
        self.charges = queue.SimpleQueue()
        self.lease_lost = threading.Event()
        self.rebuilt = threading.Event()
        self.pulse = Pulse("crew", fatal_s=None)
        self.leads = []
        self.released = []

    def fire(self, alarms):
        self.alarms.extend(alarms)

    def lead(self, fence, *, leads):
        self.leads.append((fence, leads))

    def keep(self, bot_ids):
        pass

    def let_go(self, bot_id, group, retry_at_ms):
        self.released.append((bot_id, group, retry_at_ms))

    def busy_with(self, _):
        return False

    def last_outcome(self, _):
        return None

    def state(self):
        return CrewState(1, 1, 0, 0, 0, 0.0, 0, 0, 0, ())

    def of(self, bot_id):
        return [alarm for alarm in self.alarms if alarm.bot_id == bot_id]


def bot_config(name="b", interval="1s", **changes):
    return json.dumps(
        {
            "id": name,
            "symbol": "BTCUSDT",
            "broker": {"type": "binance", "trading_mode": "paper", "cash": 1000.0},
            "strategy": {"type": "sma_cross:SmaCross", "parameters": {}},
            "data": {"data_source": "generated", "interval": interval, "lookback_bars": 5},
            **changes,
        }
    )


def add_bots(database, count, interval="1s", **row):
    """Insert bots and return their ids."""
    now = int(time.time() * 1000)
    with database.write() as connection:
        return [
            bots.add_bot(connection, config=bot_config(f"b{number}", interval), now_ms=now, **row)
            for number in range(count)
        ]


def settings_for(url, **sections):
    return Settings.model_validate({"database": {"url": url}, **sections})


class Stage:
    """A scheduler of ours over a real database, with a crew that remembers; the loop runs if started."""

    def __init__(self, database, clock=None, *, name="one", **sections):
        self.database = database
        self.clock = clock or SetClock()
        self.crew = RememberingCrew()
        self.settings = settings_for(database.url, **sections)
        self.leadership = Leadership(database, name="scheduler", holder=name, ttl_s=6.0)
        now = self.clock.now_ms()
        run = runs.Run(f"{name}-{now}", "here", 1, None, "starting", now, now)
        with suppress(DatabaseUnavailable), database.write() as connection:
            runs.begin_run(connection, run)
        self.scheduler = BotScheduler(database, self.settings, self.crew, self.leadership, run, self.clock)
        self.thread = None

    def led(self):
        self.leadership.attempt()
        return self

    def start(self):
        self.led()
        self.thread = threading.Thread(target=self.scheduler.start, daemon=True)
        self.thread.start()
        self.scheduler.pulse.begin(self.thread)
        return self

    def one_pass(self):
        return self.scheduler._process_jobs()

    def stop(self):
        self.scheduler.shutdown()
        if self.thread is not None:
            self.thread.join(20)


def wait_for(condition, timeout_s=10.0):
    """Wait until `condition()` is true and return whether it became so."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())
