"""From the candles that a venue shows to bars: pure, so that every odd answer can be tried.

A candle is a bar once it is closed by the venue's time (a later candle proves it too) and its
numbers are sound. Anything else is left out and named.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs.markets.port import MarketRefused, MarketUnavailable, Rejected
from jobs.markets.soundness import unsound
from strategies.values import Bar

FIELDS: Final = 6


@dataclass(frozen=True, slots=True)
class Asked:
    """Bars with `after < open_time` and `open_time + length <= until` were asked for; all in ms."""

    after: int
    until: int
    length: int


def sound_bars(candles: Iterable[Sequence[Any]], length: int) -> tuple[tuple[Bar, ...], tuple[Rejected, ...]]:
    """Return the sound candles in order of time, every time once, and what was left out.

    Of two candles of one time the later in the answer counts. Raises MarketUnavailable if most
    candles are off the grid of `length` ms, and MarketRefused if all are off it by the same amount.
    """
    bars: dict[int, Bar] = {}
    rejected: list[Rejected] = []
    off_grid: list[int] = []
    for candle in candles:
        bar = _bar(candle)
        if isinstance(bar, Rejected):
            rejected.append(bar)
        elif bar.open_time % length:
            off_grid.append(bar.open_time)
        elif fault := unsound(bar):
            rejected.append(Rejected(bar.open_time, str(fault)))
        else:
            if bars.get(bar.open_time, bar) != bar:
                rejected.append(
                    Rejected(bar.open_time, "shown twice with different numbers; the later counts")
                )
            bars[bar.open_time] = bar
    if not bars and any(left_out.open_time is None for left_out in rejected):
        raise MarketUnavailable(f"no candle of the answer can be read: {rejected[0].reason}")
    _check_grid(off_grid, len(bars), length)
    rejected.extend(Rejected(time, f"open time is no multiple of {length} ms") for time in off_grid)
    return tuple(bars[time] for time in sorted(bars)), tuple(rejected)


def _bar(candle: Sequence[Any]) -> Bar | Rejected:
    time = candle[0] if candle else None
    if not isinstance(time, int) or isinstance(time, bool):
        return Rejected(None, f"open time: found {time!r}, allowed: ms since 1970")
    numbers = candle[1:FIELDS]
    if len(numbers) != FIELDS - 1 or any(number is None for number in numbers):
        return Rejected(time, f"found {list(numbers)!r}, allowed: open, high, low, close and volume")
    return Bar(time, *(float(number) for number in numbers))


def _check_grid(off_grid: Sequence[int], on_grid: int, length: int) -> None:
    if len(off_grid) <= 1 or len(off_grid) <= on_grid:
        return
    if on_grid == 0 and len({time % length for time in off_grid}) == 1:
        raise MarketRefused(
            f"interval: the venue opens its bars {off_grid[0] % length // 1_000} s beside the multiples "
            f"of {length // 1_000} s since 1970 UTC, where bars begin here; choose a shorter interval"
        )
    raise MarketUnavailable(f"the candles are of another interval than {length // 1_000} s")


def closed(bars: Sequence[Bar], asked: Asked, venue_now: int | None) -> tuple[Bar, ...]:
    """Return those that were asked for and are closed.

    By our clock alone a bar may look closed while the venue, whose clock is behind, still changes
    it; so the last one counts only if the venue's time, where known, is past its end.
    """
    due = [bar for bar in bars if asked.after < bar.open_time <= asked.until - asked.length]
    under_way = asked.until - asked.until % asked.length
    followed = any(due and due[-1].open_time < bar.open_time <= under_way for bar in bars)
    if due and venue_now is not None and due[-1].open_time + asked.length > venue_now and not followed:
        due.pop()
    return tuple(due)


def has_holes(bars: Sequence[Bar], asked: Asked) -> bool:
    """Return whether a bar is missing before the last one."""
    if not bars:
        return False
    first = (asked.after // asked.length + 1) * asked.length
    return len(bars) < (bars[-1].open_time - first) // asked.length + 1
