"""Whether a configuration and a schedule could run here: fields, code, source of bars, cron expression.

Needs no database and asks nobody over the network. Imports pydantic and Backtrader, so it is imported by
those who check only.
"""

from dataclasses import dataclass
from typing import Self

from jobs.markets import MarketRefused, MarketUnavailable, market_for
from jobs.markets.ccxt_border import connect, is_exchange, timeframe_of
from jobs.markets.sources import source_name
from jobs.schedule import Cron, InvalidSchedule
from jobs.settings import MarketSettings, Settings
from strategies.assembly import check_bot
from strategies.config import BotConfig
from strategies.faults import Fault, InvalidConfig, shown
from strategies.registry import Registry


@dataclass(frozen=True, slots=True)
class Installation:
    """What a check depends on beside its text: the strategies and the sources of bars that there are here."""

    registry: Registry
    markets: MarketSettings

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(Registry(settings.strategies.plugins), settings.markets)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a row would say, and what came of it: its configuration, or every fault that could be found."""

    text: str
    schedule: str | None = None
    config: BotConfig | None = None
    faults: tuple[Fault, ...] = ()


def check(text: str, installation: Installation, schedule: str | None = None) -> Checked:
    """Check a configuration, and the cron expression of its row if it has one."""
    faults: tuple[Fault, ...] = ()
    config = None
    try:
        config = check_bot(text, installation.registry)
    except InvalidConfig as exc:
        faults = exc.faults
    else:
        faults = (*_broker_faults(config), *_market_faults(config, installation.markets))
    if schedule is not None:
        try:
            Cron(schedule, 0)
        except InvalidSchedule as exc:
            faults += exc.faults
    return Checked(text, schedule, None if faults else config, faults)


def _broker_faults(config: BotConfig) -> tuple[Fault, ...]:
    name = config.broker.type
    if name == "paper" or is_exchange(name):
        return ()
    return (Fault("broker.type", shown(name), "paper or the ccxt id of an exchange, such as binance"),)


def _market_faults(config: BotConfig, markets: MarketSettings) -> tuple[Fault, ...]:
    """Say why bars of this configuration can never come."""
    source = config.data.data_source
    try:
        if source == "csv":
            market = market_for(source_name(config.data), markets)
            market.closed_bars(config.symbol, config.data.interval, None, 0)
        elif source != "generated":
            timeframe_of(connect(source, markets.timeout_ms), config.data.interval)
    except MarketUnavailable:
        return ()  # it may be there by the time the bot runs
    except MarketRefused as exc:
        path, found = ("data.file", config.data.file) if source == "csv" else ("data.data_source", source)
        return (exc.fault or Fault(path, shown(found), f"a source that has these bars: {exc}"),)
    return ()
