"""Backtrader's constructors, setting the same attributes in the same order with less work.

A bot that was not stepped lately is built anew for a single bar, and half of that is spent in the
metaclasses of Backtrader: they copy the parameters of a class for each object, put the names of
attributes together, and look up each line by a call. What depends on the class alone is computed once
here. `quickly` puts these functions in place for one build and takes them out again; whoever builds
in another thread meanwhile gets the same objects.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any, Final

import backtrader as bt
from backtrader.lineiterator import MetaLineIterator
from backtrader.lineseries import Lines, MetaLineSeries
from backtrader.metabase import AutoInfoClass, MetaParams

from strategies.engine.vocabulary import remembered

Names = tuple[tuple[str, ...], ...]
Made = tuple[Any, tuple[Any, ...], dict[str, Any]]
ORIGINAL_PARAMS: Final[Any] = vars(MetaParams)["donew"]


@remembered
def pairs_of(cls: Any) -> tuple[tuple[str, Any], ...]:
    """Return names and defaults of a class of parameters; Backtrader hands out a copy of its own."""
    return tuple(cls._getpairs().items())


@remembered
def parts_of(cls: Any) -> tuple[str, ...]:
    """Return the names of the classes of parameters that a class of parameters consists of."""
    return tuple(cls._getpairs()) if cls._getrecurse() else ()


@remembered
def is_usual(cls: Any) -> bool:
    """Whether making an object of a class of parameters runs nothing but `AutoInfoClass.__new__`."""
    return cls.__new__ is AutoInfoClass.__new__ and cls.__init__ is object.__init__ and type(cls) is type


def new_info(cls: Any) -> Any:
    """`AutoInfoClass.__new__`, called past the class: it has too many subclasses to be exchanged."""
    if not is_usual(cls):
        return cls()
    made = object.__new__(cls)
    for name in parts_of(cls):
        setattr(made, name, new_info(getattr(cls, name)))
    return made


def with_parameters(cls: Any, *args: Any, **kwargs: Any) -> Made:
    """`MetaParams.donew`."""
    if cls.packages or cls.frompackages:
        return ORIGINAL_PARAMS(cls, *args, **kwargs)  # type: ignore[no-any-return]
    params = new_info(cls.params)
    if kwargs:
        for name, default in pairs_of(cls.params):
            setattr(params, name, kwargs.pop(name, default))
    else:
        for name, default in pairs_of(cls.params):
            setattr(params, name, default)
    _obj, args, kwargs = super(MetaParams, cls).donew(*args, **kwargs)
    _obj.params = params
    _obj.p = params
    return _obj, args, kwargs


def with_lines(cls: Any, *args: Any, **kwargs: Any) -> Made:
    """`MetaLineSeries.donew`. The names of local variables matter: owners are found by them."""
    plotinfo = new_info(cls.plotinfo)
    for name, default in pairs_of(cls.plotinfo):
        setattr(plotinfo, name, kwargs.pop(name, default) if kwargs else default)
    _obj, args, kwargs = super(MetaLineSeries, cls).donew(*args, **kwargs)
    _obj.plotinfo = plotinfo
    _obj.lines = lines = cls.lines()
    _obj.plotlines = new_info(cls.plotlines)
    _obj.l = lines
    if lines.fullsize():
        _obj.line = lines[0]
    for (first, second), line in zip(line_names(len(lines.lines)), lines.lines, strict=True):
        setattr(_obj, first, line)
        setattr(_obj, second, line)
    return _obj, args, kwargs


@lru_cache(maxsize=64)
def line_names(number: int) -> tuple[tuple[str, str], ...]:
    return tuple((f"line_{at}", f"line{at}") for at in range(number))


def with_datas(cls: Any, *args: Any, **kwargs: Any) -> Made:
    """`MetaLineIterator.donew`."""
    _obj, args, kwargs = super(MetaLineIterator, cls).donew(*args, **kwargs)
    _obj._lineiterators = bt.lineiterator.collections.defaultdict(list)
    mindatas = _obj._mindatas
    lastarg = 0
    _obj.datas = []
    for arg in args:
        if isinstance(arg, bt.LineRoot):
            _obj.datas.append(bt.lineiterator.LineSeriesMaker(arg))
        elif not mindatas:
            break
        else:
            try:
                _obj.datas.append(bt.lineiterator.LineSeriesMaker(bt.linebuffer.LineNum(arg)))
            except:  # noqa: E722 -- as there: whatever is no number is no data
                break
        mindatas = max(0, mindatas - 1)
        lastarg += 1
    if not _obj.datas and isinstance(_obj, bt.lineiterator.IndicatorBase | bt.lineiterator.ObserverBase):
        _obj.datas = _obj._owner.datas[0:mindatas]
    _obj.ddatas = dict.fromkeys(_obj.datas)
    if _obj.datas:
        _name_datas(_obj, _obj.datas)
    _obj.dnames = bt.lineiterator.DotDict(
        [(data._name, data) for data in _obj.datas if getattr(data, "_name", "")]
    )
    return _obj, args[lastarg:], kwargs


def _name_datas(thing: Any, datas: list[Any]) -> None:
    thing.data = datas[0]
    _name_lines(thing, datas[0], "data")
    for at, data in enumerate(datas):
        setattr(thing, f"data{at}", data)
        _name_lines(thing, data, f"data{at}")


def _name_lines(thing: Any, data: Any, prefix: str) -> None:
    lines = data.lines
    if isinstance(lines, Lines) and not hasattr(type(data), "_getlinealias"):
        found = lines.lines
        names = line_aliases(type(lines), prefix, len(found))
    else:
        found = list(lines)
        names = _names(data._getlinealias, prefix, len(found))
    for line, known_as in zip(found, names, strict=True):
        for name in known_as:
            setattr(thing, name, line)


@remembered
def line_aliases(lines: Any, prefix: str, number: int) -> Names:
    return _names(lines._getlinealias, prefix, number)


def _names(alias_of: Callable[[int], str], prefix: str, number: int) -> Names:
    """Return the names by which something refers to the lines of a data, by alias and by number."""
    aliases = [alias_of(at) for at in range(number)]
    return tuple(
        (f"{prefix}_{alias}", f"{prefix}_{at}") if alias else (f"{prefix}_{at}",)
        for at, alias in enumerate(aliases)
    )


def owner_of(owned: Any, cls: Any, startlevel: int = 2, skip: Any = None) -> Any:
    """`findowner`: the variables of a frame are copied out once and not twice."""
    for level in count(startlevel):
        try:
            names = sys._getframe(level).f_locals
        except ValueError:  # no frame is left
            return None
        for name in ("self", "_obj"):
            found = names.get(name)
            if skip is not found and found is not owned and isinstance(found, cls):
                return found
    return None


REPLACED: Final[tuple[tuple[Any, str, Any], ...]] = (
    (MetaParams, "donew", with_parameters),
    (MetaLineSeries, "donew", with_lines),
    (MetaLineIterator, "donew", with_datas),
    (bt.metabase, "findowner", owner_of),
)
ORIGINALS: Final = tuple(vars(home)[name] for home, name, _ in REPLACED)


@contextmanager
def quickly() -> Iterator[None]:
    """Build with these constructors. One build at a time: whoever enters holds the lock on numbers."""
    for home, name, replacement in REPLACED:
        setattr(home, name, replacement)
    try:
        yield
    finally:
        for (home, name, _), original in zip(REPLACED, ORIGINALS, strict=True):
            setattr(home, name, original)
