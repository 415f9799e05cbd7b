"""Backtrader's constructors, setting the same attributes in the same order with less work.

A bot that was not stepped lately is built anew for a single bar, and half of that is spent in the
metaclasses of Backtrader: they copy the parameters of a class for each object, put the names of
attributes together, look up each line by a call, and hand each object through ten functions. What
depends on the class alone is computed once here, and the two kinds of which there are most, indicators
and operations on lines, are made by one function each. A class that does anything of its own on the
way goes Backtrader's way. `quickly` puts these functions in place for one build and takes them out
again; whoever builds in another thread meanwhile gets the same objects.

Owners are found by the names of local variables, `self` and `_obj`, in the frames of whoever calls:
no function here may use these names for anything else.
"""

import sys
from array import array
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_OPTIMIZED
from typing import Any, Final

import backtrader as bt
from backtrader.indicator import MetaIndicator
from backtrader.linebuffer import LineBuffer, MetaLineActions
from backtrader.lineiterator import DotDict, LineSeriesMaker, MetaLineIterator
from backtrader.lineroot import LineMultiple, LineRoot, LineSingle
from backtrader.lineseries import Lines, MetaLineSeries
from backtrader.metabase import MetaParams

from strategies.engine.blueprints import (
    aliases_of,
    contents_of,
    is_plain_action,
    is_plain_indicator,
    is_plain_series,
    line_aliases,
    line_names,
    number_of_lines,
)

Made = tuple[Any, tuple[Any, ...], dict[str, Any]]
ORIGINAL_ACTION: Final[Any] = vars(MetaLineActions)["__call__"]
ORIGINAL_INDICATOR: Final[Any] = vars(MetaIndicator)["__call__"]
ORIGINAL_PARAMS: Final[Any] = vars(MetaParams)["donew"]
ORIGINAL_LINES: Final[Any] = vars(MetaLineSeries)["donew"]
ORIGINAL_DATAS: Final[Any] = vars(MetaLineIterator)["donew"]


def new_info(cls: Any) -> Any:
    """`AutoInfoClass.__new__`, called past the class: it has too many subclasses to be exchanged."""
    contents = contents_of(cls)
    if contents is None:
        return cls()
    made = object.__new__(cls)
    for name in contents[0]:
        setattr(made, name, new_info(getattr(cls, name)))
    return made


def with_values(cls: Any, kwargs: dict[str, Any]) -> Any:
    """Return an object of parameters; their values are taken out of the arguments."""
    made = new_info(cls)
    contents = contents_of(cls)
    if contents is None:
        for name, default in cls._getitems():
            setattr(made, name, kwargs.pop(name, default))
        return made
    values = vars(made)
    for name, default in contents[1]:
        values[name] = kwargs.pop(name, default) if kwargs else default
    return made


def with_parameters(cls: Any, *args: Any, **kwargs: Any) -> Made:
    """`MetaParams.donew`."""
    if cls.packages or cls.frompackages:
        return ORIGINAL_PARAMS(cls, *args, **kwargs)  # type: ignore[no-any-return]
    params = with_values(cls.params, kwargs)
    _obj, args, kwargs = super(MetaParams, cls).donew(*args, **kwargs)
    _obj.params = params
    _obj.p = params
    return _obj, args, kwargs


def new_lines(cls: Any, owner: Any) -> Any:
    """`Lines.__init__`, for an object that will own the lines."""
    made = object.__new__(cls)
    made.lines = [new_line(owner) for _ in range(number_of_lines(cls) or 0)]
    return made


def new_line(owner: Any) -> Any:
    """`LineBuffer()` with all that `MetaParams`, `MetaLineRoot`, `__init__` and `reset` do to it."""
    line = object.__new__(LineBuffer)
    line.params = line.p = new_info(LineBuffer.params)
    line._owner = owner
    line.lines = [line]
    line.mode = LineBuffer.UnBounded
    line.bindings = []
    line.array = array("d")
    line.useislice = False
    line.lencount = 0
    line._idx = -1
    line.extension = 0
    line._tz = None
    return line


def with_lines(cls: Any, *args: Any, **kwargs: Any) -> Made:
    """`MetaLineSeries.donew`."""
    if not is_plain_series(cls):
        return ORIGINAL_LINES(cls, *args, **kwargs)  # type: ignore[no-any-return]
    return new_series(cls, kwargs, 2), args, kwargs


def new_series(cls: Any, kwargs: dict[str, Any], level: int) -> Any:
    """Do what `MetaLineSeries.donew` leads to; the owner is looked for from the frame of that level on."""
    plotinfo = with_values(cls.plotinfo, kwargs)
    params = with_values(cls.params, kwargs)
    _obj = object.__new__(cls)
    names = vars(_obj)
    names["params"] = names["p"] = params
    skip = kwargs.pop("_ownerskip", None)
    names["_owner"] = owner_of(_obj, _obj._OwnerCls or LineMultiple, level, skip)
    names["plotinfo"] = plotinfo
    names["lines"] = lines = new_lines(cls.lines, _obj)
    names["plotlines"] = new_info(cls.plotlines)
    names["l"] = lines
    found = lines.lines
    if found:
        names["line"] = found[0]
    for (first, second), line in zip(line_names(len(found)), found, strict=True):
        names[first] = line
        names[second] = line
    return _obj


