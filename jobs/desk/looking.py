"""Looking at bots: rows as values, and what follows from a row and the time."""

from dataclasses import dataclass

from jobs.desk.actor import Actor, OpenDatabase, bot_for, may
from jobs.schedule import schedule_for
from persistence.database_errors import NoSuchBot
from persistence.ledger.history import read_steps, read_trades
from persistence.overviews import overviews
from persistence.rows import Bot, Overview, StepRow, TradeRow


def list_bots(database: OpenDatabase, actor: Actor, user_id: int | None = None) -> tuple[Overview, ...]:
    """Return the bots that the actor may see, by id; only those of `user_id` if it is given."""
    if user_id is not None and not may(actor, user_id):
        return ()
    with database.read() as transaction:
        return overviews(transaction, user_id=actor.user_id if user_id is None else user_id)


def show(database: OpenDatabase, actor: Actor, bot_id: int) -> Overview:
    """Return one bot. Raises NoSuchBot."""
    with database.read() as transaction:
        found = overviews(transaction, bot_ids=(bot_id,))
    if not found or not may(actor, found[0].bot.user_id):
        raise NoSuchBot(bot_id)
    return found[0]


def trades(
    database: OpenDatabase, actor: Actor, bot_id: int, limit: int | None = None
) -> tuple[TradeRow, ...]:
    """Return the newest closed trades of a bot, newest last. Raises NoSuchBot."""
    with database.read() as transaction:
        bot_for(transaction, actor, bot_id)
        return read_trades(transaction, bot_id, limit)[::-1]


def history(
    database: OpenDatabase, actor: Actor, bot_id: int, limit: int | None = None
) -> tuple[StepRow, ...]:
    """Return the newest bars of a bot, newest last. Raises NoSuchBot."""
    with database.read() as transaction:
        bot_for(transaction, actor, bot_id)
        return read_steps(transaction, bot_id, limit)[::-1]


def state_of(bot: Bot) -> str:
    """One word for what a bot does: that it failed, else what people ordered, else what the service wrote."""
    if bot.status == "error":
        return "error"
    if not bot.enabled:
        return "disabled"
    return "paused" if bot.paused else bot.status


@dataclass(frozen=True, slots=True)
class Timing:
    """What the times of a list are counted from: `now` and `settle` in ms."""

    now: int
    settle: int

    def next_moment(self, bot: Bot, interval: str) -> int | None:
        """Return when the bot's next bar is asked for (ms); None if it does not run or its row is broken."""
        if state_of(bot) not in {"running", "starting"}:
            return None
        try:
            following = schedule_for(interval, bot.schedule, self.settle).next_ms(self.now)
        except ValueError:  # plain SQL may write anything; the service has told the owner
            return None
        # A bot that waits after a failure is fired for it, and by no boundary before.
        waits = bot.retry_at is not None and bot.retry_at > self.now
        return bot.retry_at if waits else following

    def lag(self, overview: Overview, length: int | None) -> int | None:
        """Return how long ago the oldest bar closed that is not committed yet (ms); 0 if there is none."""
        if overview.last_bar is None or length is None:
            return None
        return max(0, self.now - self.settle - (overview.last_bar + 2 * length))
