import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from stories import LIFE, add_bots, advance, save

from persistence.database import open_database
from persistence.database_errors import DatabaseUnavailable, LeaseLost
from persistence.leases import Fence, acquire, assert_held, read_lease, release, renew
from persistence.transaction import database_now

TTL = 60_000


def take(database, holder: str, **options):
    with database.write() as connection:
        return acquire(connection, "leader", holder, options.pop("ttl_ms", TTL), **options)


def test_d5_only_one_holds_it_and_every_holder_has_a_later_epoch(database):
    first = take(database, "one")
    assert take(database, "two") is None
    assert take(database, "one").epoch == first.epoch + 1, "a restart of the same holder fences its own past"
    with database.write() as connection:
        held = read_lease(connection, "leader")
        assert 0 < held.until - database_now(connection) <= TTL
        release(connection, first)
        assert read_lease(connection, "leader") == held, "an old epoch releases nothing"
        release(connection, held)
    assert take(database, "two").epoch == 3
    with database.read() as connection:
        assert read_lease(connection, "other") is None


def test_a_lease_that_is_over_can_be_taken_and_one_that_nobody_took_renewed(database):
    lease = take(database, "one", ttl_ms=1)
    time.sleep(0.01)
    with database.write() as connection:
        renewed = renew(connection, lease, 1)
        assert (renewed.epoch, renewed.holder) == (1, "one")
        assert renewed.until >= lease.until
    time.sleep(0.01)
    assert take(database, "two").epoch == 2
    with pytest.raises(LeaseLost), database.write() as connection:
        renew(connection, lease, TTL)


def test_take_needs_no_waiting(database):
    take(database, "one")
    assert take(database, "two", take=True).epoch == 2


def test_i6_writes_under_an_old_epoch_are_refused(database):
    take(database, "one")
    with database.write() as connection:
        assert_held(connection, Fence("leader", 1))
    take(database, "two", take=True)
    for fence in (Fence("leader", 1), Fence("leader", 3), Fence("nobody", 1)):
        with pytest.raises(LeaseLost), database.write() as connection:
            assert_held(connection, fence)


def test_many_at_once_get_it_once(database):
    """Many first times, because the moment in which two can meet is short."""
    won, rounds, together = [], 50, threading.Barrier(8)

    def compete(number: int) -> None:
        for name in range(rounds):
            together.wait(30)
            with database.write() as connection:
                lease = acquire(connection, f"{name}", f"holder {number}", TTL)
            if lease is not None:
                won.append(lease)

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(compete, number) for number in range(8)]:
            each.result()
    assert sorted(lease.name for lease in won) == sorted(f"{name}" for name in range(rounds))
    assert {lease.epoch for lease in won} == {1}


def test_a_takeover_waits_for_a_step_under_way_and_a_renewal_does_not(postgres_url):
    database = open_database(postgres_url)
    (bot,) = add_bots(database)
    lease = take(database, "one", ttl_ms=1)
    order = []
    with database.write() as stepping:
        assert_held(stepping, Fence("leader", 1))
        with database.write() as renewing:
            renewed = renew(renewing, lease, 1)
        assert renewed.epoch == 1
        taker = threading.Thread(target=lambda: order.append(("taken", take(database, "two").epoch)))
        time.sleep(0.01)
        taker.start()
        taker.join(timeout=0.3)
        assert taker.is_alive()
        order.append(("stepped", 1))
    taker.join()
    assert order == [("stepped", 1), ("taken", 2)]
    with pytest.raises(LeaseLost):
        save(database, advance(bot, LIFE[:1]), fence=Fence("leader", 1))
    database.close()


def test_a_holder_frozen_in_mid_transaction_is_cut_off(postgres_url):
    """What SIGSTOP does to it: an open transaction, and silence. Longer than the server allows."""
    database = open_database(f"{postgres_url}&options=-c%20idle_in_transaction_session_timeout%3D300ms")
    take(database, "one", ttl_ms=1)

    def freeze():
        with database.write() as frozen:
            assert_held(frozen, Fence("leader", 1))
            time.sleep(0.01)
            began = time.monotonic()
            assert take(database, "two").epoch == 2
            assert time.monotonic() - began < 2
            frozen.exec_driver_sql("INSERT INTO configurations VALUES ('late', 'late')")

    with pytest.raises(DatabaseUnavailable):
        freeze()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM configurations").first()[0] == 0
    database.close()
