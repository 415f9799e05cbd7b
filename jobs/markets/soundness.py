"""What five numbers must fulfil to be a bar, wherever they come from."""

from dataclasses import dataclass
from typing import Final

from strategies.values import Bar

PRICES: Final = ("open", "high", "low", "close")
_INFINITY: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Unsound:
    column: str
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.column}: found {self.found}, allowed: {self.allowed}"


def unsound(bar: Bar) -> Unsound | None:
    """Return the first thing that is wrong with the numbers of `bar`, None if it is sound.

    A volume of 0 is sound: venues show it for an interval without trades.
    """
    # Comparisons are written so that NaN, which is neither above nor below anything, fails.
    for column in PRICES:
        value = getattr(bar, column)
        if not 0 < value < _INFINITY:
            return Unsound(column, repr(value), "a finite number above 0")
    if not 0 <= bar.volume < _INFINITY:
        return Unsound("volume", repr(bar.volume), "a finite number from 0")
    top, bottom = max(bar.open, bar.close), min(bar.open, bar.close)
    if bar.high < bar.low:
        return Unsound("high", repr(bar.high), f"at least the low, {bar.low!r}")
    if bar.high < top:
        return Unsound("high", repr(bar.high), f"at least open and close, {top!r}")
    if bar.low > bottom:
        return Unsound("low", repr(bar.low), f"at most open and close, {bottom!r}")
    return None
