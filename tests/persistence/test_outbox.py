"""R4.4, R4.5: alerts wait as rows."""

from stories import NOW

from persistence.notifications import Notification, enqueue, latest


def alert(key: str, **fields) -> Notification:
    return Notification(
        **{"key": key, "bot_id": 1, "bar": 2, "kind": "buy", "title": "t", "body": "b"} | fields
    )


def put(database, *alerts, now_ms: int = NOW):
    with database.write() as connection:
        enqueue(connection, alerts, now_ms=now_ms)


def kept(database, limit=10):
    with database.read() as connection:
        return latest(connection, limit)


def test_an_event_that_is_told_twice_is_one_row(database):
    put(database, alert("a", title="first"), alert("b"), alert("b"))
    put(database, alert("a", title="second"), alert("c", bot_id=None, bar=None))
    found = {waiting.key: waiting for waiting in kept(database)}
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"].title == "first"
    assert found["c"].bot_id is None
    put(database)
    assert len(kept(database)) == 3


def test_the_newest_come_first(database):
    for number in range(5):
        put(database, alert(f"{number}", bar=number), now_ms=NOW + number)
    assert [waiting.key for waiting in kept(database, 3)] == ["4", "3", "2"]
