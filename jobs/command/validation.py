"""Whether a configuration could run here: its fields, its code, its source of bars. Needs no database.

Imports pydantic and Backtrader, so only the commands that validate import this module.
"""

import re
import sys
from pathlib import Path
from typing import Final

from jobs.command.endings import CommandFailed, Ending
from jobs.markets import MarketRefused, MarketUnavailable, market_for
from jobs.markets.ccxt_border import connect, timeframe_of
from jobs.markets.sources import source_name
from jobs.settings import Settings
from strategies.assembly import check_bot
from strategies.config import BotConfig
from strategies.faults import Fault, InvalidConfig, shown
from strategies.registry import Registry

REFUSAL: Final = re.compile(r"(data\.\w+): found (.*?), (?:allowed: )?(.*)", re.DOTALL)
STANDARD_INPUT: Final = "-"
CRON: Final = re.compile(
    r"(?:(?:CRON_)?TZ=[A-Za-z0-9_/+-]+\s+)?(?:@[a-z]+|[0-9A-Za-z*/,#-]+(?:\s+[0-9A-Za-z*/,#-]+){4})"
)


def read_text(file: str) -> str:
    """Read a file, or standard input for `-`. Raises CommandFailed, and InvalidConfig for what is no text."""
    try:
        raw = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except OSError as exc:
        raise CommandFailed(Ending.FAILED, f"{file}: {exc.strerror or exc}") from exc
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        found = f"a byte {raw[exc.start]:#04x} at position {exc.start}"
        raise InvalidConfig((Fault("(all)", found, "JSON in UTF-8"),)) from exc


def validated(text: str, settings: Settings, registry: Registry) -> BotConfig:
    """Return the configuration, or raise InvalidConfig with every fault that can be found at once."""
    config = check_bot(text, registry)
    fault = market_fault(config, settings)
    if fault is not None:
        raise InvalidConfig((fault,))
    return config


def market_fault(config: BotConfig, settings: Settings) -> Fault | None:
    """Say why bars of this configuration can never come; nobody is asked over the network."""
    source = config.data.data_source
    try:
        if source == "csv":
            market_for(source_name(config.data), settings.markets).closed_bars(
                config.symbol, config.data.interval, None, 0
            )
        elif source != "generated":
            timeframe_of(connect(source, settings.markets.timeout_ms), config.data.interval)
    except MarketRefused as exc:
        return _fault_of(str(exc), "data.file" if source == "csv" else "data.data_source", source)
    except MarketUnavailable:
        return None
    return None


def _fault_of(message: str, path: str, source: str) -> Fault:
    """Take a market's refusal apart again, which names path, found and allowed where it can."""
    if parts := REFUSAL.fullmatch(message):
        return Fault(*parts.groups())
    return Fault(path, shown(source), f"a source that has these bars: {message}")


def schedule_fault(schedule: str | None) -> Fault | None:
    """Say what is wrong with the shape of a cron expression; its meaning is the service's business."""
    if schedule is None or CRON.fullmatch(schedule.strip()):
        return None
    return Fault("schedule", shown(schedule), "five fields of cron, such as */5 * * * * or 0 9 * * mon-fri")


def registry_of(settings: Settings) -> Registry:
    return Registry(settings.strategies.plugins)


def shown_name(file: str) -> str:
    """Return the file as messages name it."""
    return "standard input" if file == STANDARD_INPUT else file
