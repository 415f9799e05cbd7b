"""The end of the building, at which operators on lines begin to compute instead of to build."""

from typing import Any

from backtrader.linebuffer import LineBuffer
from backtrader.lineiterator import LineIterator
from backtrader.lineroot import LineSingle

from strategies.engine.blueprints import lines_of, stage_of


def second_stage(self: Any) -> None:
    """`_stage2`: each object once, however many indicators it is a data of."""
    _to_second_stage(self, set())


def _to_second_stage(thing: Any, done: set[int]) -> None:
    kind = stage_of(type(thing))
    if kind is None:
        thing._stage2()
        return
    thing._opstage = 2
    if kind is LineSingle:
        return
    names = vars(thing)
    for line in lines_of(names["lines"]):
        if type(line) is LineBuffer:
            line._opstage = 2
        else:
            line._stage2()
    if kind is LineIterator:
        _all_below(names, done)
    done.add(id(thing))  # not before: who is its own data never comes to an end


def _all_below(names: dict[str, Any], done: set[int]) -> None:
    for things in (names["datas"], *names["_lineiterators"].values()):
        for thing in things:
            if id(thing) not in done:
                _to_second_stage(thing, done)
