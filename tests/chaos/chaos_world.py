"""Services over one database, bots on one-second bars, and everything that can be done to them.

`Services` starts real `run_service` processes and keeps as many running as it was asked for.
`verify` compares what they left behind with one undisturbed run of the same bots.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg

from jobs.bar.firing import run_bars
from jobs.bar.runtime import open_runtime
from jobs.clock import SimulatedClock
from jobs.settings import Settings
from persistence.bots import add_bot, all_bots
from persistence.database import open_database
from persistence.database_errors import DatabaseUnavailable
from persistence.schema.tables import TIMING_COLUMNS, metadata
from persistence.schema.versions import upgrade

HERE = Path(__file__).resolve()
DEMO = HERE.parents[2] / "ops" / "demo"
SETTLE_MS = 300
COMPARED = ("bot_steps", "orders", "trading_trades", "trading_positions")

START = """
import sys
from jobs.settings import load_settings
from scheduler.service.daemon import run_service
sys.exit(run_service(load_settings()))
"""


def configurations(count, seed):
    shapes = [json.loads(file.read_text()) for file in sorted(DEMO.glob("*.json"))]
    for number in range(count):
        shape = json.loads(json.dumps(shapes[number % len(shapes)]))
        shape["id"] = f"chaos_{number}"
        shape["data"] |= {
            "data_source": "generated",
            "interval": "1s",
            "lookback_bars": 60,
            "seed": seed + number // 10,
        }
        yield json.dumps(shape)


def add_chaos_bots(url, count, seed):
    upgrade(url)
    database = open_database(url)
    with database.write() as connection:
        ids = [
            add_bot(connection, config=config, now_ms=int(time.time() * 1000))
            for config in configurations(count, seed)
        ]
    database.close()
    return ids


class Services:
    def __init__(self, url, folder, wanted):
        self.url = url
        self.folder = folder
        self.wanted = wanted
        self.processes = []
        self.ended = []
        self.hung = []  # workers that were stopped for good: nobody else ends those whose service died
        self.started = 0

    def environment(self):
        return os.environ | {
            "ONEBAR_DATABASE_URL": self.url,
            "ONEBAR_WORKERS__COUNT": "2",
            "ONEBAR_WORKERS__STEP_DEADLINE_S": "4",
            "ONEBAR_WORKERS__BATCH": "20",
            "ONEBAR_MARKETS__SETTLE_MS": str(SETTLE_MS),
            "ONEBAR_SERVICE__MAX_ERRORS": "100000",
            "ONEBAR_SERVICE__MAX_BACKOFF_S": "2",
            "ONEBAR_SERVICE__POLL_INTERVAL_S": "1",
            "ONEBAR_SERVICE__STOP_TIMEOUT_S": "5",
            "PYTHONPATH": str(HERE.parents[2]),
        }

    def keep(self):
        """Start what is missing, as systemd would."""
        for process in list(self.processes):
            if process.poll() is not None:
                self.processes.remove(process)
                self.ended.append(process.returncode)
        while len(self.processes) < self.wanted:
            self.started += 1
            with (self.folder / f"service-{self.started}.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", START],
                        env=self.environment(),
                        stderr=log,
                        stdout=log,
                        cwd=self.folder,
                    )
                )

    def leader(self, holder):
        """Return the process that holds the lease, as its holder's name says."""
        for process in self.processes:
            if holder is not None and f"-{process.pid}-" in holder:
                return process
        return self.processes[0] if self.processes else None

    def workers(self, process):
        with suppress(psutil.NoSuchProcess):
            return [child for child in psutil.Process(process.pid).children() if child.is_running()]
        return []

    def stop(self):
        """Ask all to stop; return their exit codes."""
        codes = []
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                codes.append(process.wait(40))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append("killed")
        self.processes = []
        return codes

    def kill_all(self):
        for worker in self.hung:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        for process in self.processes:
            for worker in self.workers(process):
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def read(url, sql, parameters=None):
    """Read past the proxy, with patience."""
    for _ in range(100):
        try:
            database = open_database(url)
            try:
                with database.read() as connection:
                    return connection.exec_driver_sql(sql, parameters or ()).all()
            finally:
                database.close()
        except (DatabaseUnavailable, psycopg.Error):
            time.sleep(0.1)
    raise TimeoutError(sql)


