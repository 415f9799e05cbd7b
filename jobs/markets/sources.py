"""Which source a bot's `data` section means, and the sources that a process has open."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jobs.markets.breaker import CLOSED, Breaker, BreakerStore, MemoryBreakers
from jobs.markets.csv_file import CsvMarket
from jobs.markets.exchange import ExchangeMarket
from jobs.markets.generated import GeneratedMarket
from jobs.markets.port import (
    Market,
    MarketRefused,
    Series,
    canonical_interval,
    canonical_symbol,
)
from jobs.markets.recorded import RecordedMarket
from jobs.settings import MarketSettings
from persistence.breakers import BreakerRow, read_breaker, write_breaker
from persistence.database import Database
from strategies.faults import Fault
from strategies.values import Bar


class DataSource(Protocol):
    """The part of a bot's configuration that says where its bars come from."""

    @property
    def data_source(self) -> str: ...
    @property
    def interval(self) -> str: ...
    @property
    def file(self) -> str | None: ...
    @property
    def seed(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class SharedBreakers:
    """Breakers in the database: a restart and every other worker know of a ban."""

    database: Database

    def load(self, exchange: str) -> Breaker:
        with self.database.read() as connection:
            row = read_breaker(connection, exchange)
        return CLOSED if row is None else Breaker(row.failures, row.opened_at, row.open_for, row.reason)

    def save(self, exchange: str, breaker: Breaker) -> None:
        row = BreakerRow(exchange, breaker.failures, breaker.opened_at, breaker.open_for, breaker.reason)
        with self.database.write() as connection:
            write_breaker(connection, row)


@dataclass(frozen=True, slots=True)
class Markets:
    """Every source of this process, opened when it is first asked for, recorded in `database`.

    `base_urls` leads exchanges to another address, by ccxt id; for tests.
    """

    settings: MarketSettings
    database: Database
    base_urls: Mapping[str, str] = field(default_factory=dict)
    _open: dict[str, RecordedMarket] = field(default_factory=dict, init=False, repr=False)

    def series(self, symbol: str, data: DataSource) -> Series:
        """Name the bars that a bot wants. Asks nobody; raises MarketRefused for a source that cannot be."""
        try:
            interval = canonical_interval(data.interval)
        except ValueError as exc:
            raise MarketRefused(str(exc)) from exc
        return Series(source_name(data), canonical_symbol(symbol), interval)

    def closed_bars(self, series: Series, after: int | None, until: int) -> tuple[Bar, ...]:
        """Return the closed bars of `series` with open_time > after that closed up to `until` (ms).

        What the source has and the database does not is recorded first. The answer is whole, however
        long. Raises MarketUnavailable, MarketRefused and DatabaseUnavailable. No transaction may be open.
        """
        return self._market(series.source).closed_bars(series.symbol, series.interval, after, until)

    def _market(self, source: str) -> RecordedMarket:
        market = self._open.get(source)
        if market is None:
            breakers = SharedBreakers(self.database)
            plain = market_for(source, self.settings, self.base_urls.get(source), breakers)
            market = self._open.setdefault(source, RecordedMarket(self.database, source, plain))
        return market


def source_name(data: DataSource) -> str:
    """Return the name under which bars of this source are recorded."""
    if data.data_source == "generated":
        return f"generated:{data.seed or 0}"
    if data.data_source == "csv":
        if not data.file:
            raise MarketRefused(Fault("data.file", "nothing", "a file inside the csv folder"))
        return f"csv:{data.file}"
    return data.data_source


def market_for(
    source: str,
    settings: MarketSettings,
    base_url: str | None = None,
    breakers: BreakerStore | None = None,
) -> Market:
    """Return a new market for a name that `source_name` made, not recorded. Raises MarketRefused."""
    kind, _, rest = source.partition(":")
    if kind == "generated":
        return GeneratedMarket(int(rest or 0))
    if kind == "csv":
        return CsvMarket(csv_path(settings.csv_folder, rest))
    return ExchangeMarket(
        source, timeout_ms=settings.timeout_ms, base_url=base_url, breakers=breakers or MemoryBreakers()
    )


def csv_path(folder: Path, file: str) -> Path:
    """Return the path of a file inside `folder`: the owner of a bot may not read the rest of the disk."""
    inside = folder.resolve()
    path = inside if "\0" in file else (inside / file).resolve()
    if path == inside or not path.is_relative_to(inside):
        raise MarketRefused(Fault("data.file", repr(file), f"a file inside {inside}"))
    return path
