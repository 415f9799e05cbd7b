import json
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from stories import LIFE, NOW, add_bots, advance, save

from persistence import bots
from persistence.audit import read_audit
from persistence.console import Console, SchemaMissing
from persistence.database_errors import DatabaseFault, DatabaseUnavailable, NoSuchBot, PositionOpen
from persistence.ledger import history
from persistence.overviews import overviews


@pytest.fixture
def console(database):
    with Console(database.url) as opened:
        yield opened


def seen(console, look, *args, **options):
    """Return what a function of the store sees through the console."""
    with console.read() as transaction:
        return look(transaction, *args, **options)


def done(console, act, *args, **options):
    with console.write() as transaction:
        return act(transaction, *args, **options)


def test_the_console_reads_what_everybody_reads(database, console):
    one, two, three = add_bots(database, 3)
    save(database, advance(one), advance(two, LIFE[:2]))
    looks = (history.read_trades, history.read_steps, history.read_orders)
    with database.read() as connection:
        assert seen(console, bots.all_bots) == bots.all_bots(connection)
        assert seen(console, history.open_positions) == history.open_positions(connection)
        for bot in (one, two, three):
            for look in looks:
                assert seen(console, look, bot, 3) == look(connection, bot, 3)
        assert seen(console, overviews) == overviews(connection)
    first, second, third = seen(console, overviews)
    assert (first.version, first.last_bar, first.decided_at, first.took_ms) == (5, LIFE[-1][0], NOW, 0.5)
    assert first.positions == ()
    assert second.positions == seen(console, history.open_positions)[two]
    assert len(second.positions) == 1
    assert (third.version, third.last_bar, third.equity, third.took_ms) == (0, None, None, None)
    assert seen(console, overviews, bot_ids=(two,)) == (second,)
    assert seen(console, overviews, bot_ids=(99,)) == ()
    assert seen(console, overviews, user_id=2) == ()


def test_what_the_console_does_is_what_the_service_sees(database, console):
    bot = done(
        console,
        bots.add_bot,
        config='{"name": "x"}',
        now_ms=NOW,
        user_id=4,
        schedule="* * * * *",
        actor="anna",
    )
    assert seen(console, bots.get_bot, bot).schedule == "* * * * *"
    pausing = [
        done(console, bots.set_paused, bot, paused=True, actor=who, reason="r") for who in ("anna", "jobs")
    ]
    assert pausing == [True, False]
    assert [done(console, bots.set_paused, bot, paused=False, actor="jobs") for _ in "12"] == [True, False]
    with database.read() as connection:
        (found,) = bots.all_bots(connection)
    assert (found.paused, found.revision, found.status) == (False, 3, "stopped")
    actors = [row.actor for row in seen(console, read_audit, bot)]
    assert actors == ["jobs", "jobs", "anna", "anna", "anna"]
    done(console, bots.remove_bot, bot, reason="done")
    assert seen(console, overviews) == ()
    for act, options in (
        (bots.set_paused, {"paused": True}),
        (bots.set_paused, {"paused": False}),
        (bots.remove_bot, {}),
    ):
        with pytest.raises(NoSuchBot):
            done(console, act, bot, **options)


def test_a_bot_with_a_position_is_removed_only_by_force(database, console):
    (bot,) = add_bots(database)
    save(database, advance(bot, LIFE[:2]))
    with pytest.raises(PositionOpen):
        done(console, bots.remove_bot, bot)
    assert seen(console, bots.get_bot, bot) is not None
    done(console, bots.remove_bot, bot, force=True)
    assert seen(console, bots.get_bot, bot) is None


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    file = tmp_path / "none.db"
    with pytest.raises(DatabaseUnavailable, match="no database file"):
        Console(f"sqlite:///{file}")
    assert not file.exists()


def test_a_file_that_is_no_database_is_closed_again(tmp_path):
    file = tmp_path / "letter.db"
    file.write_text("Dear madam, " * 500)
    with pytest.raises(DatabaseFault, match="not a database; stop the service, keep a copy"):
        Console(f"sqlite:///{file}")
    assert str(file) not in [file.path for file in psutil.Process().open_files()]


def test_missing_tables_are_told(empty_url):
    if empty_url.startswith("sqlite"):
        Path(empty_url.removeprefix("sqlite:///")).touch()
    with Console(empty_url) as console, pytest.raises(SchemaMissing, match="scheduler db upgrade"):
        seen(console, overviews)


def test_a_url_of_another_kind_is_refused_without_its_password():
    with pytest.raises(ValueError, match="mysql") as caught:
        Console("mysql://me:secret@host/x")
    assert "secret" not in str(caught.value)


HEAVY = ("sqlalchemy", "alembic", "pandas", "numpy", "ccxt", "backtrader", "pydantic", "apscheduler")
LISTING = """
import json, resource, sys
from persistence.console import Console
from persistence.overviews import overviews
with Console(sys.argv[1]) as console, console.read() as transaction:
    found = overviews(transaction)
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
    assert len(seen(console, overviews)) == 10_000
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    print(f"{database.dialect}: {spent:.2f} s")
    assert spent < 3
