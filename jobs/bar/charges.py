"""Failures written into the bots' rows: counted, with the moment of the next try, or the end.

One transaction for all failures of a batch: the count, the moment of the next try, the status and the alert
are there together or not at all. It is apart from the steps' transaction and comes after it, because
steps of other bots must stand whatever becomes of a charge. The loop calls it as well, for a bar
that hung or killed a worker: then there is nobody left in the worker to write it.

The moment of the next try stands in the row, so every fire that comes sooner, from whatever side, finds the
bot not ready (`due.py`); nobody has to remember it.

| the process dies ... | what the next run sees |
|---|---|
| before the charge is written | the same bar due: it fails again, and is charged then |
| after it, before the answer | the count and the next try; fired again, the bot waits |
"""

from collections.abc import Sequence
from dataclasses import replace

from jobs.alerts import name_of, owner_alert
from jobs.bar.failures import PASSING, Failure, backoff_ms, stops_the_bot
from jobs.settings import ServiceSettings
from persistence import bots, notifications
from persistence.bots import Bot
from persistence.database import Database
from persistence.leases import Fence
from strategies.secrecy import secrets_in, without_secrets


def charge(
    failures: Sequence[tuple[Bot, Failure]],
    database: Database,
    service: ServiceSettings,
    now_ms: int,
    fence: Fence | None = None,
) -> dict[int, Failure]:
    """Record failures in their bots' rows; return them by bot id with the time of the next try filled in.

    Raises DatabaseUnavailable, and LeaseLost: who does not lead any more must not count an error that
    the next leader counts as well.
    """
    if not failures:
        return {}
    with database.write(fence) as connection:
        charged = {}
        for bot, told in failures:
            # What a strategy or a driver raises may quote what it was given.
            failure = replace(told, message=without_secrets(told.message, *secrets_in(bot.config)))
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
            # The first of a row of failures is told, and the last. The world's failures pass by themselves.
            if stopped or (bot.error_count == 0 and failure.kind not in PASSING):
                key = f"error:{bot.revision}:{now_ms}"
                verb = "STOPPED" if stopped else "ERROR"
                alert = owner_alert(bot.id, key, name_of(bot), f"{verb}: {failure.message}")
                notifications.enqueue(connection, (alert,), now_ms=now_ms)
            charged[bot.id] = settled
    return charged


def _settled(bot: Bot, failure: Failure, service: ServiceSettings, now_ms: int) -> Failure:
    in_a_row = bot.error_count + 1
    if stops_the_bot(failure.kind, in_a_row, service):
        return replace(failure, retry_at_ms=None)
    retry_at = failure.retry_at_ms or now_ms + backoff_ms(in_a_row, service)
    return replace(failure, retry_at_ms=retry_at)
