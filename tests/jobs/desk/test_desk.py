"""The desk on real databases of both kinds: who may, what is changed, what is refused, what is told."""

import json
import time
from pathlib import Path

import pytest

from jobs import desk
from jobs.desk import Actor, Moved, Result
from jobs.desk.adding import Columns, NotYours, add
from jobs.desk.checking import Installation, check
from jobs.desk.editing import Change, Edited, EditedMeanwhile, edit
from jobs.desk.glance import glance
from jobs.desk.looking import Timing
from jobs.settings import MarketSettings
from persistence.audit import read_audit
from persistence.bots import edit_bot, get_bot, record_failure, start_bot
from persistence.console import Console
from persistence.database_errors import NoSuchBot
from persistence.ledger.steps import load
from strategies.faults import InvalidConfig
from strategies.registry import Registry
from tests.jobs.command.ledgers import BEGIN, HOUR, buying, config_text, insert_bar, insert_bot, quiet
from tests.strategies.broken_configs import REFERENCE

NOW = time.time_ns() // 1_000_000
ANNA = Actor("web:anna", 1)
BERT = Actor("web:bert", 2)
EVERYBODY = Actor("jobs:root")
HERE = Installation(Registry(()), MarketSettings())


@pytest.fixture(params=["database", "console"])
def opened(request, database):
    """What a desk is given: the service's database, or the commands' bare driver."""
    if request.param == "database":
        yield database
    else:
        with Console(database.url) as console:
            yield console


def row(database, bot_id):
    with database.read() as connection:
        return get_bot(connection, bot_id)


def newest_audit(database, bot_id):
    with database.read() as connection:
        return read_audit(connection, bot_id, 1)[0]


def moves_of(actor, bot_id):
    """Every move as a function of a database, by name."""
    return {
        "start": lambda d: desk.start(d, actor, [bot_id]),
        "stop": lambda d: desk.stop(d, actor, [bot_id]),
        "restart": lambda d: desk.restart(d, actor, [bot_id]),
        "pause": lambda d: desk.pause(d, actor, [bot_id]),
        "resume": lambda d: desk.resume(d, actor, [bot_id]),
        "remove": lambda d: desk.remove(d, actor, [bot_id]),
    }


def test_an_actor_of_one_user_sees_and_moves_that_users_bots_only(opened, database):
    """D2: others' bots are answered as bots that do not exist."""
    hers, his = insert_bot(database, user_id=1), insert_bot(database, user_id=2)
    before = row(database, his)
    assert [seen.bot.id for seen in desk.list_bots(opened, ANNA)] == [hers]
    assert [seen.bot.id for seen in desk.list_bots(opened, EVERYBODY)] == [hers, his]
    assert desk.list_bots(opened, ANNA, user_id=2) == ()
    assert [seen.bot.id for seen in glance(opened, ANNA, 5).bots] == [hers]
    for look in (desk.show, desk.trades, desk.history):
        with pytest.raises(NoSuchBot):
            look(opened, ANNA, his)
        look(opened, BERT, his)
    for name, move in moves_of(ANNA, his).items():
        assert move(opened) == (Moved(his, Result.NO_SUCH_BOT),), name
    with pytest.raises(NoSuchBot):
        edit(opened, ANNA, his, {"description": "mine"}, HERE)
    assert row(database, his) == before
    assert desk.remove(opened, BERT, [his])[0].result is Result.DONE


def test_an_actor_of_one_user_adds_bots_for_that_user_only(opened, database):
    checked = [check(config_text(), HERE)]
    (bot_id,) = add(opened, BERT, checked, Columns(), now_ms=NOW)
    assert row(database, bot_id).user_id == 2
    assert newest_audit(database, bot_id).actor == "web:bert"
    with pytest.raises(NotYours, match="user 2 only, not of user 1"):
        add(opened, BERT, checked, Columns(user_id=1), now_ms=NOW)
    assert [seen.bot.id for seen in desk.list_bots(opened, EVERYBODY)] == [bot_id]


