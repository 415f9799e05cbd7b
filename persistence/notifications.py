"""The outbox: alerts are rows, committed together with what they tell; somebody sends them later.

An alert is sent at least once: if the process dies between sending and `mark_sent`, it goes out
again under the same key.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from persistence.setwise import Target, write_rows
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


NOTIFICATIONS: Final = Target(
    "notifications",
    (
        ("key", "text"),
        ("bot_id", "int"),
        ("bar", "int"),
        ("kind", "text"),
        ("title", "text"),
        ("body", "text"),
        ("created_at", "moment"),
        ("next_attempt_at", "moment"),
    ),
    ("key",),
    keep=("*",),
)


def enqueue(transaction: Transaction, notifications: Iterable[Notification], *, now_ms: int) -> None:
    """Put alerts into the outbox; the first one under a key stays."""
    rows = {
        each.key: (each.key, each.bot_id, each.bar, each.kind, each.title, each.body, now_ms, now_ms)
        for each in notifications
    }
    write_rows(transaction, NOTIFICATIONS, list(rows.values()))


def due(transaction: Transaction, *, now_ms: int, limit: int = 100) -> tuple[Notification, ...]:
    """Return unsent alerts whose time has come. On PostgreSQL this transaction owns them until it ends."""
    skip = "" if is_sqlite(transaction) else " FOR UPDATE SKIP LOCKED"
    rows = run(
        transaction,
        "SELECT key, bot_id, bar, kind, title, body FROM notifications"
        " WHERE sent_at IS NULL AND next_attempt_at <= :now ORDER BY next_attempt_at, key LIMIT :limit"
        + skip,
        {"now": moment(transaction, now_ms), "limit": limit},
    )
    return tuple(Notification(*row) for row in rows)


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
    rows = run(
        transaction,
        "SELECT key, bot_id, bar, kind, title, body FROM notifications"
        " ORDER BY created_at DESC, bar DESC, key DESC LIMIT :limit",
        {"limit": limit},
    )
    return tuple(Notification(*row) for row in rows)
