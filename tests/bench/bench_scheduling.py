"""What one wake-up of 10,000 jobs costs: from the second they are due to the last one handed over.

Ours beside stock APScheduler 3.11.3 in one run, with a step that does nothing, on PostgreSQL (a
cluster of its own, fsync on, TCP) and SQLite (WAL). Stock calls a no-op in its pool of ten threads
and is given a misfire grace without end, or it would skip nearly all. Ours hands batches to two
worker processes. The machine is noisy: compare the ratio.

    python tests/bench/bench_scheduling.py [jobs]
"""

import pickle
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import sqlalchemy as sa
import structlog
from apscheduler.events import EVENT_JOB_SUBMITTED
from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import event, text

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1] / "chaos"), str(HERE.parents[1] / "scheduler")]

from postgres_cluster import Cluster
from scheduler_stage import bot_config, settings_for

from jobs.clock import SystemClock
from persistence import runs
from persistence.database import open_database
from persistence.schema.versions import upgrade
from scheduler.crew.crew import Crew
from scheduler.service.leadership import Leadership
from scheduler.service.loop import BotScheduler


def nothing(bot_id):
    del bot_id


def cpu_s():
    used = psutil.Process().cpu_times()
    return used.user + used.system


def stock(url, count):
    """Return the s from due to the last submission, and the CPU s of this process, of the stock scheduler."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    if url.startswith("sqlite"):
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA journal_mode=WAL"))
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(engine=engine, tablename="stock_jobs")},
        timezone=UTC,
        job_defaults={"misfire_grace_time": None},
    )
    scheduler.start()
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
    rows, hourly = [], IntervalTrigger(hours=1)
    for number in range(count):
        job = Job(
            scheduler, id=str(number), func=nothing, args=(number,), kwargs={}, trigger=hourly,
            executor="default", misfire_grace_time=None, coalesce=True, max_instances=1, next_run_time=due,
        )  # fmt: skip
        state = pickle.dumps(job.__getstate__())
        rows.append({"id": job.id, "next_run_time": due.timestamp(), "job_state": state})
    with engine.begin() as connection:
        connection.execute(scheduler._jobstores["default"].jobs_t.insert(), rows)
    submitted, done, cpu = [0], threading.Event(), [0.0]

    def seen(_):
        submitted[0] += 1
        if submitted[0] == count:
            done.set()

    scheduler.add_listener(seen, EVENT_JOB_SUBMITTED)
    scheduler.wakeup()
    time.sleep(max(0.0, due.timestamp() - time.time()))
    cpu[0] = cpu_s()
    assert done.wait(600)
    took, used = time.time() - due.timestamp(), cpu_s() - cpu[0]
    scheduler.shutdown(wait=True)
    engine.dispose()
    return took, used


def ours(url, count):
    """Return the same of ours; the bots' rows are there, as they always are."""
    upgrade(url)
    database = open_database(url)
    with database.write() as connection:
        connection.execute(
            text("INSERT INTO trading_bots (config) VALUES (:config)"),
            [{"config": bot_config(f"b{number}", "1h")} for number in range(count)],
        )
    settings = settings_for(url, workers={"count": 2, "batch": 100}, service={"poll_interval_s": 3600})
    clock = SystemClock()
    crew = Crew(
        settings, clock, command=(sys.executable, str(HERE.parents[1] / "scheduler" / "idle_worker.py"))
    )
    crew.start()
    leadership = Leadership(database, name="scheduler", holder="bench", ttl_s=60)
    leadership.attempt()
    run = runs.Run("bench", "here", 1, None, "starting", clock.now_ms(), clock.now_ms())
    scheduler = BotScheduler(database, settings, crew, leadership, run, clock)
    thread = threading.Thread(target=scheduler.start, daemon=True)
    thread.start()
    while crew.submitted < count:  # every bot is fired once at the start
        time.sleep(0.05)
    due = int(time.time()) + 3
    with database.write() as connection:
        connection.execute(text(f"UPDATE apscheduler_jobs SET next_run_time = {due}"))
    scheduler.wakeup()
    time.sleep(max(0.0, due - time.time()))
    cpu = cpu_s()
    while crew.submitted < 2 * count:
        time.sleep(0.001)
    took, used = time.time() - due, cpu_s() - cpu
    scheduler.shutdown()
    thread.join(10)
    crew.stop(5)
    database.close()
    return took, used


def main(count):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    cluster = Cluster()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, url in (("PostgreSQL", cluster.url()), ("SQLite", f"sqlite:///{folder}/bench.db")):
                took, cpu = ours(url, count)
                stock_took, stock_cpu = stock(url, count)
                print(
                    f"{name:10} {count} jobs due: ours {took:.2f} s ({1000 * cpu / count:.3f} ms CPU a job),"
                    f" stock {stock_took:.2f} s ({1000 * stock_cpu / count:.3f} ms):"
                    f" {stock_took / took:.1f} times faster",
                    flush=True,
                )
    finally:
        cluster.remove()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
