"""A bot that is edited by plain SQL is as well off as one that is edited by our tools."""

import json

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError
from stories import LIFE, add_bots, advance, everything, save

from persistence.audit import read_audit
from persistence.bots import all_bots, get_bot, record_failure, remove_bot, set_paused, standing
from persistence.database_errors import DatabaseFault
from persistence.rows import MOVES, STATUSES
from persistence.transaction import database_now


def plain(database, *statements: str) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def bot_of(database, bot_id: int):
    with database.read() as connection:
        return get_bot(connection, bot_id)


def audit_of(database, bot_id: int):
    """Return what was done to a bot, oldest first."""
    with database.read() as connection:
        return read_audit(connection, bot_id)[::-1]


def test_insert_by_plain_sql_needs_nothing_but_a_configuration(database):
    plain(database, 'INSERT INTO trading_bots (config) VALUES (\'{"name": "x"}\')')
    with database.read() as connection:
        (bot,) = all_bots(connection)
        now = database_now(connection)
    assert json.loads(bot.config) == {"name": "x"}
    assert (bot.user_id, bot.type, bot.enabled, bot.paused, bot.status) == (
        1,
        "paper",
        True,
        False,
        "stopped",
    )
    assert (bot.revision, bot.error_count, bot.total_pnl, bot.description) == (1, 0, 0, "")
    assert bot.started_at is bot.retry_at is bot.last_heartbeat is None
    assert abs(bot.created_at - now) < 60_000
    assert bot.updated_at == bot.created_at
    (row,) = audit_of(database, bot.id)
    assert (row.action, row.old) == ("added", None)
    assert row.actor.startswith("sql")


EDITS = {
    "config": ('\'{"name": "new"}\'', '{"name": "bot 0"}', '{"name": "new"}'),
    "schedule": ("'*/5 * * * *'", None, "*/5 * * * *"),
    "description": ("'d'", "", "d"),
    "user_id": ("7", 1, 7),
    "type": ("'live'", "paper", "live"),
    "paused": ("true", False, True),
    "enabled": ("false", True, False),
}


@pytest.mark.parametrize("column", EDITS)
def test_r1_6_d3_an_edit_by_plain_sql_raises_the_revision_and_is_audited(database, column):
    value, old, new = EDITS[column]
    bot, other = add_bots(database, 2)
    before = bot_of(database, bot)
    plain(database, f"UPDATE trading_bots SET {column} = {value} WHERE id = {bot}")
    after = bot_of(database, bot)
    assert (after.revision, bot_of(database, other).revision) == (2, 1)
    assert after.updated_at > before.updated_at
    row = audit_of(database, bot)[-1]
    assert (row.action, row.bot_id) == ("edited", bot)
    assert json.loads(row.old) == ({} if old is None else {column: old})
    assert json.loads(row.new) == {column: new}


def test_revision_counts_every_edit_of_every_row(database):
    bots = add_bots(database, 5)
    plain(database, "UPDATE trading_bots SET description = 'x'", "UPDATE trading_bots SET description = 'x'")
    with database.read() as connection:
        assert standing(connection) == dict.fromkeys(bots, (3, "stopped"))
        assert standing(connection, user_id=2) == {}


def test_what_the_service_writes_is_no_edit(database):
    (bot,) = add_bots(database)
    save(database, advance(bot, LIFE[:1]))
    plain(
        database,
        "UPDATE trading_bots SET last_heartbeat = NULL, error_count = 3, status = 'running'"
        f" WHERE id = {bot}",
    )
    assert bot_of(database, bot).revision == 1


@pytest.mark.parametrize("flag", ["paused", "enabled"])
def test_resumed_at_is_when_it_was_let_run_again(database, flag):
    (bot,) = add_bots(database)
    stop, go = ("true", "false") if flag == "paused" else ("false", "true")
    plain(database, f"UPDATE trading_bots SET {flag} = {stop}")
    assert bot_of(database, bot).resumed_at is None
    plain(database, f"UPDATE trading_bots SET {flag} = {go}")
    with database.read() as connection:
        resumed = bot_of(database, bot).resumed_at
        assert 0 <= database_now(connection) - resumed < 60_000
    plain(database, f"UPDATE trading_bots SET {flag} = {go}, description = 'x'")
    assert bot_of(database, bot).resumed_at == resumed


