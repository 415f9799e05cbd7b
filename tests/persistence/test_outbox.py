from stories import NOW

from persistence.notifications import Notification, due, enqueue, mark_failed, mark_sent


def alert(key: str, **fields) -> Notification:
    return Notification(
        **{"key": key, "bot_id": 1, "bar": 2, "kind": "buy", "title": "t", "body": "b"} | fields
    )


def put(database, *alerts, now_ms: int = NOW):
    with database.write() as connection:
        enqueue(connection, alerts, now_ms=now_ms)


def waiting(database, now_ms: int = NOW) -> list[str]:
    with database.read() as connection:
        return [each.key for each in due(connection, now_ms=now_ms)]


def test_an_event_that_is_told_twice_is_one_row(database):
    put(database, alert("a", title="first"), alert("b"), alert("b"))
    put(database, alert("a", title="second"), alert("c", bot_id=None, bar=None))
    with database.read() as connection:
        found = due(connection, now_ms=NOW)
    assert [each.key for each in found] == ["a", "b", "c"]
    assert found[0].title == "first"
    assert found[2].bot_id is None
    put(database)


def test_r4_5_what_failed_comes_again_later_and_what_was_sent_does_not(database):
    put(database, alert("a"), alert("b"))
    put(database, alert("later"), now_ms=NOW + 5)
    assert waiting(database) == ["a", "b"]
    with database.write() as connection:
        mark_failed(connection, "a", error="no\0route", retry_at_ms=NOW + 60)
        mark_sent(connection, "b", now_ms=NOW)
    assert waiting(database, NOW + 59) == ["later"]
    assert waiting(database, NOW + 60) == ["later", "a"]
    with database.write() as connection:
        mark_sent(connection, "a", now_ms=NOW + 61)
        row = connection.exec_driver_sql(
            "SELECT attempts, last_error, sent_at IS NOT NULL FROM notifications WHERE key = 'a'"
        ).first()
    assert tuple(row) == (2, None, 1)


def test_limit_and_order(database):
    put(database, *(alert(f"{number:03}") for number in range(150)))
    assert len(waiting(database)) == 100
    with database.read() as connection:
        assert [each.key for each in due(connection, now_ms=NOW, limit=2)] == ["000", "001"]


def test_two_senders_do_not_send_the_same(postgres_url):
    from persistence.database import open_database

    database = open_database(postgres_url)
    put(database, *(alert(f"{number}") for number in range(10)))
    with database.write() as one, database.write() as two:
        first = {each.key for each in due(one, now_ms=NOW, limit=4)}
        second = {each.key for each in due(two, now_ms=NOW, limit=4)}
        assert len(first) == len(second) == 4
        assert not first & second
    database.close()
