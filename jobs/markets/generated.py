"""A market that needs no network: a pure function of symbol, seed and time.

Time is a forest of binary trees. A root spans 2**23 s (97 days), a leaf one second. A node holds open,
high, low and close in ticks and a volume in whole lots; its two children are made from it and from
a hash of (symbol, seed, level, index) alone, and they aggregate to it exactly. So the bar of any
interval at any time is the aggregate of the few nodes that cover it: a second costs at most 24
nodes, a week about 40, and neighbours share most of theirs. A larger interval aggregates smaller
ones to the last digit because both aggregate the same leaves.

Integers only: no libm, no float until a bar is handed out, so every machine makes the same bytes.

The shape: a midpoint lies off the middle of its span by an amount that grows with the square root
of the span, as in Brownian motion; roots lie around a price that belongs to the symbol, so prices
stay positive and do not drift away for ever; volatility and volume come in clusters because halves
inherit them unevenly; a bar's open lies a few ticks off the close before it.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from math import isqrt
from struct import Struct
from typing import Final, NamedTuple

from jobs.markets.port import MOST_BARS, MarketRefused, canonical_symbol
from strategies.values import Bar, interval_ms

ROOT_LEVEL: Final = 23
ROOT_SPAN: Final = 1 << ROOT_LEVEL  # s
TICKS_PER_UNIT: Final = 100
LOTS_PER_SECOND: Final = 200
# A midpoint lies off by up to sqrt(span in s) / SWING of the price: about 3 % standard deviation a day.
SWING: Final = 9_500
# Volatility is inherited in 128ths of the usual one, and changes down to spans of 17 minutes.
USUAL_VOL: Final = 128
CALMEST_VOL: Final = 64
WILDEST_VOL: Final = 320
VOL_LEVEL: Final = 10

_PLACE: Final = Struct(">Bq")
_DRAWS: Final = Struct(">16H")
_ROOT_MARK: Final = ROOT_LEVEL + 1


class _Node(NamedTuple):
    """Prices in ticks, volume in lots, `vol` in 128ths of the usual volatility."""

    open: int
    high: int
    low: int
    close: int
    volume: int
    vol: int


@dataclass(frozen=True, slots=True)
class GeneratedMarket:
    """The markets of one seed. Bars exist from 1970 on, for every interval of whole seconds."""

    seed: int = 0
    page_bars: int = field(default=MOST_BARS, init=False)

    def closed_bars(self, symbol: str, interval: str, after: int | None, until: int) -> tuple[Bar, ...]:
        if after is None:
            raise MarketRefused("generated: found no beginning, allowed: bars after a given time")
        length = interval_ms(interval)
        seconds = length // 1_000
        first = max(0, after // length + 1)
        end = min(first + MOST_BARS, until // length)
        tree = _Tree.of(canonical_symbol(symbol), self.seed)
        return tuple(_bar(i * length, tree.over(i * seconds, (i + 1) * seconds)) for i in range(first, end))


def _bar(open_time: int, node: _Node) -> Bar:
    # An integer divided by 100 is the double nearest to the decimal, as if it had been read from text.
    return Bar(
        open_time,
        node.open / TICKS_PER_UNIT,
        node.high / TICKS_PER_UNIT,
        node.low / TICKS_PER_UNIT,
        node.close / TICKS_PER_UNIT,
        float(node.volume),
    )


@dataclass(frozen=True, slots=True)
class _Tree:
    """The forest of one symbol and seed. `split` is a cache: the last pair of children at every level."""

    key: bytes
    price: int  # ticks, around which the roots lie
    split: dict[int, tuple[int, _Node, _Node]] = field(default_factory=dict)

    @classmethod
    def of(cls, symbol: str, seed: int) -> "_Tree":
        key = blake2b(f"{seed}|{symbol}".encode(), digest_size=32).digest()
        draw = int.from_bytes(key[:8], "big")
        return cls(key, (1_000 + draw % 9_000) * 10 ** (1 + draw // 9_000 % 3))

    def over(self, start: int, end: int) -> _Node:
        """Return the aggregate of the seconds start .. end - 1."""
        parts: list[_Node] = []
        for index in range(start >> ROOT_LEVEL, ((end - 1) >> ROOT_LEVEL) + 1):
            self._cover(ROOT_LEVEL, index, self._root(index), (start, end), parts)
        return _Node(
            parts[0].open,
            max(part.high for part in parts),
            min(part.low for part in parts),
            parts[-1].close,
            sum(part.volume for part in parts),
            parts[0].vol,
        )

    def _cover(self, level: int, index: int, node: _Node, span: tuple[int, int], parts: list[_Node]) -> None:
        """Append the largest nodes below `node` that lie within `span`, in order of time."""
        first = index << level
        if span[0] <= first and first + (1 << level) <= span[1]:
            parts.append(node)
            return
        known = self.split.get(level)
        if known is None or known[0] != index:
            known = (index, *_halves(level, node, self._draws(level, index)))
            self.split[level] = known
        middle = first + (1 << level - 1)
        if span[0] < middle:
            self._cover(level - 1, 2 * index, known[1], span, parts)
        if span[1] > middle:
            self._cover(level - 1, 2 * index + 1, known[2], span, parts)

    def _root(self, index: int) -> _Node:
        known = self.split.get(_ROOT_MARK)
        if known is not None and known[0] == index:
            return known[1]
        draws = self._draws(_ROOT_MARK, index)
        start = self._boundary(draws[0])
        end = self._boundary(self._draws(_ROOT_MARK, index + 1)[0])
        reach = self.price // 6
        high = max(start, end) + (draws[1] * reach >> 16)
        low = max(1, min(start, end) - (draws[2] * reach >> 16))
        volume = LOTS_PER_SECOND * ROOT_SPAN * (0xC000 + (draws[3] >> 1)) >> 16
        root = _Node(start, high, low, end, volume, USUAL_VOL)
        self.split[_ROOT_MARK] = (index, root, root)
        return root

    def _boundary(self, draw: int) -> int:
        """Return a price from 3/4 to 5/4 of the symbol's."""
        return self.price * 3 // 4 + (self.price // 2 * draw >> 16)

    def _draws(self, level: int, index: int) -> tuple[int, ...]:
        """Return sixteen numbers of 16 bits that belong to this place."""
        return _DRAWS.unpack(blake2b(_PLACE.pack(level, index), digest_size=32, key=self.key).digest())


