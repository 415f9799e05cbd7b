"""What a failure is called, who is to blame, and when the bot may try again.

A failed bar never moves the cursor, so "try again" is nothing but the next fire.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from jobs.settings import ServiceSettings
from persistence.rows import Bot
from strategies.faults import Fault, shown

FIRST_BACKOFF_MS: Final = 1_000


class FailureKind(StrEnum):
    NETWORK = "network"
    EXCHANGE = "exchange"
    STRATEGY = "strategy"
    DATABASE = "database"
    CONFIGURATION = "configuration"


# The world's failures pass by themselves and never stop a bot; the bot's own do, after `max_errors` of them.
PASSING: Final = frozenset({FailureKind.NETWORK, FailureKind.EXCHANGE, FailureKind.DATABASE})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a bot's due bars were not committed. `retry_at_ms` is None once the bot was stopped."""

    kind: FailureKind
    message: str
    retry_at_ms: int | None = None


def damage(bot: Bot) -> Failure:
    """Return the failure of a row that holds what cannot be there; it stops the bot until it is mended."""
    where = f"the rows of bot {bot.id} are damaged: {'; '.join(bot.broken)}"
    return Failure(FailureKind.CONFIGURATION, f"{where}; set it right by SQL, then: jobs resume {bot.id}")


def kept_out(bot: Bot) -> Failure | None:
    """Return the failure of a row that asks for what this version does not do, instead of doing less."""
    if bot.type == "paper":
        return None
    fault = Fault("type", shown(bot.type), '"paper"; this version trades on paper only')
    return Failure(FailureKind.CONFIGURATION, str(fault))


def backoff_ms(failures_in_a_row: int, service: ServiceSettings) -> int:
    """1, 2, 4, ... s up to `max_backoff_s`."""
    longest = int(service.max_backoff_s * 1_000)
    return min(longest, FIRST_BACKOFF_MS << min(failures_in_a_row - 1, 30))


def stops_the_bot(kind: FailureKind, failures_in_a_row: int, service: ServiceSettings) -> bool:
    if kind in PASSING:
        return False
    return kind is FailureKind.CONFIGURATION or failures_in_a_row >= service.max_errors
