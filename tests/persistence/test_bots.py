import re
from decimal import Decimal
from pathlib import Path

import pytest
from stories import LIFE, NOW, add_bots, advance, save

from persistence import bots
from persistence.audit import read_audit
from persistence.bots import (
    add_bot,
    change_status,
    get_bot,
    record_failure,
    set_paused,
)
from persistence.database_errors import IllegalMove, NoSuchBot, PositionOpen
from persistence.rows import MOVES, STATUSES, Bot
from persistence.runs import Run, beat_run, begin_run, end_run, latest_runs
from persistence.transaction import database_now


def test_a_bot_comes_back_as_it_was_added(database):
    with database.write() as connection:
        bot_id = add_bot(
            connection, config='{"a": 1}', now_ms=NOW, user_id=3, type_="live", schedule="0 9 * * mon-fri",
            description="d", enabled=False,
        )  # fmt: skip
        found = get_bot(connection, bot_id)
        assert get_bot(connection, bot_id + 1) is None
        assert bots.all_bots(connection, user_id=3) == (found,)
        assert bots.all_bots(connection, user_id=4) == ()
    assert found == Bot(
        id=bot_id, user_id=3, type="live", enabled=False, paused=False, status="stopped",
        schedule="0 9 * * mon-fri", config='{"a": 1}', revision=1, started_at=None, stopped_at=None,
        resumed_at=None, last_heartbeat=None, error_count=0, last_error=None, retry_at=None,
        current_balance=None, total_pnl=Decimal(0), description="d", edited_by=None, edit_reason=None,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip


@pytest.mark.parametrize("old", STATUSES)
def test_r9_6_status_moves_only_along_the_table(database, old):
    for new in STATUSES:
        move(database, old, new)


def move(database, old, new):
    (bot,) = add_bots(database)
    with database.write() as connection:
        connection.exec_driver_sql(f"UPDATE trading_bots SET status = '{old}'")
        if new == old:
            assert not change_status(connection, bot, new, now_ms=NOW)
        elif new in MOVES[old]:
            assert change_status(connection, bot, new, now_ms=NOW, actor="me", reason="why")
            last = read_audit(connection, bot, limit=1)[0]
            assert (last.action, last.old, last.new) == ("status", old, new)
            assert (last.actor, last.reason) == ("me", "why")
            assert (get_bot(connection, bot).stopped_at == NOW) == (new in {"stopped", "error"})
        else:
            with pytest.raises(IllegalMove, match=f"is {old}: it cannot become {new}"):
                change_status(connection, bot, new, now_ms=NOW)
            assert get_bot(connection, bot).status == old


def test_every_status_has_its_moves():
    assert set(MOVES) == set(STATUSES)
    assert all(moves < set(STATUSES) for moves in MOVES.values())


WISHES = (
    lambda connection, bot: set_paused(connection, bot, paused=True),
    lambda connection, bot: set_paused(connection, bot, paused=False),
    lambda connection, bot: bots.edit_bot(connection, bot, {"enabled": False}),
    lambda connection, bot: bots.edit_bot(connection, bot, {"enabled": True}),
    lambda connection, bot: bots.start_bot(connection, bot, NOW),
    lambda connection, _: bots.forgive_all(connection),
    *(
        lambda connection, bot, status=status: bots.move_all(connection, (bot,), status, now_ms=NOW)
        for status in STATUSES
    ),
)


@pytest.mark.parametrize("old", STATUSES)
def test_no_wish_moves_a_status_off_the_table(database, old):
    (bot,) = add_bots(database)
    moved = set()
    for flags in ("paused = false, enabled = true", "paused = true, enabled = false"):
        for wish in WISHES:
            with database.write() as connection:
                connection.exec_driver_sql(f"UPDATE trading_bots SET {flags}")
                connection.exec_driver_sql(f"UPDATE trading_bots SET status = '{old}'")
                before = len(read_audit(connection, bot, 10_000))
                wish(connection, bot)
                rows = read_audit(connection, bot, 10_000)[:-before]
            moved |= {(row.old, row.new) for row in rows if row.action == "status"}
    assert moved
    assert [move for move in moved if move[1] not in MOVES[move[0]]] == []


def test_a_status_is_written_by_one_function():
    update = re.compile(r"SET (?:[^;]*?, )?status = ")
    root = Path(bots.__file__).parents[1]
    rooms = [root / room for room in ("persistence", "jobs", "ops", "scheduler")]
    written = {
        file.name: len(update.findall(file.read_text()))
        for room in rooms
        for file in room.rglob("*.py")
        if "migrations" not in file.parts
    }
    assert {name: count for name, count in written.items() if count} == {"bots.py": 1}


def test_r9_1_start_sets_running_and_started_at_once(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        assert bots.start_bot(connection, bot, NOW)
        change_status(connection, bot, "stopped", now_ms=NOW + 1)
        assert get_bot(connection, bot).stopped_at == NOW + 1
        assert bots.start_bot(connection, bot, now_ms=NOW + 2)
        found = get_bot(connection, bot)
        assert (found.status, found.started_at, found.stopped_at, found.revision) == ("running", NOW, None, 1)
        audited = len(read_audit(connection, bot))
        assert bots.start_bot(connection, bot, NOW + 3), "idempotent"
        assert len(read_audit(connection, bot)) == audited


@pytest.mark.parametrize("change", ["paused = true", "enabled = false", "status = 'error'"])
def test_a_bot_that_people_or_errors_have_stopped_does_not_start(database, change):
    (bot,) = add_bots(database)
    with database.write() as connection:
        connection.exec_driver_sql(f"UPDATE trading_bots SET {change}")
        before = get_bot(connection, bot)
        assert not bots.start_bot(connection, bot, NOW)
        assert not bots.start_bot(connection, 99, NOW)
        assert get_bot(connection, bot) == before


def test_r2_6_pause_and_resume_are_idempotent(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        bots.start_bot(connection, bot, NOW)
        assert [set_paused(connection, bot, paused=True), set_paused(connection, bot, paused=True)] == [
            True,
            False,
        ]
        found = get_bot(connection, bot)
        assert (found.paused, found.status, found.revision) == (True, "paused", 2)
        assert [set_paused(connection, bot, paused=False), set_paused(connection, bot, paused=False)] == [
            True,
            False,
        ]
        found = get_bot(connection, bot)
        assert (found.paused, found.status, found.revision) == (False, "stopped", 3)
        assert bots.start_bot(connection, bot, NOW)
        with pytest.raises(NoSuchBot):
            set_paused(connection, 99, paused=True)


def test_resume_takes_a_bot_out_of_error(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        record_failure(
            connection, bot, kind="strategy", message="m", now_ms=1, retry_at_ms=None, status="error"
        )
        assert set_paused(connection, bot, paused=False)
        found = get_bot(connection, bot)
        assert (found.status, found.error_count, found.retry_at) == ("stopped", 0, None)
        assert found.resumed_at is None, "it was not paused"


def test_enable_and_disable(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        bots.start_bot(connection, bot, NOW)
        before = database_now(connection)
        assert bots.edit_bot(connection, bot, {"enabled": False})
        found = get_bot(connection, bot)
        assert (found.enabled, found.status) == (False, "stopped")
        assert before <= found.stopped_at <= database_now(connection)
        assert bots.edit_bot(connection, bot, {"enabled": True})
        assert get_bot(connection, bot).enabled
        assert not bots.edit_bot(connection, 99, {"enabled": True})


def test_who_asks_and_why_is_kept_whatever_it_is_written_with(database):
    """No text of a person breaks the transaction; an empty reason is none."""
    (bot,) = add_bots(database)
    with database.write() as connection:
        assert set_paused(connection, bot, paused=True, actor="a\udcff", reason="")
        assert read_audit(connection, bot, 1)[0].reason is None
        assert set_paused(connection, bot, paused=False, actor="a\udcff", reason="why \udcff")
        audited = read_audit(connection, bot, 1)[0]
    assert (audited.actor, audited.reason) == ("a\\udcff", "why \\udcff")


def test_r8_8_r9_9_failures_are_counted_in_a_row_and_by_kind(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        counts = [
            record_failure(
                connection, bot, kind=kind, message=f"m{number}", now_ms=NOW, retry_at_ms=NOW + number
            )
            for number, kind in enumerate(("network", "exchange", "network"))
        ]
        found = get_bot(connection, bot)
        assert counts == [1, 2, 3]
        assert (found.error_count, found.last_error, found.retry_at) == (3, "network: m2", NOW + 2)
        assert error_counts(connection, bot) == {"exchange": 1, "network": 2}
        assert record_failure(connection, 99, kind="x", message="", now_ms=0, retry_at_ms=None) == 0
    save(database, advance(bot, LIFE[:1]))
    with database.write() as connection:
        assert record_failure(connection, bot, kind="network", message="m", now_ms=0, retry_at_ms=None) == 1
        assert error_counts(connection, bot) == {"exchange": 1, "network": 3}


def error_counts(connection, bot) -> dict[str, int]:
    sql = f"SELECT kind, count FROM bot_errors WHERE bot_id = {bot}"
    return dict(connection.exec_driver_sql(sql).all())


def test_a_failure_message_may_be_anything(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        message = "a\0\ud800\u20ac%(x)s :y" + "z" * 9_000
        record_failure(
            connection, bot, kind="strategy", message=message, now_ms=0, retry_at_ms=None, status="error"
        )
        found = get_bot(connection, bot).last_error
    assert found.startswith("strategy: a\\x00\\ud800\u20ac%(x)s :yzz")
    assert len(found) < 2_100


def test_beat_touches_only_the_heartbeat(database):
    one, two = add_bots(database, 2)
    with database.write() as connection:
        bots.beat(connection, (one,), now_ms=NOW + 7)
        bots.beat(connection, (), now_ms=NOW)
        assert get_bot(connection, one).last_heartbeat == NOW + 7
        assert get_bot(connection, one).revision == 1
        assert get_bot(connection, two).last_heartbeat is None


def test_d9_a_bot_with_an_open_position_is_not_removed_by_mistake(database):
    (bot,) = add_bots(database)
    save(database, advance(bot, LIFE[:2]))
    with (
        pytest.raises(PositionOpen, match=r"holds a position: long 0\.5 BTC/USDT"),
        database.write() as connection,
    ):
        bots.remove_bot(connection, bot)
    with database.write() as connection:
        bots.remove_bot(connection, bot, force=True, actor="me")
        assert get_bot(connection, bot) is None
        with pytest.raises(NoSuchBot):
            bots.remove_bot(connection, bot)


def test_r5_7_clean_and_unclean_ends_are_told_apart(database):
    first = Run("host-1-1", "host", 1, None, "starting", NOW, NOW)
    second = Run("host-2-5", "host", 2, 7, "starting", NOW + 5, NOW + 5)
    with database.write() as connection:
        begin_run(connection, first)
        begin_run(connection, second)
        beat_run(connection, second.run, now_ms=NOW + 9, role="leader", details='{"x": 1}')
        end_run(connection, second.run, now_ms=NOW + 10, clean=True)
        end_run(connection, second.run, now_ms=NOW + 99, clean=False)
        newest, killed = latest_runs(connection)
        assert latest_runs(connection, limit=1) == (newest,)
    assert killed == first
    assert (newest.ended_at, newest.clean, newest.role) == (NOW + 10, True, "leader")
    assert (newest.heartbeat_at, newest.details, newest.user_id) == (NOW + 9, '{"x": 1}', 7)
