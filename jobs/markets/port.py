"""What a source of bars promises, and how it says no."""

from dataclasses import dataclass
from typing import Final, Protocol

from strategies.faults import Fault
from strategies.values import INTERVAL_UNITS_MS, Bar, interval_ms

# Bars of one answer. A question for more gets the oldest ones; the next one is asked behind them.
MOST_BARS: Final = 100_000


class MarketUnavailable(Exception):
    """The source cannot answer now; the same question may be asked again.

    `retry_after_ms` is how long the source wants to be left alone, if it said so.
    """

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class MarketRefused(Exception):
    """The question is wrong and stays wrong until somebody changes the bot, the settings or the file.

    `fault` names the field of the configuration that has to change, where it is known to be one.
    """

    def __init__(self, reason: Fault | str) -> None:
        super().__init__(str(reason))
        self.fault = reason if isinstance(reason, Fault) else None


@dataclass(frozen=True, slots=True)
class Series:
    """Names one run of bars for good: in `bars`, in a batch, in every process.

    `source` is `csv:<file>`, `generated:<seed>` or the id of an exchange; `symbol` is canonical
    (see `canonical_symbol`), `interval` as ccxt writes it.
    """

    source: str
    symbol: str
    interval: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candle that was shown but is no bar: it is left out, and `reason` says why."""

    open_time: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One answer of an exchange: the bars, and the candles among them that were left out."""

    bars: tuple[Bar, ...]
    rejected: tuple[Rejected, ...] = ()


class Market(Protocol):
    """A source of bars.

    A wish that spans no more than `page_bars` intervals is answered whole or not at all; the answer to
    a longer one may end early.

    `closed_bars` returns the bars with `open_time > after` and `open_time + interval <= until`, ascending,
    none twice, only closed ones and only those that the source knows now, at most MOST_BARS of the
    oldest. `after` None is the source's beginning; a source that has none refuses. Raises
    MarketUnavailable and MarketRefused.
    """

    @property
    def page_bars(self) -> int: ...

    def closed_bars(self, symbol: str, interval: str, after: int | None, until: int) -> tuple[Bar, ...]: ...


def canonical_symbol(symbol: str) -> str:
    """Return one spelling for the ways in which people write a symbol: BTCUSDT for BTC/USDT and btc-usdt.

    What follows a colon (`BTC/USDT:USDT`, a perpetual) stays.
    """
    return symbol.strip().upper().replace("/", "").replace("-", "").replace("_", "")


def canonical_interval(interval: str) -> str:
    """Return one spelling for a length: 1h for 60m. Raises ValueError for what is no interval."""
    length = interval_ms(interval)
    unit = max(
        (unit for unit in INTERVAL_UNITS_MS if length % INTERVAL_UNITS_MS[unit] == 0),
        key=INTERVAL_UNITS_MS.__getitem__,
    )
    return f"{length // INTERVAL_UNITS_MS[unit]}{unit}"
