"""The outbox: alerts are rows, committed together with what they tell; they leave later.

To send from inside the step would tell of a bar that may still be rolled back, and to send after the
commit would forget it in a crash. So the step's transaction writes the alert. Nothing sends them yet;
what will has to send first and mark afterwards, so that an alert leaves at least once.

| the process dies ... | what the next one sees |
|---|---|
| before the commit of what is told | no row: the bar is stepped again and tells it under the same key |
| after it | a row that is due |

The key names the event (bot, bar, place in the bar; of a failure its moment), so an event that is told twice
by the same bar is one row, and a receiver can drop what it has seen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from persistence.columns import Moment, Small, Table, read_rows, selected
from persistence.setwise import insert_new
from persistence.transaction import Transaction, run


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


def latest(transaction: Transaction, limit: int) -> tuple[Notification, ...]:
    """Return the newest alerts, newest first."""
    rows = run(
        transaction,
        f"SELECT {selected(Notification, transaction.dialect.name, 'n')} FROM notifications n"
        " ORDER BY n.created_at DESC, n.bar DESC, n.key DESC LIMIT :limit",
        {"limit": limit},
    )
    return read_rows(rows, Notification)
