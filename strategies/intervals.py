"""Lengths of bars. Apart from the engine, so that a list of bots is shown without importing Backtrader."""

from typing import Final

INTERVAL_UNITS_MS: Final = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}


def interval_ms(interval: str) -> int:
    """Return the length in ms of an interval as ccxt writes it: a whole number and one of s m h d w.

    Raises ValueError for anything else; months have no fixed length and are refused.
    """
    count, unit = interval[:-1], interval[-1:]
    if unit not in INTERVAL_UNITS_MS or not (count.isascii() and count.isdigit()) or int(count) == 0:
        allowed = "a whole number of s, m, h, d or w, such as 1m, 15m, 4h"
        raise ValueError(f"interval {interval!r} is not {allowed}")
    return int(count) * INTERVAL_UNITS_MS[unit]