def all_caught_up(url, count, at_ms):
    """Whether every bot has committed a bar that opened at `at_ms` or later."""
    rows = read(url, "SELECT bot_id, max(bar) FROM bot_steps GROUP BY bot_id")
    return len(rows) == count and all(newest >= at_ms for _, newest in rows)


def verify(url, folder, undisturbed):
    """Compare with an undisturbed run; return (bars expected, bars found, bars twice, differences)."""
    database = open_database(url)
    with database.read() as connection:
        bots = all_bots(connection)
        rows = connection.exec_driver_sql(
            "SELECT bot_id, bar, version FROM bot_steps ORDER BY bot_id, version"
        ).all()
    expected = found = twice = 0
    faults = []
    by_bot = {}
    for bot_id, bar, version in rows:
        by_bot.setdefault(bot_id, []).append((version, bar))
    for bot in bots:
        steps = by_bot.get(bot.id, [])
        bars = [bar for _, bar in steps]
        length = interval_of(bot)
        expected += (bars[-1] - bars[0]) // length + 1 if bars else 0
        found += len(set(bars))
        twice += len(bars) - len(set(bars))
        if bars != list(range(bars[0], bars[-1] + 1, length)):
            faults.append(f"bot {bot.id}: bars are not all there once and in order")
        if [version for version, _ in steps] != list(range(1, len(steps) + 1)):
            faults.append(f"bot {bot.id}: versions are not 1, 2, 3...")
    compared = [bot for bot in bots if bot.id in undisturbed]
    reference = run_undisturbed(compared, by_bot, folder / "reference.db")
    for bot in compared:
        for table in COMPARED:
            ours, theirs = ledger(database, table, bot.id), ledger(reference, table, bot.id)
            if ours != theirs:
                pairs = zip(ours, theirs, strict=False)
                first = next((pair for pair in pairs if pair[0] != pair[1]), (len(ours), len(theirs)))
                faults.append(f"bot {bot.id}: {table} differs: {first}")
    database.close()
    reference.close()
    return expected, found, twice, faults


def interval_of(bot):
    interval = json.loads(bot.config)["data"]["interval"]
    return int(interval[:-1]) * 1000


def run_undisturbed(bots, by_bot, file):
    """Run every bot from its beginning to its last bar in one go, in this process, on SQLite."""
    url = f"sqlite:///{file}"
    upgrade(url)
    clock = SimulatedClock(0)
    settings = Settings.model_validate({"database": {"url": url}, "markets": {"settle_ms": SETTLE_MS}})
    rt = open_runtime(settings, clock=clock)
    for bot in bots:
        started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(bot.started_at // 1000))
        with rt.database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO trading_bots (id, config, started_at, status) VALUES (?, ?, ?, 'running')",
                (bot.id, bot.config, f"{started}.{bot.started_at % 1000:03d}Z"),
            )
        clock.at_ms = by_bot[bot.id][-1][1] + interval_of(bot) + SETTLE_MS
        while (outcome := run_bars([bot.id], rt)[0]).behind:
            assert outcome.failure is None, outcome
    return rt.database


def ledger(database, name, bot_id):
    table = metadata.tables[name]
    columns = [column for column in table.columns if column.name not in TIMING_COLUMNS.get(name, ())]
    with database.read() as connection:
        return sorted(
            (
                tuple(row)
                for row in connection.execute(
                    table.select().with_only_columns(*columns).where(table.c.bot_id == bot_id)
                )
            ),
            key=repr,
        )
