"""Failures written into the bots' rows: counted, with the moment of the next try, or the end.

Also used by whoever supervises a worker process and has to charge a bot for a bar that hung or
killed it. If the process dies before a charge is written the bar fails again, and is charged then.
"""

from collections.abc import Sequence
from dataclasses import replace

from jobs.alerts import owner_alert
from jobs.bar.failures import PASSING, Failure, backoff_ms, stops_the_bot
from jobs.settings import ServiceSettings
from persistence import bots, notifications
from persistence.bots import Bot
from persistence.database import Database


def charge(
    failures: Sequence[tuple[Bot, Failure]], database: Database, service: ServiceSettings, now_ms: int
) -> dict[int, Failure]:
    """Record each failure in its bot's row; return them by bot id with the time of the next try filled in."""
    if not failures:
        return {}
    with database.write() as connection:
        charged = {}
        for bot, failure in failures:
            settled = _settled(bot, failure, service, now_ms)
            stopped = settled.retry_at_ms is None
            bots.record_failure(
                connection,
                bot.id,
                kind=failure.kind,
                message=failure.message,
                now_ms=now_ms,
                retry_at_ms=settled.retry_at_ms,
                status="error" if stopped else None,
            )
            if stopped or (bot.error_count == 0 and failure.kind not in PASSING):
                key = f"error:{bot.revision}:{now_ms}"
                verb = "STOPPED" if stopped else "ERROR"
                alert = owner_alert(bot.id, key, f"bot {bot.id}", f"{verb}: {failure.message}")
                notifications.enqueue(connection, (alert,), now_ms=now_ms)
            charged[bot.id] = settled
    return charged


def _settled(bot: Bot, failure: Failure, service: ServiceSettings, now_ms: int) -> Failure:
    in_a_row = bot.error_count + 1
    if stops_the_bot(failure.kind, in_a_row, service):
        return replace(failure, retry_at_ms=None)
    retry_at = failure.retry_at_ms or now_ms + backoff_ms(in_a_row, service)
    return replace(failure, retry_at_ms=retry_at)
