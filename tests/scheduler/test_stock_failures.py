"""The twenty ways in which APScheduler 3.11.3 fails on its own, shown on it and answered by ours."""

import pickle
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
import sqlalchemy as sa
from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers import base as stock_base
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from scheduler_stage import SetClock, Stage, add_bots, wait_for
from sqlalchemy import event, text

from jobs.schedule import Boundaries, Cron, milliseconds, moment
from persistence.database import open_database
from persistence.database_errors import DatabaseUnavailable
from scheduler.crew.backlog import Backlog
from scheduler.service.jobrow import FUNCTION
from scheduler.service.jobstore import BotJobStore
from scheduler.service.triggers import ScheduleTrigger

# The thread that the stock scheduler loses is what some of these show.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

RAN = []  # what stock jobs did; emptied for every test


@pytest.fixture(autouse=True)
def _forget():
    RAN.clear()


def stock_job(name):
    RAN.append((name, time.time()))


def slow_job(name):
    RAN.append((name, time.time()))
    time.sleep(1.5)


def plain(url):
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def stock(url, **options):
    """Run a stock scheduler over a store of its own kind in the same database."""
    engine = sa.create_engine(plain(url), **options)
    store = SQLAlchemyJobStore(engine=engine, tablename="stock_jobs")
    scheduler = BackgroundScheduler(jobstores={"default": store}, timezone=UTC)
    scheduler.start()
    try:
        yield scheduler, engine
    finally:
        if scheduler.running:
            scheduler.shutdown(wait=False)
        engine.dispose()


@contextmanager
def before_statement(engine, word, action):
    """Call `action` once, before the next statement on the jobs that begins with `word`."""
    left = [1]

    def cut(conn, _cursor, statement, *_):
        if left and "_jobs" in statement and statement.lstrip().startswith(word):
            left.clear()
            action(conn)

    event.listen(engine, "before_cursor_execute", cut)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", cut)


def kill_backend(server):
    """Return an action that ends the connection which is about to be used, as a server's restart does."""

    def kill(conn):
        pid = conn.connection.dbapi_connection.info.backend_pid
        with psycopg.connect(server, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))

    return kill


def alive(scheduler):
    return scheduler._thread.is_alive()


def fires_again(stage, count=1, timeout_s=8.0):
    before = len(stage.crew.alarms)
    return wait_for(lambda: len(stage.crew.alarms) >= before + count, timeout_s)


@pytest.fixture
def ours(database):
    stage = Stage(database)
    add_bots(database, 1)
    yield stage
    stage.stop()


