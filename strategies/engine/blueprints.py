"""What the shorter constructors have to know of a class, found out once for each class.

A class is plain if its objects come about in Backtrader's own way and hold their attributes in their
dictionary. Any other class is left to Backtrader's own constructors.
"""

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeVar

from backtrader.indicator import MetaIndicator
from backtrader.linebuffer import MetaLineActions
from backtrader.lineiterator import LineIterator, MetaLineIterator
from backtrader.lineroot import LineMultiple, LineRoot, LineSingle, MetaLineRoot
from backtrader.lineseries import Lines, LineSeries, MetaLineSeries
from backtrader.metabase import AutoInfoClass, MetaBase, MetaParams
from backtrader.strategy import Strategy

from strategies.engine.bytes.vocabulary import remembered as of_several

Pairs = tuple[tuple[str, str], ...]
Contents = tuple[tuple[str, ...], dict[str, Any]]
Found = TypeVar("Found")
LIMIT: Final = 4096  # classes come and go with the strategies of users
STEPS: Final = ("doprenew", "donew", "dopreinit", "doinit", "dopostinit")
OF_SERIES: Final = (MetaLineSeries, MetaLineRoot, MetaParams, MetaBase)
OF_INDICATOR: Final = (MetaIndicator, MetaLineIterator, *OF_SERIES)
OF_ACTION: Final = (MetaLineActions, MetaLineRoot, MetaParams, MetaBase)
UPWARDS: Final = (type, object)  # where the metaclasses of Python begin
WRITTEN: Final = (
    "line",
    "data",
    "plot",
    "param",
    "_datas",
    "_owner",
    "_clock",
    "_lineiterators",
    "_minperiod",
)
PARTS: Final = frozenset(("params", "plotinfo", "lines", "plotlines"))
WRITTEN_ALSO: Final = ("p", "l", "ddatas", "dnames")


