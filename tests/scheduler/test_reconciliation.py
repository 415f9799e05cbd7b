"""The jobs follow the bots, by whatever hand they were edited (R1.1, R1.6, R2.6, R2.7, R6.4, R8.5)."""

import json
import time

import pytest
from scheduler_stage import SetClock, Stage, add_bots, bot_config, wait_for
from sqlalchemy import text

from jobs import desk
from jobs.schedule import Boundaries, Cron
from persistence import bots, notifications
from scheduler.service.jobrow import JobRow
from scheduler.service.jobstore import BotJobStore
from scheduler.service.lateness import Lateness, late_bots, newest_bar


@pytest.fixture
def stage(database):
    return Stage(database, service={"poll_interval_s": 0.1})


def edit(database, sql, **values):
    with database.write() as connection:
        connection.execute(text(sql), values)


def jobs(database):
    rows, unreadable = BotJobStore(database).rows()
    assert unreadable == ()
    return {bot_id: row.trigger.as_json() for bot_id, (row, _) in rows.items()}


def passed(stage):
    stage.scheduler._polls.at_once()
    stage.one_pass()
    return jobs(stage.database)


def statuses(database):
    with database.read() as connection:
        return {bot.id: bot.status for bot in bots.all_bots(connection)}


def test_every_enabled_bot_has_a_job_and_runs(database, stage):
    """R2.1, R9.1."""
    ids = add_bots(database, 3, interval="1m")
    stage.led().one_pass()
    assert jobs(database) == {bot_id: {"interval": "1m", "settle_ms": 1500} for bot_id in ids}
    assert set(statuses(database).values()) == {"running"}
    assert {alarm.bot_id for alarm in stage.crew.alarms} == set(ids)


def test_inserts_edits_and_deletes_by_plain_sql(database, stage):
    first, second = add_bots(database, 2, interval="1m")
    stage.led().one_pass()
    edit(database, "INSERT INTO trading_bots (config) VALUES (:config)", config=bot_config("sql", "5m"))
    assert jobs(database).keys() == {first, second}
    found = passed(stage)
    assert found[second + 1] == {"interval": "5m", "settle_ms": 1500}
    edit(database, "UPDATE trading_bots SET config = :c WHERE id = :i", c=bot_config("b", "1h"), i=first)
    edit(database, "UPDATE trading_bots SET schedule = '*/5 * * * *' WHERE id = :i", i=second)
    found = passed(stage)
    assert found[first] == {"interval": "1h", "settle_ms": 1500}
    assert found[second] == {"cron": "*/5 * * * *", "settle_ms": 1500}
    edit(database, "DELETE FROM trading_bots WHERE id = :i", i=first)
    assert first not in passed(stage)
    with database.read() as connection:
        audit = connection.execute(
            text("SELECT old, new FROM audit_log WHERE bot_id = :i AND action = 'edited'"), {"i": first}
        ).all()
    assert "1m" in str(audit[0][0])
    assert "1h" in str(audit[0][1])


@pytest.mark.parametrize(
    ("off", "on", "status"),
    [
        ("paused = '1'", "paused = '0'", "paused"),
        ("enabled = '0'", "enabled = '1'", "stopped"),
    ],
)
def test_pause_and_disable(database, stage, off, on, status):
    bot, other = add_bots(database, 2, interval="1m")
    stage.led().one_pass()
    edit(database, f"UPDATE trading_bots SET {off} WHERE id = {bot}")
    assert passed(stage).keys() == {other}
    assert statuses(database)[bot] == status
    stage.crew.alarms.clear()
    edit(database, f"UPDATE trading_bots SET {on} WHERE id = {bot}")
    assert passed(stage).keys() == {bot, other}
    assert statuses(database)[bot] == "running"
    assert stage.crew.of(bot), "what closed meanwhile is stepped, without orders"


def test_a_restart_is_seen_and_the_bot_runs_on(database, stage):
    (bot,) = add_bots(database, 1, interval="1m")
    stage.led().one_pass()
    stage.crew.alarms.clear()
    desk.restart(database, desk.Actor("anna"), [bot])
    assert statuses(database)[bot] == "stopped"
    assert passed(stage).keys() == {bot}
    assert statuses(database)[bot] == "running"


