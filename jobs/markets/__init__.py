"""Where bars come from: files, a made-up market, the public candles of exchanges; all recorded once seen."""

from jobs.markets.port import (
    MOST_BARS,
    Fetched,
    Market,
    MarketRefused,
    MarketUnavailable,
    Rejected,
    Series,
    canonical_interval,
    canonical_symbol,
)
from jobs.markets.sources import DataSource, Markets, market_for, open_markets

__all__ = [
    "MOST_BARS",
    "DataSource",
    "Fetched",
    "Market",
    "MarketRefused",
    "MarketUnavailable",
    "Markets",
    "Rejected",
    "Series",
    "canonical_interval",
    "canonical_symbol",
    "market_for",
    "open_markets",
]