class _Remembered(dict[Any, Any]):
    """What a function found out about each class; asked by its own `__getitem__`, a third of an lru_cache."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __missing__(self, cls: Any) -> Any:
        if len(self) >= LIMIT:
            self.clear()
        self[cls] = found = self.function(cls)
        return found


def remembered(function: Callable[[Any], Found]) -> Callable[[Any], Found]:
    """Remember what a function of one class returned."""
    return _Remembered(function).__getitem__


@remembered
def is_plain_series(cls: Any) -> bool:
    return _path(cls)[-len(OF_SERIES) :] == OF_SERIES and _has_parts(cls) and _is_plain(cls)


@remembered
def is_plain_indicator(cls: Any) -> bool:
    return _path(cls) == OF_INDICATOR and _has_parts(cls) and _is_plain(cls)


@remembered
def is_plain_action(cls: Any) -> bool:
    return _path(cls) == OF_ACTION and cls.updateminperiod is LineRoot.updateminperiod and _is_plain(cls)


def _path(cls: Any) -> tuple[type, ...]:
    """Return the metaclasses that do something when an object of a class is made."""
    metaclasses = type(cls).__mro__[: -len(UPWARDS)]
    return tuple(base for base in metaclasses if not vars(base).keys().isdisjoint((*STEPS, "__call__")))


def _has_parts(cls: Any) -> bool:
    """Whether the metaclass has put the classes of the parts into the class itself."""
    return vars(cls).keys() >= PARTS and not any(hasattr(type(cls), part) for part in PARTS)


def _is_plain(cls: Any) -> bool:
    """Whether the class does nothing of its own and what is written to an object is in its dictionary."""
    return (
        cls.__new__ is object.__new__
        and cls.__init__ is not object.__init__
        and cls.__setattr__ is object.__setattr__
        and cls.__getattribute__ is object.__getattribute__
        and not (cls.packages or cls.frompackages)
        and number_of_lines(getattr(cls, "lines", Lines)) is not None
        and not any(_is_guarded(name, value) for base in cls.__mro__ for name, value in vars(base).items())
    )


def _is_guarded(name: str, value: Any) -> bool:
    """Whether an attribute of a class stands in for a step, or comes before what an object would hold."""
    written = name.startswith(WRITTEN) or name in WRITTEN_ALSO
    return name in STEPS or (written and hasattr(type(value), "__set__"))


@remembered
def contents_of(cls: Any) -> Contents | None:
    """Return what an object of a class of parameters holds: names of parts, and of values with defaults.

    None if something else than `AutoInfoClass.__new__` makes it or its values are not in its dictionary.
    """
    pairs = cls._getpairs()
    makers = (cls.__new__, cls.__init__, cls.__setattr__, type(cls))
    if makers != (AutoInfoClass.__new__, object.__init__, object.__setattr__, type):
        return None
    if any(hasattr(type(default), "__set__") for default in pairs.values()):
        return None
    return tuple(pairs) if cls._getrecurse() else (), dict(pairs)


@remembered
def number_of_lines(cls: Any) -> int | None:
    """Return how many lines `Lines.__init__` makes; None if something else makes or holds them."""
    methods = (cls.__new__, cls.__init__, cls.__getitem__, type(cls))
    originals = (object.__new__, vars(Lines)["__init__"], vars(Lines)["__getitem__"], type)
    if methods != originals or hasattr(cls, "__iter__"):
        return None
    return len(cls._getlines()) + int(cls._getlinesextra())


@of_several
def is_nameless(cls: Any, lines: Any) -> bool:
    """Whether objects of a class have no `_name` unless it is in their dictionary or that of the lines."""
    asked = getattr(cls, "__getattr__", None) is LineSeries.__getattr__
    return asked and not hasattr(cls, "_name") and not hasattr(lines, "_name")


@remembered
def has_plain_period(cls: Any) -> bool:
    return cls._periodrecalc is LineIterator._periodrecalc and cls.updateminperiod is LineRoot.updateminperiod


@remembered
def adds_plainly(cls: Any) -> bool:
    return is_plain_series(cls) and cls.addindicator is LineIterator.addindicator


@remembered
def forces_next(cls: Any) -> bool:
    """Whether an indicator may not be run over all bars at once, which its owners are told."""
    return not (is_plain_series(cls) or is_plain_action(cls)) or bool(getattr(cls, "_nextforce", False))


@remembered
def stage_of(cls: Any) -> Any:
    """Return the class of Backtrader whose `_stage2` objects of a class go through; None if another's."""
    if cls.__setattr__ is not object.__setattr__:
        return None
    if cls._stage2 is LineRoot._stage2:
        return LineSingle
    if not is_plain_series(cls):
        return None
    if cls._stage2 is LineMultiple._stage2:
        return LineMultiple
    return LineIterator if cls._stage2 in (LineIterator._stage2, vars(Strategy).get("_stage2")) else None


def lines_of(lines: Any) -> Any:
    """Return what is iterated over, without a call for each line."""
    return lines.lines if number_of_lines(type(lines)) is not None else lines


@lru_cache(maxsize=64)
def line_names(number: int) -> Pairs:
    return tuple((sys.intern(f"line_{at}"), sys.intern(f"line{at}")) for at in range(number))


@of_several
def line_aliases(data: Any, lines: Any, prefix: str, number: int) -> Pairs | None:
    """Return two names for each line; None if a data does not hand the question on to its lines."""
    if hasattr(data, "_getlinealias") or number_of_lines(lines) is None:
        return None
    return aliases_of(lines._getlinealias, prefix, number)


def aliases_of(alias_of: Callable[[int], str], prefix: str, number: int) -> Pairs:
    """Return two names for each line of a data: by alias, by number if it has none; and by number."""
    numbered = [sys.intern(f"{prefix}_{at}") for at in range(number)]
    aliases = [alias_of(at) for at in range(number)]
    return tuple(
        (sys.intern(f"{prefix}_{alias}") if alias else plain, plain)
        for alias, plain in zip(aliases, numbered, strict=True)
    )