def _halves(level: int, node: _Node, draws: tuple[int, ...]) -> tuple[_Node, _Node]:
    """Split a node into two that aggregate to it."""
    swing = ((node.open + node.close) * isqrt(1 << level + 20) * node.vol) // (2 * 1_024 * SWING * USUAL_VOL)
    wick = swing * 2 // 5
    middle = _middle(node, swing, wick, draws)
    jump = 2 + (swing >> (level + 1) // 2)  # what a single second swings, whatever the level
    after = min(max(middle + (draws[3] * (2 * jump + 1) >> 16) - jump, node.low), node.high)
    # Exactly one half reaches the high of the whole, and one the low: the one whose ends come nearest.
    tops = max(node.open, middle), max(after, node.close)
    bottoms = min(node.open, middle), min(after, node.close)
    high_left = tops[0] > tops[1] or (tops[0] == tops[1] and draws[4] % 2 == 0)
    low_left = bottoms[0] < bottoms[1] or (bottoms[0] == bottoms[1] and draws[11] % 2 == 0)
    other_high = min(node.high, min(tops) + (draws[5] * (wick + 1) >> 16))
    other_low = max(node.low, max(bottoms) - (draws[6] * (wick + 1) >> 16))
    highs = (node.high, other_high) if high_left else (other_high, node.high)
    lows = (node.low, other_low) if low_left else (other_low, node.low)
    volume = _left_volume(node.volume, highs[0] - lows[0], highs[1] - lows[1], draws)
    left_vol, right_vol = (_vol(level, node.vol, draw) for draw in draws[9:11])
    return (
        _Node(node.open, highs[0], lows[0], middle, volume, left_vol),
        _Node(after, highs[1], lows[1], node.close, node.volume - volume, right_vol),
    )


def _middle(node: _Node, swing: int, wick: int, draws: tuple[int, ...]) -> int:
    """Return the close of the left half.

    An extreme that is far from both ends must be on the way, else the tree would end in a second
    that jumps there and back; then the middle lies near it.
    """
    up = node.high - max(node.open, node.close)
    down = min(node.open, node.close) - node.low
    if max(up, down) > wick:
        near = draws[0] * (wick + 1) >> 16
        return node.high - near if up >= down else node.low + near
    off = ((draws[0] + draws[1] + 2 * draws[2]) * swing >> 17) - swing
    return min(max((node.open + node.close) // 2 + off, node.low), node.high)


def _left_volume(volume: int, left_range: int, right_range: int, draws: tuple[int, ...]) -> int:
    """Share lots between halves: unevenly by chance, and more where the price moved more."""
    both = left_range + right_range + 1
    left = 100 + (draws[7] * 100 >> 16) + 100 * left_range // both
    right = 100 + (draws[8] * 100 >> 16) + 100 * right_range // both
    return volume * left // (left + right)


def _vol(level: int, vol: int, draw: int) -> int:
    if level < VOL_LEVEL:
        return vol
    return min(max(vol * (112 + (draw * 33 >> 16)) >> 7, CALMEST_VOL), WILDEST_VOL)
