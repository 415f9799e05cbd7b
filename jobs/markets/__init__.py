"""Where bars come from: files, a made-up market, the public candles of exchanges; all recorded once seen."""

from jobs.markets.port import (
    MOST_BARS,
    MarketRefused,
    MarketUnavailable,
    Rejected,
    Series,
    canonical_interval,
    canonical_symbol,
)
from jobs.markets.sources import Markets, market_for

__all__ = [
    "MOST_BARS",
    "MarketRefused",
    "MarketUnavailable",
    "Markets",
    "Rejected",
    "Series",
    "canonical_interval",
    "canonical_symbol",
    "market_for",
]
