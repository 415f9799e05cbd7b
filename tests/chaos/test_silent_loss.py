"""A leader is lost without a goodbye, between any two messages of the protocol or in one (D5, R8.6).

Its session keeps the lease's row locked, and only the server could know that nobody is there any more. The
next one leads at once when the lease is over, whatever the old one was about to say, and what it says when it
comes back changes nothing. Default: the messages of a renewal and some of a batch and a pass; ONEBAR_ATTACK=1
(`make attack`) tries all of them, whole and by halves.
"""

import os
import sys
import threading
import time
from contextlib import suppress

import pytest
from silent_wire import SilentWire

from jobs.alerts import owner_alert
from persistence import bots, leases, notifications
from persistence.connect import session_named
from persistence.database import open_database
from persistence.database_errors import DatabaseUnavailable, LeaseLost
from scheduler.service.jobstore import BotJobStore
from scheduler.service.leadership import Leadership

ALL = bool(os.environ.get("ONEBAR_ATTACK"))
TTL_S = 1.0
TAKEN_S = 1.0  # from the lease's end to the next leader
STEP = 1 if ALL else 6

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="unix sockets"), pytest.mark.timeout(1800)]


class Lost:
    """A leader behind a wire, and what it does when the wire goes silent."""

    def __init__(self, url):
        self.wire = SilentWire(url)
        self.database = open_database(session_named(self.wire.url, "old"), answer_timeout_s=3.0)
        self.leadership = Leadership(self.database, name="scheduler", holder="old", ttl_s=TTL_S)
        self.leadership.attempt()
        self.fence = self.leadership.fence()
        with self.database.write() as connection:
            self.bot = bots.add_bot(connection, config="{}", now_ms=1)
        self.done = threading.Event()
        self.error = None

    def renewal(self):
        self.leadership.attempt()

    def batch(self):
        """Write under the fence in several statements, as a batch does."""
        with self.database.write(self.fence) as connection:
            bots.beat(connection, [self.bot], now_ms=1_000)
            alert = owner_alert(self.bot, "late", "b", "written by an old leader")
            notifications.enqueue(connection, (alert,), now_ms=1_000)
            connection.exec_driver_sql("UPDATE trading_bots SET description = 'x' WHERE id = %s", (self.bot,))

    def passing(self):
        """Look, claim and read, as a pass does."""
        store = BotJobStore(self.database)
        store.fence = self.fence
        store.claim_due(10**12)
        store.drop([self.bot])
        self.batch()

    def do(self, what):
        def run():
            try:
                getattr(self, what)()
            except (DatabaseUnavailable, LeaseLost) as exc:
                self.error = exc
            self.done.set()

        threading.Thread(target=run, daemon=True).start()

    def close(self):
        self.wire.wake()
        self.done.wait(10)
        self.wire.close()
        self.database.close()


def messages(url, what):
    """Count the messages of what a leader does, once the pool and the plans are warm."""
    lost = Lost(url)
    getattr(lost, what)()
    lost.wire.count()
    getattr(lost, what)()
    found = lost.wire.sent
    lost.close()
    return found


def takeover(lost, url):
    """Return the s from the end of the lease until another one leads."""
    database = open_database(session_named(url, "new"))
    standby = Leadership(database, name="scheduler", holder="new", ttl_s=TTL_S)
    try:
        with database.read() as connection:
            until = leases.read_lease(connection, "scheduler").until
        end = time.monotonic() + 20
        while standby.fence() is None and time.monotonic() < end:
            time.sleep(0.1)
            standby.attempt()
        assert standby.fence() is not None
        assert standby.fence().epoch > lost.fence.epoch
        taken = time.time() - until / 1000
        written = notes(database)
        lost.wire.wake()  # it comes back and says the rest
        assert lost.done.wait(20)
        with suppress(DatabaseUnavailable, LeaseLost):
            lost.batch()
        assert notes(database) == written, "nothing of the old leader after the takeover"
        return taken
    finally:
        database.close()


def notes(database):
    with database.read() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM notifications").scalar_one()


@pytest.mark.parametrize("half", [False, True], ids=["between", "within"])
@pytest.mark.parametrize("what", ["renewal", "batch", "passing"])
def test_a_leader_that_is_lost_at_any_message_is_followed_at_once(postgres_url, what, half, capsys):
    every = messages(postgres_url, what)
    tried = [*range(0, every, STEP)]
    times = []
    for after in tried:
        wipe(postgres_url)
        lost = Lost(postgres_url)
        getattr(lost, what)()
        with lost.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM notifications")
        lost.renewal()
        lost.wire.count(after, half=half)
        lost.do(what)
        assert lost.wire.silent.wait(10)
        times.append((after, round(takeover(lost, postgres_url), 2)))
        lost.close()
    with capsys.disabled():
        worst = max(taken for _, taken in times)
        print(f"\n{what}, {'within' if half else 'behind'} message n of {every}: {len(times)} lost,", end=" ")
        print(f"longest from the lease's end to the next leader {worst} s")
    assert worst < TAKEN_S, times


def wipe(url):
    database = open_database(url)
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM leases")
    database.close()