def test_an_edit_gives_a_stopped_bot_a_new_chance_even_if_it_changes_nothing(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        record_failure(
            connection, bot, kind="configuration", message="bad", now_ms=5, retry_at_ms=9, status="error"
        )
    assert bot_of(database, bot).status == "error"
    plain(database, f"UPDATE trading_bots SET config = config WHERE id = {bot}")
    row = bot_of(database, bot)
    assert (row.status, row.error_count, row.retry_at, row.revision) == ("stopped", 0, None, 2)
    moves = [(each.old, each.new) for each in audit_of(database, bot) if each.action == "status"]
    assert moves == [("stopped", "error"), ("error", "stopped")]


@pytest.mark.parametrize("column", EDITS)
def test_the_moves_that_triggers_make_are_in_the_table_of_moves(database, column):
    made = set()
    for status in STATUSES:
        (bot,) = add_bots(database)
        plain(database, f"UPDATE trading_bots SET status = '{status}' WHERE id = {bot}")
        known = len(audit_of(database, bot))
        plain(database, f"UPDATE trading_bots SET {column} = {EDITS[column][0]} WHERE id = {bot}")
        made |= {(row.old, row.new) for row in audit_of(database, bot)[known:] if row.action == "status"}
    assert made == {("error", "stopped")}
    assert all(new in MOVES[old] for old, new in made)


def test_r9_6_d3_who_did_it_is_in_the_audit_and_does_not_stick(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        set_paused(connection, bot, paused=True, actor="anna", reason="holiday")
        set_paused(connection, bot, paused=True, actor="bert")
    plain(database, f"UPDATE trading_bots SET description = 'x' WHERE id = {bot}")
    plain(database, f"UPDATE trading_bots SET status = 'running' WHERE id = {bot}")
    with database.write() as connection:
        remove_bot(connection, bot, actor="carl", reason="done")
    told = [(each.action, each.actor.split()[0], each.reason) for each in audit_of(database, bot)]
    assert told[0] == ("added", "service", None)
    assert sorted(told[1:3]) == [("edited", "anna", "holiday"), ("status", "anna", "holiday")]
    assert told[3:] == [("edited", "sql", None), ("status", "sql", None), ("removed", "carl", "done")]


def test_delete_by_plain_sql_takes_state_and_steps_and_leaves_the_ledger(database):
    bot, other = add_bots(database, 2)
    save(database, advance(bot), advance(other))
    plain(database, f"DELETE FROM trading_bots WHERE id = {bot}")
    tables = everything(database)
    assert {row[0] for row in tables["bot_states"]} == {row[0] for row in tables["bot_steps"]} == {other}
    for name in ("orders", "trading_trades", "trading_positions"):
        assert {row[0] for row in tables[name]} == {bot, other}
    last = audit_of(database, bot)[-1]
    assert (last.action, json.loads(last.old)["type"]) == ("removed", "paper")
    assert add_bots(database)[0] > other, "a number is never used again"


def test_a_number_is_never_used_again(database):
    bots = add_bots(database, 2)
    plain(database, "DELETE FROM trading_bots")
    assert add_bots(database)[0] > max(bots)


def test_a_state_is_not_deleted_apart_from_its_bot(database):
    (bot,) = add_bots(database)
    save(database, advance(bot))
    with pytest.raises(DBAPIError, match="a state goes with its bot"):
        plain(database, "DELETE FROM bot_states")


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
def test_d3_the_audit_cannot_be_rewritten(database, statement):
    if database.dialect == "sqlite" and statement.startswith("TRUNCATE"):
        statement = "DELETE FROM audit_log WHERE id > 0"
    add_bots(database)
    before = everything(database, timing=True)["audit_log"]
    with pytest.raises(DBAPIError, match="audit_log is append only"):
        plain(database, statement)
    assert everything(database, timing=True)["audit_log"] == before


@pytest.mark.parametrize(
    "change", ["enabled = 'maybe'", "paused = 2", "status = 'fine'", "type = 'demo'", "config = NULL"]
)
def test_values_that_mean_nothing_are_refused(database, change):
    add_bots(database)
    with pytest.raises((DBAPIError, DatabaseFault)):  # PostgreSQL takes no number where a boolean belongs
        plain(database, f"UPDATE trading_bots SET {change}")


def test_r1_4_a_row_broken_by_a_plain_edit_hides_no_other(sqlite_url):
    from persistence.database import open_database

    database = open_database(sqlite_url)
    bad, good = add_bots(database, 2)
    plain(
        database,
        f"UPDATE trading_bots SET config = '{{not json', total_pnl = 'much', current_balance = x'00',"
        f" started_at = 'yesterday', retry_at = 12, created_at = '' WHERE id = {bad}",
    )
    with database.read() as connection:
        first, second = all_bots(connection)
    assert (first.id, first.config, first.started_at, first.total_pnl) == (bad, "{not json", None, 0)
    assert second.id == good
    save(database, advance(bad, LIFE[:1]), advance(good, LIFE[:1]))
    database.close()


def test_postgresql_tells_listeners_which_bot_was_edited(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as listener, psycopg.connect(postgres_url) as editor:
        listener.execute("LISTEN onebar_bots")
        editor.execute("INSERT INTO trading_bots (config) VALUES ('{}'), ('{}')")
        editor.execute("UPDATE trading_bots SET config = '{\"a\": 1}' WHERE id = 1")
        editor.commit()
        editor.execute("UPDATE trading_bots SET status = 'running', last_heartbeat = now() WHERE id = 1")
        editor.commit()
        editor.execute("UPDATE trading_bots SET paused = true WHERE id = 2")
        editor.execute("DELETE FROM trading_bots WHERE id = 1")
        editor.commit()
        heard = [note.payload for note in listener.notifies(timeout=0.5)]
    # One transaction says each thing once.
    assert sorted(heard) == ["1", "1", "2", "2"]