def test_an_edit_that_does_not_validate_leaves_the_bot_on_its_last_good_configuration(database, stage):
    (bot,) = add_bots(database, 1, interval="1m")
    stage.led().one_pass()
    before = jobs(database)
    broken = json.dumps(json.loads(bot_config("b", "5m")) | {"nonsense": 1})
    edit(database, "UPDATE trading_bots SET config = :c WHERE id = :i", c=broken, i=bot)
    assert passed(stage) == before
    edit(database, "UPDATE trading_bots SET schedule = 'every day' WHERE id = :i", i=bot)
    assert passed(stage) == before
    assert statuses(database)[bot] == "running"


def test_a_bot_that_never_was_valid_is_stopped_with_the_reason(database, stage):
    """R1.4, R8.5."""
    (good,) = add_bots(database, 1, interval="1m")
    broken = ("not json", '{"id": "x"}', bot_config("b", "7 minutes"))
    for config in broken[1:] if database.dialect == "postgresql" else broken:
        edit(database, "INSERT INTO trading_bots (config) VALUES (:config)", config=config)
    (cron,) = add_bots(database, 1, schedule="61 * * * *")
    stage.led().one_pass()
    assert jobs(database).keys() == {good}
    with database.read() as connection:
        found = {bot.id: bot for bot in bots.all_bots(connection)}
    assert {bot.status for bot in found.values() if bot.id != good} == {"error"}
    assert "interval" in found[cron - 1].last_error
    assert "61" in found[cron].last_error
    edit(database, "UPDATE trading_bots SET schedule = '1 * * * *' WHERE id = :i", i=cron)
    assert cron in passed(stage), "an edited bot gets a new chance"


def test_an_invalid_schedule_is_told_to_the_owner_once(database, stage):
    (bot,) = add_bots(database, 1, interval="1m")
    stage.led().one_pass()
    edit(database, "UPDATE trading_bots SET schedule = 'every day' WHERE id = :i", i=bot)
    passed(stage)
    passed(stage)
    with database.read() as connection:
        told = [found.body for found in notifications.latest(connection, 10) if found.bot_id == bot]
    (body,) = told
    assert "CONFIG_REFUSED" in body
    assert "every day" in body


def test_a_row_that_sql_adds_with_enabled_false_in_its_configuration_does_not_run(database, stage):
    edit(database, "INSERT INTO trading_bots (config) VALUES (:c)", c=bot_config(enabled=False))
    stage.led().one_pass()
    passed(stage)
    assert jobs(database) == {}
    with database.read() as connection:
        (bot,) = bots.all_bots(connection)
    assert (bot.enabled, bot.status) == (False, "stopped")
    desk.start(database, desk.Actor("anna"), [bot.id])
    assert passed(stage).keys() == {bot.id}, "the row's column is what counts from then on"


def test_limits_of_bots(database):
    """R2.7."""
    for user in (1, 1, 1, 2, 2):
        add_bots(database, 1, interval="1m", user_id=user)
    stage = Stage(database, service={"max_concurrent_bots": 3, "max_bots_per_user": 2})
    stage.led().one_pass()
    assert sorted(jobs(database)) == [1, 2, 4]
    assert [statuses(database)[bot] for bot in (3, 5)] == ["stopped", "stopped"]
    edit(database, "UPDATE trading_bots SET enabled = '0' WHERE id = 1")
    assert sorted(passed(stage)) == [2, 3, 4]


def test_a_service_of_one_user_leaves_the_others_alone(database):
    """R1.7, D2."""
    add_bots(database, 1, interval="1m", user_id=1)
    add_bots(database, 1, interval="1m", user_id=2)
    everybody = Stage(database).led()
    everybody.one_pass()
    edit(database, "UPDATE apscheduler_jobs SET next_run_time = 1")
    stage = Stage(database, name="two", service={"user_id": 2})
    stage.leadership.name = "scheduler-user-2"
    stage.led().one_pass()
    assert {alarm.bot_id for alarm in stage.crew.alarms} == {2}
    assert sorted(jobs(database)) == [1, 2]


