"""Everything at one moment, for a screen that is drawn again and again."""

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.desk.actor import Actor, OpenDatabase
from persistence import notifications
from persistence.ledger.steps import count_trades
from persistence.notifications import Notification
from persistence.overviews import overviews
from persistence.rows import Overview


@dataclass(frozen=True, slots=True)
class Glance:
    """All bots at one moment, how many trades they have closed, and the newest alerts, newest first."""

    bots: tuple[Overview, ...]
    trades_of: Mapping[int, int]
    news: tuple[Notification, ...]


def glance(database: OpenDatabase, actor: Actor, most_news: int) -> Glance:
    """Read what is committed, in one transaction. Of the newest alerts, others' are left out."""
    with database.read() as transaction:
        found = overviews(transaction, user_id=actor.user_id)
        ids = [overview.bot.id for overview in found]
        news = notifications.latest(transaction, most_news)
        if actor.user_id is not None:
            news = tuple(alert for alert in news if alert.bot_id in ids)
        return Glance(found, count_trades(transaction, ids), news)