@pytest.fixture
def postgres(postgres_url):
    opened = open_database(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(sqlite_url):
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


def test_a1_database_lost_while_looking_for_due_jobs(postgres, postgres_server):
    with stock(postgres.url) as (scheduler, engine):
        scheduler.add_job(stock_job, "interval", seconds=1, args=["x"])
        with before_statement(engine, "SELECT", kill_backend(postgres_server)):
            assert wait_for(lambda: len(RAN) >= 1, 3.0) is False  # it sleeps 10 s after the first error
        assert alive(scheduler)
    add_bots(postgres, 1)
    stage = Stage(postgres).start()
    assert fires_again(stage)
    with before_statement(postgres.engine, "SELECT", kill_backend(postgres_server)):
        assert fires_again(stage, 2, 4.0)
    stage.stop()


@pytest.mark.parametrize("pre_ping", [False, True], ids=["a2", "a4_pre_ping_is_no_answer"])
def test_a2_a4_database_lost_while_a_job_is_moved_on(postgres, postgres_server, pre_ping):
    with stock(postgres.url, pool_pre_ping=pre_ping) as (scheduler, engine):
        scheduler.add_job(stock_job, "interval", seconds=1, args=["x"])
        with before_statement(engine, "UPDATE", kill_backend(postgres_server)):
            assert wait_for(lambda: not alive(scheduler), 5.0)
        assert scheduler.running, "it says that it runs"
    add_bots(postgres, 1)
    stage = Stage(postgres).start()
    assert fires_again(stage)
    with before_statement(postgres.engine, "WITH claimed", kill_backend(postgres_server)):
        assert fires_again(stage, 2)
    assert stage.thread.is_alive()
    stage.stop()


def test_a3_sqlite_locked_by_another(sqlite):
    path = sqlite.url.removeprefix("sqlite:///")
    with stock(sqlite.url, connect_args={"timeout": 0.2}) as (scheduler, _):
        scheduler.add_job(stock_job, "interval", seconds=1, args=["x"])
        other = sqlite3.connect(path, isolation_level=None, timeout=10)
        other.execute("BEGIN IMMEDIATE")
        assert wait_for(lambda: not alive(scheduler), 5.0)
        other.rollback()
        assert scheduler.running
    add_bots(sqlite, 1)
    stage = Stage(sqlite).start()
    assert fires_again(stage)
    other.execute("BEGIN IMMEDIATE")
    time.sleep(6.5)  # longer than the 5 s that a writer waits
    quiet = len(stage.crew.alarms)
    other.rollback()
    other.close()
    assert fires_again(stage)
    assert stage.thread.is_alive()
    assert quiet >= 1
    stage.stop()


def test_a5_job_removed_by_another_process_in_the_window(database):
    with stock(database.url) as (scheduler, engine):
        scheduler.add_job(stock_job, "interval", seconds=1, args=["x"], id="x")
        with before_statement(engine, "UPDATE", lambda conn: conn.execute(text("DELETE FROM stock_jobs"))):
            assert wait_for(lambda: not alive(scheduler), 5.0)
    add_bots(database, 2)
    stage = Stage(database).led()
    stage.one_pass()
    stage.crew.alarms.clear()
    with after_look(stage.scheduler.store, database, "DELETE FROM apscheduler_jobs WHERE id = 'bot:1'"):
        time.sleep(2.6)
        stage.one_pass()
    assert [alarm.bot_id for alarm in stage.crew.alarms] == [2]


def test_a6_pause_by_another_process_in_the_window(database):
    with stock(database.url) as (scheduler, engine):
        scheduler.add_job(stock_job, "interval", seconds=1, args=["x"], id="x")
        pause = text("UPDATE stock_jobs SET next_run_time = NULL")
        with before_statement(engine, "UPDATE", lambda conn: conn.execute(pause)):
            assert wait_for(lambda: len(RAN) >= 1, 4.0)
            time.sleep(0.3)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT next_run_time FROM stock_jobs")).scalar()
        assert found is not None, "the pause was overwritten"
    add_bots(database, 1)
    stage = Stage(database).led()
    stage.one_pass()
    stage.crew.alarms.clear()
    time.sleep(2.6)
    with after_look(stage.scheduler.store, database, "UPDATE apscheduler_jobs SET next_run_time = NULL"):
        stage.scheduler._fire_due()
    assert stage.crew.alarms == []
    with database.read() as connection:
        found = connection.execute(text("SELECT next_run_time FROM apscheduler_jobs")).scalar()
    assert found is None, "the pause stands"


@contextmanager
def after_look(store, database, sql):
    """Run `sql` as another process would, between the look at the due rows and their claim."""
    moved = store._move

    def move(moves):
        with database.write() as connection:
            connection.execute(text(sql))
        return moved(moves)

    store._move = move
    try:
        yield
    finally:
        store._move = moved


def test_a7_two_schedulers_on_one_store(database):
    with stock(database.url) as (first, _), stock(database.url) as (second, _):
        for number in range(10):
            first.add_job(stock_job, "interval", seconds=1, args=[number], id=str(number))
        second.wakeup()
        time.sleep(3.5)
        slots = {(name, round(at)) for name, at in RAN}
        assert len(RAN) > len(slots), "stock runs jobs twice"
    add_bots(database, 10)
    begun = Stage(database).led()
    begun.one_pass()
    stores = [BotJobStore(database), BotJobStore(open_database(database.url))]
    claimed, lock = [], threading.Lock()

    def claim(store):
        end = time.monotonic() + 4.0
        while time.monotonic() < end:
            alarms = claim_or_nothing(store)
            with lock:
                claimed.extend((alarm.bot_id, alarm.due_ms) for alarm in alarms)

    threads = [threading.Thread(target=claim, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores[1].database.close()
    assert len(claimed) >= 20
    assert len(claimed) == len(set(claimed)), "ours claims every slot once"


def claim_or_nothing(store):
    try:
        return store.claim_due(time.time_ns() // 1_000_000).alarms
    except DatabaseUnavailable:  # two writers on SQLite: one waits its turn in vain
        return ()


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def die(_):
    raise Killed


class OnePass(BlockingScheduler):
    """A stock scheduler whose passes are called by hand."""

    def _main_loop(self):
        return


def stock_by_hand(url):
    engine = sa.create_engine(plain(url))
    scheduler = OnePass(
        jobstores={"default": SQLAlchemyJobStore(engine=engine, tablename="stock_jobs")}, timezone=UTC
    )
    scheduler.start()
    return scheduler, engine


def test_a8_death_between_handing_over_and_moving_on(database):
    first, engine = stock_by_hand(database.url)
    first.add_job(stock_job, "interval", seconds=3600, args=["x"], id="x", next_run_time=datetime.now(UTC))
    with before_statement(engine, "UPDATE", die), pytest.raises(Killed):
        first._process_jobs()
    second, other = stock_by_hand(database.url)
    second._process_jobs()
    assert wait_for(lambda: len(RAN) == 2, 3.0), "stock runs it twice"
    for scheduler, used in ((first, engine), (second, other)):
        scheduler.shutdown(wait=True)
        used.dispose()
    add_bots(database, 1)
    stage = Stage(database).led()
    stage.one_pass()
    stage.crew.alarms.clear()
    time.sleep(2.6)
    word = "WITH claimed" if database.dialect == "postgresql" else "UPDATE apscheduler"
    with before_statement(database.engine, word, die), pytest.raises(Killed):
        stage.scheduler._fire_due()
    assert stage.crew.alarms == [], "nothing is handed over before the claim is committed"
    stage.scheduler._fire_due()
    assert len(stage.crew.alarms) == 1


def test_a9_death_in_the_middle_of_a_job(database):
    first, engine = stock_by_hand(database.url)
    first.add_job(stock_job, "interval", seconds=3600, args=["x"], id="x", next_run_time=datetime.now(UTC))
    first._process_jobs()  # handed over and moved on; imagine that the process died in the job
    RAN.clear()
    second, other = stock_by_hand(database.url)
    second._process_jobs()
    assert RAN == [], "stock never runs it again"
    for scheduler, used in ((first, engine), (second, other)):
        scheduler.shutdown(wait=True)
        used.dispose()
    add_bots(database, 1, interval="1h")
    dead = Stage(database).led()
    dead.one_pass()
    stage = Stage(database, name="two")
    dead.leadership.stop()
    stage.led().one_pass()
    assert len(stage.crew.alarms) == 1, "the next start fires every bot, and its cursor says what it owes"


def test_a10_job_that_cannot_be_read(database):
    with stock(database.url) as (scheduler, engine):
        scheduler.add_job(stock_job, "interval", seconds=3600, args=["x"])
        with engine.begin() as connection:
            connection.execute(text("UPDATE stock_jobs SET job_state = :bad"), {"bad": b"not a pickle"})
        scheduler.get_jobs()
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM stock_jobs")).scalar() == 0
    store = BotJobStore(database)
    rows = ["", "null", "not json", '{"func": "os:system", "args": ["true"]}', "[]", '{"args": [1]}']
    with database.write() as connection:
        for number, state in enumerate(rows):
            connection.execute(
                text("INSERT INTO apscheduler_jobs (id, next_run_time, job_state) VALUES (:id, 1, :state)"),
                {"id": f"job-{number}", "state": state},
            )
    store.start(None, "default")
    assert store.get_all_jobs() == []
    assert len(store.claim_due(time.time_ns() // 1_000_000).unreadable) == len(rows)
    assert len(store.rows()[1]) == len(rows)
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM apscheduler_jobs")).scalar() == len(rows)


class Marker:
    """Unpickled, it leaves a mark."""

    def __reduce__(self):
        return (RAN.append, ("unpickled",))


def test_a11_a_row_of_the_jobs_table_is_never_executed(database, tmp_path):
    mark = tmp_path / "mark"
    hostile = pickle.dumps({"x": Marker()})
    with stock(database.url) as (scheduler, engine):
        scheduler.add_job(stock_job, "interval", seconds=3600, args=["x"])
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE stock_jobs SET job_state = :bad"),
                {"bad": f"cos\nmkdir\n(S'{mark}'\ntR.".encode()},
            )
        scheduler.get_jobs()
        assert mark.exists(), "stock executed what the row said"
    mark.rmdir()
    store = BotJobStore(database)
    store.start(None, "default")
    with database.write() as connection:
        for number, state in enumerate(
            (
                hostile.decode("latin-1").replace("\0", ""),
                f"cos\nmkdir\n(S'{mark}'\ntR.",
                (
                    f'{{"args": ["{mark}"], "func": "os:mkdir", "group": "csv",'
                    ' "trigger": {"interval": "1s", "settle_ms": 0}}'
                ),
            )
        ):
            connection.execute(
                text("INSERT INTO apscheduler_jobs (id, next_run_time, job_state) VALUES (:id, 1, :state)"),
                {"id": f"bot:{number}", "state": state},
            )
    assert store.get_all_jobs() == []
    assert store.claim_due(time.time_ns() // 1_000_000).alarms == ()
    assert not mark.exists()
    assert "unpickled" not in RAN


def test_a12_a_late_fire_is_a_fire(database):
    events = []
    with stock(database.url) as (scheduler, _):
        scheduler.add_listener(lambda found: events.append(found.code), EVENT_JOB_MISSED | EVENT_JOB_EXECUTED)
        late = datetime.now(UTC) - timedelta(seconds=5)
        scheduler.add_job(stock_job, "interval", seconds=3600, args=["x"], next_run_time=late)
        assert wait_for(lambda: events, 3.0)
        assert events == [EVENT_JOB_MISSED]
        assert RAN == []
    add_bots(database, 1, interval="1h")
    stage = Stage(database).led()
    stage.one_pass()
    stage.crew.alarms.clear()
    with database.write() as connection:
        connection.execute(text("UPDATE apscheduler_jobs SET next_run_time = 1000"))
    stage.scheduler._fire_due()
    assert len(stage.crew.alarms) == 1


def test_a13_a_fire_for_a_bot_that_is_running_is_not_forgotten(sqlite):
    skipped = []
    with stock(sqlite.url) as (scheduler, _):
        scheduler.add_listener(skipped.append, EVENT_JOB_MAX_INSTANCES)
        scheduler.add_job(slow_job, "interval", seconds=1, args=["x"])
        assert wait_for(lambda: skipped, 5.0), "stock drops the fire and moves the schedule on"
    backlog = Backlog(1, 10, 1)
    backlog.add([(7, "generated")], 0.0)
    batch = backlog.take(0, 0.0)
    backlog.add([(7, "generated")], 0.5)
    assert backlog.take(0, 0.6) is None, "one bot is never in two batches"
    backlog.finish(batch, 1.0)
    assert backlog.take(0, 1.0).bot_ids == (7,), "the fire was kept for afterwards"


def test_a14_hung_jobs_fill_the_pool(sqlite):
    release = threading.Event()
    with stock(sqlite.url) as (scheduler, _):
        scheduler._jobstores["default"]._logger.disabled = True
        pool = scheduler._executors["default"]._pool
        for _ in range(10):
            pool.submit(release.wait, 30)
        scheduler.add_job(stock_job, "interval", seconds=1, args=["healthy"])
        time.sleep(3.5)
        assert RAN == [], "stock: ten hung calls, and no healthy job runs"
        release.set()
    # Ours: an exchange occupies some of the workers. test_workers.py shows it with real processes.
    backlog = Backlog(4, 10, 2)
    backlog.add([(number, "hung-exchange") for number in range(100)], 0.0)
    backlog.add([(1000, "healthy")], 1.0)
    batches = [backlog.take(worker, 10.0) for worker in range(4)]
    assert [batch.group for batch in batches if batch] == ["hung-exchange", "hung-exchange", "healthy"]


class FakedTime(datetime):
    shift = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.shift


@pytest.fixture
def stock_clock(monkeypatch):
    """Give the stock scheduler a clock that can be set; it has no other way to be given one."""
    monkeypatch.setattr(stock_base, "datetime", FakedTime)
    yield FakedTime
    FakedTime.shift = timedelta()


def test_a15_clock_set_back(database, stock_clock):
    scheduler, engine = stock_by_hand(database.url)
    scheduler.add_job(stock_job, "interval", seconds=1, args=["x"])
    stock_clock.shift = timedelta(hours=-1)
    assert scheduler._process_jobs() > 3000, "stock sleeps for an hour"
    scheduler.shutdown()
    engine.dispose()
    add_bots(database, 1)
    clock = SetClock()
    stage = Stage(database, clock).led()
    stage.one_pass()
    stage.crew.alarms.clear()
    clock.step(-3_600_000)
    assert stage.one_pass() <= 1.0
    assert stage.crew.alarms, "every bot is fired at once, its cursor keeps it from doing a bar twice"
    stage.crew.alarms.clear()
    time.sleep(2.6)
    stage.one_pass()
    assert stage.crew.alarms, "and the schedule goes on from the new time"
    with database.read() as connection:
        kinds = connection.execute(text("SELECT title FROM notifications")).scalars().all()
    assert "Clock stepped" in kinds


def test_a16_clock_set_forward_or_machine_suspended(database):
    events = []
    engine = sa.create_engine(plain(database.url))
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(engine=engine, tablename="stock_jobs")}, timezone=UTC
    )
    scheduler.start()
    scheduler.add_listener(lambda found: events.append(found.code), EVENT_JOB_MISSED | EVENT_JOB_EXECUTED)
    scheduler.add_job(stock_job, IntervalTrigger(seconds=8), args=["x"])
    time.sleep(0.3)
    with engine.begin() as connection:  # the machine slept: the fire lies 6 s back when it wakes
        late = time.time() - 6
        connection.execute(text("UPDATE stock_jobs SET next_run_time = :late"), {"late": late})
    with engine.begin() as connection:
        job = scheduler.get_jobs()[0]
        job.next_run_time = datetime.fromtimestamp(late, UTC)
        scheduler._jobstores["default"].update_job(job)
    scheduler.wakeup()
    assert wait_for(lambda: events, 4.0)
    assert events[0] == EVENT_JOB_MISSED
    scheduler.shutdown(wait=False)
    engine.dispose()
    add_bots(database, 1, interval="1m")
    clock = SetClock()
    stage = Stage(database, clock).led()
    stage.one_pass()
    stage.crew.alarms.clear()
    clock.step(600_000)
    stage.one_pass()
    assert len(stage.crew.alarms) >= 1


def test_a17_a_far_jump_costs_neither_memory_nor_minutes(sqlite):
    scheduler = BackgroundScheduler(timezone=UTC)
    job = Job(scheduler, func=stock_job, args=("x",), kwargs={}, trigger=IntervalTrigger(seconds=1), name="x",
              executor="default", next_run_time=datetime(2026, 1, 1, tzinfo=UTC))  # fmt: skip
    assert len(job._get_run_times(datetime(2026, 1, 2, tzinfo=UTC))) == 86_401, "stock lists every second"
    job.trigger = ScheduleTrigger(Boundaries("1s", 0))
    assert len(job._get_run_times(datetime(2226, 1, 1, tzinfo=UTC))) == 1
    add_bots(sqlite, 20)
    clock = SetClock()
    stage = Stage(sqlite, clock).led()
    stage.one_pass()
    tracemalloc.start()
    begun = time.perf_counter()
    clock.step(-50 * 365 * 86_400_000)
    stage.one_pass()
    clock.step(100 * 365 * 86_400_000)
    stage.one_pass()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - begun < 2.0
    assert peak < 10_000_000
    assert stage.scheduler.clock_watch.held, "a jump of years is not believed"
    assert stage.crew.leads[-1][1] is False
    clock.step(-50 * 365 * 86_400_000)
    stage.one_pass()
    assert not stage.scheduler.clock_watch.held, "it is believed again when it comes back"
    assert stage.crew.leads[-1][1] is True


def test_a18_summer_time_moves_no_bar():
    zone = "Europe/Berlin"
    stock_trigger = CronTrigger(hour="*/4", minute=0, timezone=zone)
    at, gaps = datetime(2026, 3, 28, 12, tzinfo=UTC), set()
    for _ in range(12):
        following = stock_trigger.get_next_fire_time(None, at + timedelta(seconds=1)).astimezone(UTC)
        gaps.add((following - at).total_seconds() / 3600)
        at = following
    assert gaps - {4.0}, "four-hour bars of three or five hours"
    trigger = Boundaries("4h", 0)
    fires = [milliseconds(datetime(2026, 3, 28, tzinfo=UTC))]
    for _ in range(3000):
        fires.append(trigger.next_ms(fires[-1]))
    assert {after - before for before, after in pairwise(fires)} == {4 * 3_600_000}
    local = Cron(f"CRON_TZ={zone} 30 2 * * *", 0)
    days = [
        moment(local.next_ms(milliseconds(datetime(2026, 10, day, 12, tzinfo=UTC)))).date()
        for day in (23, 24, 25)
    ]
    assert len(set(days)) == 3


DEADLOCK = """
import os, sys, threading, time
from datetime import UTC
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
scheduler = BackgroundScheduler(executors={"default": ThreadPoolExecutor(2)}, timezone=UTC)
scheduler.start()
inside, go, stopped = threading.Event(), threading.Event(), threading.Event()
def asking():
    inside.set()
    go.wait()
    scheduler.get_jobs()
scheduler._executors["default"]._pool.submit(asking)
inside.wait()
threading.Thread(target=lambda: (scheduler.shutdown(wait=True), stopped.set()), daemon=True).start()
time.sleep(0.3)
go.set()
print("stopped" if stopped.wait(3.0) else "deadlock", flush=True)
os._exit(0)
"""


def test_a19_a_job_that_asks_while_the_scheduler_stops(sqlite):
    said = subprocess.run(
        [sys.executable, "-c", DEADLOCK], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip() == "deadlock", "stock waits for a job that waits for stock"
    add_bots(sqlite, 1)
    stage = Stage(sqlite).start()
    assert fires_again(stage)
    begun = time.monotonic()
    with stage.scheduler._jobstores_lock, stage.scheduler._executors_lock:  # as if somebody asked
        stage.stop()
    assert time.monotonic() - begun < 5.0
    assert not stage.thread.is_alive()


def test_a20_the_database_is_down_at_the_start(tmp_path, sqlite_template):
    folder = tmp_path / "later"
    url = f"sqlite:///{folder / 'onebar.db'}"
    scheduler = BackgroundScheduler(jobstores={"default": SQLAlchemyJobStore(url=url)}, timezone=UTC)
    with pytest.raises(sa.exc.OperationalError):
        scheduler.start()
    database = open_database(url)
    stage = Stage(database)
    stage.thread = threading.Thread(target=stage.scheduler.start, daemon=True)
    stage.thread.start()
    time.sleep(1.0)
    assert stage.thread.is_alive()
    folder.mkdir()
    (folder / "onebar.db").write_bytes(sqlite_template.read_bytes())
    add_bots(database, 1)
    stage.led()
    assert fires_again(stage)
    stage.stop()
    database.close()


def test_the_stored_name_of_the_job_is_pinned():
    assert FUNCTION == "jobs.bar:run_bar"
