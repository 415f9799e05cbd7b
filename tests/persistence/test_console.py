import json
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from stories import LIFE, NOW, add_bots, advance, save

from persistence.bots import all_bots
from persistence.console import Console, SchemaMissing, open_console
from persistence.database_errors import DatabaseUnavailable, NoSuchBot, PositionOpen
from persistence.ledger import history


@pytest.fixture
def console(database):
    with open_console(database.url) as opened:
        yield opened


def test_the_console_reads_what_everybody_reads(database, console):
    one, two, three = add_bots(database, 3)
    save(database, advance(one), advance(two, LIFE[:2]))
    with database.read() as connection:
        bots = all_bots(connection)
        assert tuple(each.bot for each in console.list()) == bots
        for bot in (one, two, three):
            assert console.trades(bot) == history.read_trades(connection, bot)
            assert console.history(bot, 3) == history.read_steps(connection, bot, 3)
            assert console.orders(bot) == history.read_orders(connection, bot)
            assert console.positions(bot) == history.open_positions(connection).get(bot, ())
    first, second, third = console.list()
    assert (first.version, first.last_bar, first.decided_at, first.took_ms) == (5, LIFE[-1][0], NOW, 0.5)
    assert first.positions == ()
    assert [each.quantity for each in second.positions] == [second.positions[0].quantity]
    assert (third.version, third.last_bar, third.equity, third.took_ms) == (0, None, None, None)
    assert console.show(two) == second
    assert console.show(99) is None
    assert console.list(user_id=2) == ()
    assert console.counts() == {"stopped": 3, "all": 3}


def test_what_the_console_does_is_what_the_service_sees(database, console):
    bot = console.add('{"name": "x"}', now_ms=NOW, user_id=4, schedule="* * * * *", actor="anna")
    assert console.show(bot).bot.schedule == "* * * * *"
    assert [console.pause(bot, actor="anna", reason="r"), console.pause(bot)] == [True, False]
    assert [console.resume(bot), console.resume(bot)] == [True, False]
    with database.read() as connection:
        (found,) = all_bots(connection)
    assert (found.paused, found.revision, found.status) == (False, 3, "stopped")
    assert [each.actor for each in console.audit(bot)] == ["jobs", "jobs", "anna", "anna", "anna"]
    console.remove(bot, reason="done")
    assert console.list() == ()
    for act in (console.pause, console.resume, console.remove):
        with pytest.raises(NoSuchBot):
            act(bot)


def test_a_bot_with_a_position_is_removed_only_by_force(database, console):
    (bot,) = add_bots(database)
    save(database, advance(bot, LIFE[:2]))
    with pytest.raises(PositionOpen):
        console.remove(bot)
    assert console.show(bot) is not None
    console.remove(bot, force=True)
    assert console.show(bot) is None


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    file = tmp_path / "none.db"
    with pytest.raises(DatabaseUnavailable, match="no database file"):
        Console(f"sqlite:///{file}")
    assert not file.exists()


def test_a_file_that_is_no_database_is_closed_again(tmp_path):
    file = tmp_path / "letter.db"
    file.write_text("Dear madam, " * 500)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        Console(f"sqlite:///{file}")
    assert str(file) not in [each.path for each in psutil.Process().open_files()]


def test_missing_tables_are_told(empty_url):
    if empty_url.startswith("sqlite"):
        Path(empty_url.removeprefix("sqlite:///")).touch()
    with Console(empty_url) as console, pytest.raises(SchemaMissing, match="scheduler db upgrade"):
        console.list()


def test_a_url_of_another_kind_is_refused_without_its_password():
    with pytest.raises(ValueError, match="mysql") as caught:
        Console("mysql://me:secret@host/x")
    assert "secret" not in str(caught.value)


HEAVY = ("sqlalchemy", "alembic", "pandas", "numpy", "ccxt", "backtrader", "pydantic", "apscheduler")
LISTING = """
import json, resource, sys
from persistence.console import Console
with Console(sys.argv[1]) as console:
    found = console.list()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([len(found), usage.ru_utime + usage.ru_stime, sorted(sys.modules)]))
"""


def test_the_console_starts_without_anything_heavy(database):
    add_bots(database, 50)
    answer = subprocess.run(
        [sys.executable, "-c", LISTING, database.url], check=True, capture_output=True, text=True
    )
    found, seconds, modules = json.loads(answer.stdout)
    print(f"{database.dialect}: {seconds:.2f} s CPU")
    assert found == 50
    assert [name for name in HEAVY if name in modules] == []
    assert ("psycopg" in modules) == (database.dialect == "postgresql")


def test_ten_thousand_bots_are_listed_quickly(database, console):
    with database.write() as connection:
        rows = ", ".join(['(\'{"name": "x"}\')'] * 10_000)
        connection.exec_driver_sql(f"INSERT INTO trading_bots (config) VALUES {rows}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert len(console.list()) == 10_000
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    print(f"{database.dialect}: {spent:.2f} s")
    assert spent < 3
