"""The outbox: alerts are rows, committed together with what they tell; somebody sends them later.

To send from inside the step would tell of a bar that may still be rolled back, and to send after the
commit would forget it in a crash. So the step's transaction writes the alert, and a sender takes what is
due, sends, and marks it, in this order: an alert is sent at least once.

| the process dies ... | what the next one sees |
|---|---|
| before the commit of what is told | no row: the bar is stepped again and tells it under the same key |
| after it, before the alert is sent | a row that is due |
| between sending and the commit of `mark_sent` | a row that is due: it goes out a second time, same key |
| after `mark_sent` | nothing to do |

The key names the event (bot, bar, what happened), never the attempt. That makes an event that is told
twice one row, and lets a receiver drop what it has seen. Two senders do not meet: on PostgreSQL `due`
locks what it returns and skips what another one has locked, on SQLite there is one writer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from persistence.columns import Moment, Small, Table, read_rows, selected
from persistence.setwise import insert_new
from persistence.text import storable
from persistence.transaction import Transaction, is_sqlite, moment, run


@dataclass(frozen=True, slots=True)
class Notification:
    """`key` names the event (bot, bar, what happened), so that an event told twice is one row."""

    key: str
    bot_id: int | None
    bar: int | None
    kind: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class OutboxRow(Notification):
    """A row of `notifications`: an alert, and what has become of it."""

    created_at: Moment
    next_attempt_at: Moment
    attempts: Small = 0
    last_error: str | None = None
    sent_at: Moment | None = None


NOTIFICATIONS: Final = Table("notifications", OutboxRow, key=("key",))


def enqueue(transaction: Transaction, notifications: Iterable[Notification], *, now_ms: int) -> None:
    """Put alerts into the outbox; the first one under a key stays."""
    rows = {
        alert.key: OutboxRow(
            key=alert.key,
            bot_id=alert.bot_id,
            bar=alert.bar,
            kind=alert.kind,
            title=alert.title,
            body=alert.body,
            created_at=now_ms,
            next_attempt_at=now_ms,
        )
        for alert in notifications
    }
    insert_new(transaction, NOTIFICATIONS, list(rows.values()))


def due(transaction: Transaction, *, now_ms: int, limit: int = 100) -> tuple[Notification, ...]:
    """Return unsent alerts whose time has come. On PostgreSQL this transaction owns them until it ends."""
    skip = "" if is_sqlite(transaction) else " FOR UPDATE SKIP LOCKED"
    waiting = (
        "WHERE n.sent_at IS NULL AND n.next_attempt_at <= :now ORDER BY n.next_attempt_at, n.key LIMIT :limit"
    )
    return _alerts(transaction, waiting + skip, {"now": moment(transaction, now_ms), "limit": limit})


def mark_sent(transaction: Transaction, key: str, *, now_ms: int) -> None:
    run(
        transaction,
        "UPDATE notifications SET sent_at = :now, attempts = attempts + 1, last_error = NULL"
        " WHERE key = :key",
        {"now": moment(transaction, now_ms), "key": key},
    )


def mark_failed(transaction: Transaction, key: str, *, error: str, retry_at_ms: int) -> None:
    run(
        transaction,
        "UPDATE notifications SET attempts = attempts + 1, last_error = :error, next_attempt_at = :retry_at"
        " WHERE key = :key",
        {"error": storable(error), "retry_at": moment(transaction, retry_at_ms), "key": key},
    )


def latest(transaction: Transaction, limit: int) -> tuple[Notification, ...]:
    """Return the newest alerts, sent or not, newest first."""
    newest = "ORDER BY n.created_at DESC, n.bar DESC, n.key DESC LIMIT :limit"
    return _alerts(transaction, newest, {"limit": limit})


def _alerts(
    transaction: Transaction, which: str, parameters: Mapping[str, object]
) -> tuple[Notification, ...]:
    columns = selected(Notification, transaction.dialect.name, "n")
    rows = run(transaction, f"SELECT {columns} FROM notifications n {which}", parameters)
    return read_rows(rows, Notification)
