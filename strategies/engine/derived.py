"""What a state leaves out because it follows from the rest, and how it is found again after a load.

Left out only if it is what it would be found as: a strategy, a filter or a timer may have set it otherwise,
and then it is written like anything else and `derive` is told so.
"""

from datetime import datetime
from typing import Any, Final

import backtrader as bt

from strategies.engine.machine.cerebro import Machine
from strategies.engine.machine.feed import TICKS

LOCAL, IN_UTC = "_dtmaster", "_udtmaster"  # Backtrader's two clocks; they differ for feeds with a time zone
LENGTHS: Final = "_dlens"  # of the feeds, as the strategy saw them last
TOLD: Final = frozenset({TICKS[0], LENGTHS})  # what a state says itself if it does not follow
DROPPED_WHEN_EMPTY: Final = ("_orderspending", "_tradespending")  # new lists at every bar, hardly ever filled


def strip(thing: Any, changed: dict[str, Any]) -> None:
    """Take out of the changed attributes of an object what `derive` would find again."""
    if isinstance(thing, bt.feed.AbstractDataBase):
        if _ticks_are_the_bar(thing):
            for name in TICKS:
                changed.pop(name, None)
        else:
            changed.update({name: getattr(thing, name) for name in TICKS})
    elif isinstance(thing, bt.Cerebro):
        if _same_moment(changed.get(LOCAL), changed.get(IN_UTC)):
            del changed[IN_UTC]
    elif isinstance(thing, bt.Strategy):
        _strip_strategy(thing, changed)


def _strip_strategy(strategy: Any, changed: dict[str, Any]) -> None:
    if strategy._dlens == _lengths(strategy):
        changed.pop(LENGTHS, None)
    for name in DROPPED_WHEN_EMPTY:
        if not changed.get(name, True):
            del changed[name]


def derive(machine: Machine, told: set[int]) -> None:
    """Set what `strip` took out; `told` are the ids of the objects whose state did not leave it out."""
    clock: dict[str, Any] = machine.cerebro.__dict__
    if LOCAL in clock:
        clock.setdefault(IN_UTC, clock[LOCAL])
    for data in machine.cerebro.datas:
        if len(data) and id(data) not in told:
            data._tick_fill(force=True)
    for strategy in machine.strategies:
        if id(strategy) not in told:
            strategy._dlens = _lengths(strategy)


def _lengths(strategy: Any) -> list[int]:
    return [len(data) for data in strategy.datas]


def _same_moment(one: Any, other: Any) -> bool:
    """Whether two moments of Backtrader's clock, local and UTC, are written alike."""
    return type(one) is type(other) is datetime and one.tzinfo is other.tzinfo is None and one == other


def _ticks_are_the_bar(data: Any) -> bool:
    if not len(data):
        return False
    names = vars(data)
    bar = [line._tail[line._idx] for line in data.lines.lines[: len(TICKS) - 1]]
    return [names[tick] for tick in TICKS] == [*bar, bar[0]]