def with_datas(cls: Any, *args: Any, **kwargs: Any) -> Made:
    """`MetaLineIterator.donew`."""
    if not is_plain_series(cls):
        return ORIGINAL_DATAS(cls, *args, **kwargs)  # type: ignore[no-any-return]
    _obj, args, kwargs = super(MetaLineIterator, cls).donew(*args, **kwargs)
    return _obj, take_datas(_obj, args), kwargs


def take_datas(_obj: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Do the rest of `MetaLineIterator.donew`; return the arguments that are no datas."""
    names = vars(_obj)
    names["_lineiterators"] = defaultdict(list)
    mindatas = _obj._mindatas
    lastarg = 0
    names["datas"] = datas = []
    for arg in args:
        if isinstance(arg, LineRoot):
            datas.append(LineSeriesMaker(arg))
        elif not mindatas:
            break
        else:
            try:
                datas.append(LineSeriesMaker(bt.linebuffer.LineNum(arg)))
            except:  # noqa: E722 -- as there: whatever is no number is no data
                break
        mindatas = max(0, mindatas - 1)
        lastarg += 1
    if not datas and isinstance(_obj, bt.lineiterator.IndicatorBase | bt.lineiterator.ObserverBase):
        names["datas"] = datas = _obj._owner.datas[0:mindatas]
    names["ddatas"] = dict.fromkeys(datas)
    if datas:
        names["data"] = datas[0]
        _name_lines(names, datas[0], "data")
    for at, data in enumerate(datas):
        names[f"data{at}"] = data
        _name_lines(names, data, f"data{at}")
    names["dnames"] = DotDict([(data._name, data) for data in datas if getattr(data, "_name", "")])
    return args[lastarg:]


def _name_lines(names: dict[str, Any], data: Any, prefix: str) -> None:
    lines = data.lines
    if isinstance(lines, Lines) and not hasattr(type(data), "_getlinealias"):
        found = lines.lines
        aliases = line_aliases(type(lines), prefix, len(found))
    else:
        found = list(lines)
        aliases = aliases_of(data._getlinealias, prefix, len(found))
    for line, (first, second) in zip(found, aliases, strict=True):
        names[first] = line
        names[second] = line


def indicator(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """`MetaIndicator.__call__` with everything that it leads to."""
    if cls._icacheuse or not is_plain_indicator(cls):
        return ORIGINAL_INDICATOR(cls, *args, **kwargs)
    _obj = new_series(cls, kwargs, 3)
    args = take_datas(_obj, args)
    clock_by_datas(_obj)
    _obj.__init__(*args, **kwargs)
    _obj._minperiod = max([line._minperiod for line in _obj.lines])
    _obj._periodrecalc()
    if _obj._owner is not None:
        _obj._owner.addindicator(_obj)
    return _obj


def clock_by_datas(_obj: Any) -> None:
    """`MetaLineIterator.dopreinit`."""
    names = vars(_obj)
    names["datas"] = datas = names["datas"] or [_obj._owner]
    names["_clock"] = datas[0]
    names["_minperiod"] = period = max([data._minperiod for data in datas])
    for line in names["lines"].lines:
        line.addminperiod(period)


def action(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """`MetaLineActions.__call__` with everything that it leads to."""
    if cls._acacheuse or not is_plain_action(cls):
        return ORIGINAL_ACTION(cls, *args, **kwargs)
    params = with_values(cls.params, kwargs)
    _obj = object.__new__(cls)
    names = vars(_obj)
    names["params"] = names["p"] = params
    skip = kwargs.pop("_ownerskip", None)
    names["_owner"] = names["_clock"] = owner_of(_obj, _obj._OwnerCls or LineMultiple, 2, skip)
    if isinstance(args[0], LineRoot):
        names["_clock"] = args[0]
    names["_datas"] = datas = [arg for arg in args if isinstance(arg, LineRoot)]
    periods = [data._minperiod for data in datas if isinstance(data, LineSingle)]
    periods += [data.lines[0]._minperiod for data in datas if isinstance(data, LineMultiple)]
    _obj.updateminperiod(max(periods or [1]))
    _obj.__init__(*args, **kwargs)
    _obj._owner.addindicator(_obj)
    return _obj


def owner_of(owned: Any, cls: Any, startlevel: int = 2, skip: Any = None) -> Any:
    """`findowner`: the variables of a frame are copied out once, and not if there is no such name."""
    try:
        frame: Any = sys._getframe(startlevel)
    except ValueError:  # no frame is left
        return None
    while frame is not None:
        code = frame.f_code
        local = code.co_varnames
        if "self" in local or "_obj" in local or not code.co_flags & CO_OPTIMIZED or _in_cells(code):
            names = frame.f_locals
            for name in ("self", "_obj"):
                found = names.get(name)
                if skip is not found and found is not owned and isinstance(found, cls):
                    return found
        frame = frame.f_back
    return None


def _in_cells(code: Any) -> bool:
    cells = code.co_cellvars + code.co_freevars
    return "self" in cells or "_obj" in cells


REPLACED: Final[tuple[tuple[Any, str, Any], ...]] = (
    (MetaParams, "donew", with_parameters),
    (MetaLineSeries, "donew", with_lines),
    (MetaLineIterator, "donew", with_datas),
    (MetaLineActions, "__call__", action),
    (MetaIndicator, "__call__", indicator),
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