def test_stop_and_start_and_what_was_so_already(opened, database):
    """R2.6: idempotent, and they say whether they changed anything."""
    bot_id = insert_bot(database)
    with database.write() as connection:
        start_bot(connection, bot_id, NOW)
    moves = moves_of(EVERYBODY, bot_id)
    assert moves["start"](opened)[0].result is Result.UNCHANGED
    assert moves["stop"](opened)[0].result is Result.DONE
    stopped = row(database, bot_id)
    assert (stopped.enabled, stopped.status) == (False, "stopped")
    assert abs(stopped.stopped_at - time.time_ns() // 1_000_000) < 10_000
    assert moves["stop"](opened)[0].result is Result.UNCHANGED
    assert row(database, bot_id) == stopped
    assert moves["start"](opened)[0].result is Result.DONE
    assert row(database, bot_id).enabled
    assert moves["start"](opened)[0].result is Result.UNCHANGED


def test_start_gives_a_bot_in_error_a_new_chance(opened, database):
    bot_id = insert_bot(database)
    with database.write() as connection:
        record_failure(
            connection, bot_id, kind="strategy", message="m", now_ms=NOW, retry_at_ms=NOW, status="error"
        )
    assert desk.start(opened, EVERYBODY, [bot_id])[0].result is Result.DONE
    bot = row(database, bot_id)
    assert (bot.status, bot.error_count, bot.retry_at) == ("stopped", 0, None)


def test_restart_keeps_cursor_and_state_and_forgives_errors(opened, database):
    bot_id = insert_bot(database)
    insert_bar(database, bot_id, 0, quiet())
    insert_bar(database, bot_id, 1, buying())
    with database.write() as connection:
        start_bot(connection, bot_id, NOW)
        record_failure(connection, bot_id, kind="strategy", message="m", now_ms=NOW, retry_at_ms=NOW + HOUR)
    with database.read() as connection:
        (before,) = load(connection, [bot_id])
    assert desk.restart(opened, ANNA, [bot_id], reason="stuck")[0].result is Result.DONE
    with database.read() as connection:
        (after,) = load(connection, [bot_id])
        reasons = {(audit.actor, audit.reason) for audit in read_audit(connection, bot_id, 3)}
    assert (after.state, after.version, after.last_bar) == (before.state, before.version, before.last_bar)
    assert (after.bot.enabled, after.bot.status) == (True, "stopped")
    assert (after.bot.error_count, after.bot.retry_at) == (0, None)
    assert after.bot.revision > before.bot.revision, "a step that was begun before it cannot commit"
    assert reasons == {("web:anna", "stuck")}


def test_many_bots_are_moved_each_for_itself(opened, database):
    ids = [insert_bot(database) for _ in range(3)]
    insert_bar(database, ids[1], 0, quiet())
    insert_bar(database, ids[1], 1, buying())
    results = desk.remove(opened, EVERYBODY, [*ids, 99, ids[0]])
    assert [moved.result for moved in results] == [
        Result.DONE, Result.REFUSED, Result.DONE, Result.NO_SUCH_BOT,
    ]  # fmt: skip
    assert "holds a position: long 0.001 BTCUSDT" in results[1].why
    assert [seen.bot.id for seen in desk.list_bots(opened, EVERYBODY)] == [ids[1]]
    assert desk.remove(opened, EVERYBODY, [ids[1]], force=True)[0].result is Result.DONE


def test_an_edit_changes_row_and_configuration_in_one_update(opened, database):
    """R1.6, R6.4: one revision, one audit line with actor and reason, old and new values returned."""
    bot_id = insert_bot(database, description="old")
    wishes = {
        "data.interval": "15m",
        "risk_management.max_daily_trades": 4,
        "schedule": "0 9 * * mon-fri",
        "description": "new",
        "symbol": REFERENCE["symbol"],
    }
    edited = edit(opened, ANNA, bot_id, wishes, HERE, reason="faster")
    assert edited == Edited(
        bot_id,
        (
            Change("data.interval", REFERENCE["data"]["interval"], "15m"),
            Change("risk_management.max_daily_trades", 5, 4),
            Change("schedule", None, "0 9 * * mon-fri"),
            Change("description", "old", "new"),
        ),
    )
    bot = row(database, bot_id)
    config = json.loads(bot.config)
    assert (config["data"]["interval"], config["risk_management"]["max_daily_trades"]) == ("15m", 4)
    assert {**config, "data": None, "risk_management": None} == {
        **REFERENCE, "data": None, "risk_management": None,
    }  # fmt: skip
    assert (bot.schedule, bot.description, bot.revision) == ("0 9 * * mon-fri", "new", 2)
    audit = newest_audit(database, bot_id)
    assert (audit.action, audit.actor, audit.reason) == ("edited", "web:anna", "faster")
    assert edit(opened, ANNA, bot_id, wishes, HERE) == Edited(bot_id, ())
    assert row(database, bot_id) == bot
    assert edit(opened, ANNA, bot_id, {"schedule": None, "enabled": False}, HERE).changes == (
        Change("schedule", "0 9 * * mon-fri", None),
        Change("enabled", old=True, new=False),
    )


@pytest.mark.parametrize(
    ("wishes", "path", "allowed"),
    [
        ({"schedule": "99 99 * * *"}, "schedule", "five fields of cron"),
        ({"schedule": 5}, "schedule", "a cron expression"),
        ({"enabled": "yes"}, "enabled", "true or false"),
        ({"data.interval": "7 minutes"}, "data.interval", "15m"),
        ({"data.intervall": "7m"}, "data.intervall", ""),
        ({"symbol.name": "x"}, "symbol", "a section that has name"),
        ({"broker.cash": True}, "broker.cash", ""),
        ({"broker.cash": float("nan")}, "broker.cash", ""),
        ({"interval": "15m"}, "interval", "schedule, description, enabled, or a path"),
        ({"interval": "15m"}, "interval", "did you mean data.interval?"),
    ],
)
def test_an_edit_that_could_not_run_is_refused_with_what_is_allowed(database, wishes, path, allowed):
    bot_id = insert_bot(database)
    before = row(database, bot_id)
    with pytest.raises(InvalidConfig) as refused:
        edit(database, EVERYBODY, bot_id, {"description": "also", **wishes}, HERE)
    assert [fault.path for fault in refused.value.faults] == [path] or path == "broker.cash"
    assert allowed in refused.value.faults[0].allowed
    assert row(database, bot_id) == before


def test_a_broken_row_can_be_mended(database):
    bot_id = insert_bot(database, config=config_text(symbol="nonsense!"))
    edit(database, EVERYBODY, bot_id, {"symbol": "BTCUSDT"}, HERE)
    assert check(row(database, bot_id).config, HERE).faults == ()


def test_an_edit_that_disables_stops_the_bot_as_stop_does(opened, database):
    """One home for what a disabled bot is: there may be no service that would write its status."""
    bot_id = insert_bot(database)
    with database.write() as connection:
        start_bot(connection, bot_id, NOW)
    assert edit(opened, ANNA, bot_id, {"enabled": False, "description": "rests"}, HERE).changes
    bot = row(database, bot_id)
    assert (bot.enabled, bot.status, bot.description) == (False, "stopped", "rests")
    assert bot.stopped_at is not None
    assert moves_of(ANNA, bot_id)["stop"](opened)[0].result is Result.UNCHANGED


def test_a_bot_with_a_broken_configuration_can_be_described_and_disabled(opened, database):
    bot_id = insert_bot(database, config='{"id": "half"}')
    assert edit(opened, ANNA, bot_id, {"description": "mend me", "enabled": False}, HERE).changes
    with pytest.raises(InvalidConfig):
        edit(opened, ANNA, bot_id, {"enabled": True}, HERE)


def test_a_schedule_of_blanks_is_none(opened, database):
    bot_id = insert_bot(database, schedule="  ")
    assert edit(opened, ANNA, bot_id, {"data.interval": "15m"}, HERE).changes


def test_a_path_without_end_is_refused_where_it_becomes_too_deep(database):
    bot_id = insert_bot(database)
    with pytest.raises(InvalidConfig, match="at most 32 levels"):
        edit(database, ANNA, bot_id, {"strategy." + "a." * 2_000 + "b": 1}, HERE)


def test_two_edits_at_once_do_not_write_what_nobody_has_checked(database, monkeypatch):
    bot_id = insert_bot(database)

    def meanwhile(*arguments):
        with database.write() as connection:
            edit_bot(connection, bot_id, {"description": "somebody else's"})
        return check(*arguments)

    monkeypatch.setattr("jobs.desk.editing.check", meanwhile)
    with pytest.raises(EditedMeanwhile):
        edit(database, EVERYBODY, bot_id, {"data.interval": "15m"}, HERE)
    bot = row(database, bot_id)
    assert bot.description == "somebody else's"
    assert json.loads(bot.config) == REFERENCE


def test_faults_and_schedules_that_cannot_be_followed_add_nothing(database):
    good, bad = check(config_text(), HERE), check("{}", HERE)
    for checked in ((good, bad), (check(config_text(), HERE, "99 99 * * *"),)):
        with pytest.raises(InvalidConfig):
            add(database, EVERYBODY, checked, Columns(), now_ms=NOW)
    assert desk.list_bots(database, EVERYBODY) == ()
    assert [fault.path for fault in check(config_text(), HERE, "0 0 30 2 *").faults] == ["schedule"]


def test_a_bot_is_added_to_an_empty_table_once(database):
    checked = [check(config_text(), HERE)]
    assert len(add(database, EVERYBODY, checked, Columns(), now_ms=NOW, to_empty=True)) == 1
    assert add(database, EVERYBODY, checked, Columns(), now_ms=NOW, to_empty=True) == ()


def test_the_next_moment_of_a_running_bot(database):
    bot_id = insert_bot(database)
    with database.write() as connection:
        start_bot(connection, bot_id, NOW)
        edit_bot(connection, bot_id, {"schedule": "0 9 * * *"})
    bot = row(database, bot_id)
    timing = Timing(BEGIN, 1_500)
    assert timing.next_moment(bot, "1h") == BEGIN + 9 * HOUR + 1_500
    for schedule in ("99 99 * * *", "x"):
        with database.write() as connection:
            edit_bot(connection, bot_id, {"schedule": schedule})
        assert timing.next_moment(row(database, bot_id), "1h") is None, "plain SQL may write anything"
    with database.write() as connection:
        edit_bot(connection, bot_id, {"schedule": None})
    assert timing.next_moment(row(database, bot_id), "1h") == BEGIN + 1_500
    assert timing.next_moment(row(database, bot_id), "-") is None
    with database.write() as connection:
        record_failure(
            connection, bot_id, kind="strategy", message="m", now_ms=BEGIN, retry_at_ms=BEGIN + 500
        )
    assert timing.next_moment(row(database, bot_id), "1h") == BEGIN + 500, "its retry, not its boundary"


def test_the_desk_prints_nothing_and_reads_neither_arguments_nor_environment_nor_clock():
    words = ("print(", "import sys", "import os", "argparse", "time.time", "Console(", "open_database")
    for file in sorted((Path(__file__).parents[3] / "jobs" / "desk").glob("*.py")):
        text = file.read_text()
        assert [word for word in words if word in text] == [], file.name


def test_resuming_a_disabled_bot_says_that_it_is_disabled(opened, database):
    bot_id = insert_bot(database)
    moves = moves_of(EVERYBODY, bot_id)
    moves["stop"](opened)
    (moved,) = moves["resume"](opened)
    assert moved == Moved(
        bot_id, Result.UNCHANGED, f"it is disabled and does not run: jobs start {bot_id} enables it"
    )


@pytest.mark.parametrize("verb", ["stop", "pause"])
def test_what_a_bot_holds_is_said_when_it_is_put_to_rest(opened, database, verb):
    bot_id = insert_bot(database)
    insert_bar(database, bot_id, 0, buying())
    (moved,) = moves_of(EVERYBODY, bot_id)[verb](opened)
    assert moved.result is Result.DONE
    assert "it holds long" in moved.why


def test_a_broker_that_nobody_knows_is_a_fault():
    text = json.loads(config_text())
    text["broker"] = {"type": "binanse", "trading_mode": "paper"}
    (fault,) = check(json.dumps(text), HERE).faults
    assert (fault.path, fault.found) == ("broker.type", '"binanse"')
