"""R2.3, R4.3, R8.5, R12.1: any value in any column is the fault of that row, named, and of nobody else's."""

import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from test_bar import INTERVAL, START, advance, config_text, row_of

from jobs.bar.firing import run_bars
from jobs.bar.runtime import open_runtime
from jobs.clock import SimulatedClock
from jobs.command.documents import bot_document, step_document, trade_document, whole_bot_document
from jobs.command.listing import bot_cells, more_bot_cells, step_cells, trade_cells
from jobs.desk import looking
from jobs.desk.actor import Actor
from jobs.desk.looking import Timing
from jobs.desk.outline import outline
from jobs.settings import Settings
from ops.health import status_of
from persistence.bots import add_bot
from persistence.console import Console
from persistence.schema.tables import metadata
from persistence.schema.versions import upgrade
from scheduler.service.jobstore import BotJobStore
from scheduler.service.reconcile import Reconciliation

ATTACK = bool(os.environ.get("ONEBAR_ATTACK"))
ACTOR = Actor("test")
PLUGINS = Path(__file__).parents[1] / "plugin_strategies"
VALUES = {
    "text": "'abc'", "empty": "''", "blob": "x'ff00fe'", "huge": "9e300", "large": "9223372036854775807",
    "negative": "-5", "nan": "'NaN'", "surrogate": "CAST(x'eda080' AS TEXT)",
}  # fmt: skip
WHOSE = {
    "trading_bots": "id = 1",
    "bars": "symbol = 'BTCUSDT'",
    "apscheduler_jobs": "id = 'bot:1'",
    "configurations": "digest = (SELECT configuration FROM bot_states WHERE bot_id = 1)",
}
COLUMNS = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    # Another id is another bot, and a lease is the service's own: nobody else has a right to it.
    if (table.name, column.name) != ("trading_bots", "id") and table.name != "leases"
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Give the file of a database with three bots that have run, a service that has led, and its jobs."""
    file = tmp_path_factory.mktemp("sound") / "bots.db"
    running(f"sqlite:///{file}").database.close()
    with sqlite3.connect(file) as plain:
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


def running(url):
    rt = at(url, START)
    with rt.database.write() as connection:
        for symbol in ("BTCUSDT", "ETHUSDT", "XRPUSDT"):
            text = config_text("alternating:Alternating").replace("BTCUSDT", symbol)
            add_bot(connection, config=text, now_ms=START)
        connection.exec_driver_sql(
            "INSERT INTO service_runs VALUES ('one', 'here', 1, NULL, 'leader',"
            " '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', NULL, NULL, '{}')"
        )
    reconciled(rt)
    run_bars([1, 2, 3], rt)
    advance(rt, 3)
    return rt


def opened(file, at_ms):
    return at(f"sqlite:///{file}", at_ms)


def at(url, at_ms):
    settings = Settings(database={"url": url}, strategies={"plugins": (PLUGINS,)}, markets={"settle_ms": 0})
    upgrade(settings.database.url)
    return open_runtime(settings, clock=SimulatedClock(at_ms))


def reconciled(rt):
    store = BotJobStore(rt.database)
    found = Reconciliation(rt.database, store, rt.settings, rt.clock)
    found.run()
    found.restore()
    store.claim_due(rt.clock.now_ms() + 10**9)
    return found


def looked_at(url, now):
    """Ask what list, show, history and status ask, and write it as they do."""
    timing = Timing(now=now, settle=0)
    with Console(url) as console:
        for overview in looking.list_bots(console, ACTOR):
            seen = outline(overview.bot.config)
            bot_cells(overview, seen, timing, "utc")
            more_bot_cells(overview, seen, timing)
            bot_document(overview, timing)
            for step in looking.history(console, ACTOR, overview.bot.id):
                step_cells(step, now, "utc")
                step_document(step)
            for trade in looking.trades(console, ACTOR, overview.bot.id):
                trade_cells(trade, now, "utc")
                trade_document(trade)
            whole_bot_document(looking.show(console, ACTOR, overview.bot.id), timing)


def damaged(file, table, column, value):
    """Put a value into the rows of bot 1; return whether the database let us."""
    which = WHOSE.get(table, "bot_id = 1")
    names = {column.name for column in metadata.tables[table].columns}
    if which == "bot_id = 1" and "bot_id" not in names:
        which = "true"
    plain = sqlite3.connect(file)
    try:
        with plain:
            # One row where the key would clash.
            plain.execute(
                f"UPDATE {table} SET {column} = {value} WHERE {which}"
                if column not in {"open_time", "bar", "number", "key", "client_order_id"}
                else f"UPDATE {table} SET {column} = {value} WHERE {which} AND {column} ="
                f" (SELECT max({column}) FROM {table} WHERE {which})"
            )
    except (sqlite3.IntegrityError, sqlite3.OperationalError):
        return False  # refused at the door, which is better
    finally:
        plain.close()
    return True


CASES = [(table, column, kind) for table, column in COLUMNS for kind in VALUES]
CASES = [case for number, case in enumerate(CASES) if ATTACK or number % 7 == 0]


@pytest.mark.parametrize("table", sorted({table for table, _, _ in CASES}))
def test_a_value_that_does_not_belong_there_stops_nobody_else(sound, tmp_path, table):
    """Every column; the other bots go on, lists and status work."""
    for _, column, kind in [case for case in CASES if case[0] == table]:
        for old in tmp_path.glob("bots.db*"):
            old.unlink()
        file = shutil.copy(sound, tmp_path / "bots.db")
        if damaged(file, table, column, VALUES[kind]):
            rt = opened(file, START + 3 * INTERVAL)
            try:
                others_go_on(rt)
            except Exception as exc:
                where = f"{table}.{column} = {VALUES[kind]}"
                raise AssertionError(f"{where}: {type(exc).__name__}: {exc}") from exc
            finally:
                rt.database.close()


def others_go_on(rt):
    reconciled(rt)
    looked_at(rt.settings.database.url, rt.clock.now_ms())
    rt.clock.at_ms += INTERVAL
    outcomes = {outcome.bot_id: outcome for outcome in run_bars([1, 2, 3], rt)}
    assert [(outcomes[bot].failure, outcomes[bot].bars) for bot in (2, 3)] == [(None, 1)] * 2
    looked_at(rt.settings.database.url, rt.clock.now_ms())
    status_of(rt.database, rt.clock.now_ms())
    row = row_of(rt, 1)
    assert not row.broken or (row.status == "error" and row.last_error)


def test_a_damaged_row_says_what_is_wrong_and_what_mends_it(sound, tmp_path):
    file = shutil.copy(sound, tmp_path / "bots.db")
    damaged(file, "trading_bots", "revision", "'abc'")
    rt = opened(file, START + 4 * INTERVAL)
    run_bars([1], rt)
    assert row_of(rt, 1).last_error == (
        "configuration: the rows of bot 1 are damaged: revision: found 'abc', allowed: a whole number;"
        " set it right by SQL, then: jobs resume 1"
    )
    rt.database.close()


def test_a_schedule_that_was_dropped_is_made_anew(sound, tmp_path):
    """apscheduler_jobs is a cache."""
    file = shutil.copy(sound, tmp_path / "bots.db")
    with sqlite3.connect(file) as plain:
        plain.execute("DROP TABLE apscheduler_jobs")
    rt = opened(file, START + 3 * INTERVAL)
    assert sorted(reconciled(rt).jobs) == [1, 2, 3]
    assert sorted(BotJobStore(rt.database).rows()[0]) == [1, 2, 3]
    rt.database.close()


def test_thousands_of_unreadable_jobs_are_one_line_of_the_log(sound, tmp_path):
    file = shutil.copy(sound, tmp_path / "bots.db")
    with sqlite3.connect(file) as plain:
        junk = [(f"junk:{number}", 1.0, "{") for number in range(5000)]
        plain.executemany("INSERT INTO apscheduler_jobs VALUES (?, ?, ?)", junk)
    rt = opened(file, START + 3 * INTERVAL)
    began = time.monotonic()
    assert sorted(reconciled(rt).jobs) == [1, 2, 3]
    assert time.monotonic() - began < 5
    rt.database.close()


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE trading_bots SET started_at = 'infinity' WHERE id = 1",
        "UPDATE trading_bots SET last_heartbeat = '-infinity', total_pnl = 'NaN' WHERE id = 1",
        "UPDATE trading_bots SET created_at = '20000-01-01', error_count = 2147483647 WHERE id = 1",
        "UPDATE bot_states SET last_bar = 9223372036854775807 WHERE bot_id = 1",
        "UPDATE trading_positions SET quantity = 'NaN' WHERE bot_id = 1",
        "UPDATE bot_steps SET decided_at = 'infinity', equity = 'NaN', positions = '[' WHERE bot_id = 1",
        "UPDATE apscheduler_jobs SET next_run_time = 'NaN' WHERE id = 'bot:1'",
        "UPDATE apscheduler_jobs SET next_run_time = '-Infinity' WHERE id = 'bot:1'",
        "INSERT INTO service_runs VALUES ('x', '', 1, NULL, '', 'infinity', 'infinity', NULL, NULL, '[')",
    ],
)
def test_what_postgresql_lets_into_its_columns_stops_nobody_else(postgres_database, edit):
    rt = running(postgres_database)
    with rt.database.write() as connection:
        connection.exec_driver_sql(edit)
    others_go_on(rt)
    rt.database.close()
