"""R2.6, D2, D3: several people at one desk at once, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs import desk
from jobs.desk import Actor, Result
from persistence.bots import get_bot
from persistence.database import open_database
from tests.jobs.command.ledgers import insert_bot

ROUNDS = 30
MOVES = (desk.start, desk.stop, desk.restart, desk.pause, desk.resume, desk.remove)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
def test_a_bot_that_changes_hands_is_not_moved_by_its_old_owner(database, move):
    bot_id = insert_bot(database)
    begun = threading.Event()

    def old_owner():
        begun.set()
        return move(database, Actor("web:anna", 1), [bot_id])

    with ThreadPoolExecutor(1) as pool:
        with database.write() as connection:
            connection.exec_driver_sql(f"UPDATE trading_bots SET user_id = 2 WHERE id = {bot_id}")
            asked = pool.submit(old_owner)
            begun.wait()
            with pytest.raises(TimeoutError):  # it waits for the row
                asked.result(0.3)
        assert [moved.result for moved in asked.result(10)] == [Result.NO_SUCH_BOT]
    with database.read() as connection:
        bot = get_bot(connection, bot_id)
    assert (bot.user_id, bot.enabled, bot.paused) == (2, True, False)


def test_moves_of_many_bots_in_opposite_orders_do_not_deadlock(database):
    ids = [insert_bot(database) for _ in range(8)]

    def asked(order):
        own = open_database(database.url)
        try:
            for number in range(ROUNDS):
                move = (desk.pause, desk.resume, desk.restart)[number % 3]
                moved = move(own, Actor("jobs:root"), order)
                assert [one.bot_id for one in moved] == order, "in the order in which they were named"
        finally:
            own.close()

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(asked, order) for order in (ids, ids[::-1], ids[4:] + ids[:4])]:
            done.result(60)