def test_edits_of_the_jobs_table_are_undone(database, stage):
    ids = add_bots(database, 4, interval="1m")
    stage.led().one_pass()
    before = jobs(database)
    assert sorted(before) == list(ids) == [1, 2, 3, 4]
    edit(database, "DELETE FROM apscheduler_jobs WHERE id = 'bot:1'")
    edit(database, "UPDATE apscheduler_jobs SET job_state = 'x' WHERE id = 'bot:2'")
    edit(database, "UPDATE apscheduler_jobs SET next_run_time = NULL WHERE id = 'bot:3'")
    edit(database, "UPDATE apscheduler_jobs SET next_run_time = 9e12 WHERE id = 'bot:4'")
    stage.scheduler._restores.at_once()
    stage.one_pass()
    assert jobs(database) == before
    now = stage.clock.now_ms()
    assert all(0 < at - now <= 61_500 for _, at in BotJobStore(database).rows()[0].values())


def test_an_edit_is_heard_within_a_second(database):
    """PostgreSQL by LISTEN; SQLite within the poll interval."""
    from scheduler.service.listener import Listener

    (bot,) = add_bots(database, 1, interval="1m")
    stage = Stage(database, service={"poll_interval_s": 30 if database.dialect == "postgresql" else 0.5})
    stage.start()
    heard = Listener(database.url, lambda: (stage.scheduler.edited.set(), stage.scheduler.wakeup()))
    heard.start()
    assert wait_for(lambda: jobs(database).keys() == {bot})
    time.sleep(0.7)  # let it listen
    edit(database, "UPDATE trading_bots SET schedule = '*/5 * * * *'")
    begun = time.monotonic()
    assert wait_for(lambda: "cron" in jobs(database)[bot], 5)
    assert time.monotonic() - begun < 1.5
    stage.stop()
    heard.stop()


def test_a_bot_whose_due_bar_is_missing_is_fired_again_and_charged_in_the_end():
    """R10.2."""
    minute = 60_000
    rows = {
        1: JobRow(1, Boundaries("1m", 1500), "generated"),
        2: JobRow(2, Cron("* * * * *", 0), "generated"),
        3: JobRow(3, Boundaries("1m", 1500), "generated"),
    }
    now = 100 * minute + 20_000
    cursors = {1: (97 * minute, None), 2: (None, None), 3: (99 * minute, None)}
    late = late_bots(rows, cursors, now, 10_000)
    assert late == (1,)
    assert newest_bar(rows[1].trigger, 100 * minute + 1_500) == 99 * minute
    assert newest_bar(rows[1].trigger, 100 * minute + 1_499) == 98 * minute
    cursors[3] = (98 * minute, None)
    assert late_bots(rows, cursors, 100 * minute + 9_000, 10_000) == (1,), "grace"
    assert late_bots(rows, cursors, 100 * minute + 11_500, 10_000) == (1, 3)
    lateness = Lateness(10_000)
    again, guilty = [], []
    for second in range(0, 1000, 5):
        fired, charged = lateness.judge(late, cursors, lambda _: False, lambda _: None, now + second * 1000)
        again += fired
        guilty += charged
    assert again == [1, 1, 1, 1]
    assert set(guilty) == {1}
    busy = Lateness(10_000).judge(late, cursors, lambda _: True, lambda _: None, now)
    assert busy == ([], []), "one that waits for a worker is not late by its own fault"


def test_a_bot_that_does_not_respond_is_stopped_and_reported(database):
    (bot,) = add_bots(database, 1)
    clock = SetClock()
    stage = Stage(database, clock, service={"max_errors": 2})
    stage.led().one_pass()
    for _ in range(14):
        clock.shift_ms += 1_999_000 // 2  # steps too, but the bars stay missing
        stage.scheduler._sweep()
    assert statuses(database)[bot] == "error"
    with database.read() as connection:
        found = bots.get_bot(connection, bot)
        alerts = (
            connection.execute(text("SELECT body FROM notifications WHERE kind = 'error'")).scalars().all()
        )
    assert "unresponsive" in found.last_error
    assert any("STOPPED" in body for body in alerts)


def test_a_standby_reads_ahead_and_writes_nothing(database):
    ids = add_bots(database, 2, interval="1m")
    edit(database, "INSERT INTO trading_bots (config) VALUES ('{}')")
    standby = Stage(database, name="standby", service={"poll_interval_s": 0.1})
    standby.one_pass()
    assert jobs(database) == {}
    assert set(statuses(database).values()) == {"stopped"}
    edit(database, "UPDATE trading_bots SET schedule = '@daily' WHERE id = 1")
    standby.led().one_pass()
    assert jobs(database).keys() == set(ids)
    assert "cron" in jobs(database)[1], "what was edited since is read again"
    assert statuses(database) == {1: "running", 2: "running", 3: "error"}
