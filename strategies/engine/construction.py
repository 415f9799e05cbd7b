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

from array import array
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import time
from typing import Any, Final

import backtrader as bt
from backtrader.indicator import MetaIndicator
from backtrader.linebuffer import LineBuffer, LinesOperation, MetaLineActions, _LineDelay
from backtrader.lineiterator import DotDict, LineSeriesMaker, MetaLineIterator
from backtrader.lineroot import LineMultiple, LineRoot, LineSingle
from backtrader.lineseries import Lines, MetaLineSeries
from backtrader.metabase import MetaParams

from strategies.engine.blueprints import (
    Pairs,
    adds_plainly,
    aliases_of,
    contents_of,
    forces_next,
    has_plain_period,
    is_nameless,
    is_plain_action,
    is_plain_indicator,
    is_plain_series,
    line_aliases,
    line_names,
    lines_of,
    number_of_lines,
)
from strategies.engine.owners import owner_of
from strategies.engine.stages import second_stage

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
    contents = contents_of(cls)
    if contents is None or contents[0]:
        made = new_info(cls)
        for name, default in cls._getitems():
            setattr(made, name, kwargs.pop(name, default))
        return made
    made = object.__new__(cls)
    if contents[1]:
        made.__dict__ = values = contents[1].copy()
        if kwargs:
            for name in tuple(kwargs):
                if name in values:
                    values[name] = kwargs.pop(name)
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
    made.lines = lines = []
    for _ in range(number_of_lines(cls) or 0):
        lines.append(new_line(owner))  # noqa: PERF401 -- a comprehension is one more call
    return made


def new_line(owner: Any) -> Any:
    """`LineBuffer()` with all that `MetaParams`, `MetaLineRoot`, `__init__` and `reset` do to it."""
    line = object.__new__(LineBuffer)
    line.params = line.p = object.__new__(LineBuffer.params)
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


def fill_buffer(line: Any, names: dict[str, Any]) -> None:
    """`LineBuffer.__init__` with `reset`, for an object whose dictionary is there already."""
    names["lines"] = [line]
    names["mode"] = LineBuffer.UnBounded
    names["bindings"] = []
    names["array"] = array("d")
    names["useislice"] = False
    names["lencount"] = 0
    names["_idx"] = -1
    names["extension"] = 0
    names["_tz"] = None


def with_lines(cls: Any, *args: Any, **kwargs: Any) -> Made:
    """`MetaLineSeries.donew`."""
    if not is_plain_series(cls):
        return ORIGINAL_LINES(cls, *args, **kwargs)  # type: ignore[no-any-return]
    return new_series(cls, kwargs, 2), args, kwargs


def new_series(cls: Any, kwargs: dict[str, Any], level: int) -> Any:
    """Do what `MetaLineSeries.donew` leads to; the owner is looked for from the frame of that level on."""
    parts = vars(cls)  # where `MetaLineSeries.__new__` has put them for each class
    plotinfo = with_values(parts["plotinfo"], kwargs)
    params = with_values(parts["params"], kwargs)
    _obj = object.__new__(cls)
    names = vars(_obj)
    names["params"] = names["p"] = params
    skip = kwargs.pop("_ownerskip", None)
    names["_owner"] = owner_of(_obj, cls._OwnerCls or LineMultiple, level, skip)
    names["plotinfo"] = plotinfo
    names["lines"] = lines = new_lines(parts["lines"], _obj)
    names["plotlines"] = new_info(parts["plotlines"])
    names["l"] = lines
    found = lines.lines
    if found:
        names["line"] = found[0]
    for (first, second), line in zip(line_names(len(found)), found):  # noqa: B905 -- a keyword costs a dict
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
    names["dnames"] = by_name(datas)
    return args[lastarg:]


def by_name(datas: list[Any]) -> Any:
    found = DotDict()
    for data in datas:
        if name := name_of(data):
            found[name] = data
    return found


def _name_lines(names: dict[str, Any], data: Any, prefix: str) -> None:
    found, aliases = named_lines(data, prefix)
    for line, (first, second) in zip(found, aliases):  # noqa: B905 -- as above
        names[first] = line
        names[second] = line


def named_lines(data: Any, prefix: str) -> tuple[list[Any], Pairs]:
    """Return the lines of a data and two names for each."""
    lines = data.lines
    kind = type(lines)
    aliases = line_aliases(type(data), kind, prefix, len(lines.lines)) if issubclass(kind, Lines) else None
    if aliases is not None:
        return lines.lines, aliases
    found = list(lines)
    return found, aliases_of(data._getlinealias, prefix, len(found))


def name_of(data: Any) -> Any:
    """Return the name of a feed; what else is a data has none, and to ask it costs two exceptions."""
    names = vars(data)
    if "_name" in names or not is_nameless(type(data), type(names["lines"])):
        return getattr(data, "_name", "")
    return vars(names["lines"]).get("_name", "")


def indicator(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """`MetaIndicator.__call__` with everything that it leads to."""
    if cls._icacheuse or not is_plain_indicator(cls):
        return ORIGINAL_INDICATOR(cls, *args, **kwargs)
    _obj = new_series(cls, kwargs, 3)
    args = take_datas(_obj, args)
    clock_by_datas(_obj)
    _obj.__init__(*args, **kwargs)
    names = vars(_obj)
    names["_minperiod"] = max([line._minperiod for line in lines_of(names["lines"])])
    recalculate(_obj, names)
    if names["_owner"] is not None:
        register(names["_owner"], _obj)
    return _obj


def register(owner: Any, _obj: Any) -> None:
    """`LineIterator.addindicator`."""
    if adds_plainly(type(owner)) and not forces_next(type(_obj)):
        vars(owner)["_lineiterators"][_obj._ltype].append(_obj)
    else:
        owner.addindicator(_obj)


def recalculate(_obj: Any, names: dict[str, Any]) -> None:
    """`LineIterator._periodrecalc`."""
    if has_plain_period(type(_obj)):
        own = names["_minperiod"]
        periods = [inner._minperiod for inner in names["_lineiterators"][LineRoot.IndType]]
        largest = max(periods or [own])
        names["_minperiod"] = max(own, largest)
    else:
        _obj._periodrecalc()


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
    names["_datas"] = datas = []
    periods = []
    for arg in args:
        if isinstance(arg, LineRoot):
            datas.append(arg)
            if isinstance(arg, LineSingle):
                periods.append(arg._minperiod)
    if len(periods) < len(datas):
        periods += [data.lines[0]._minperiod for data in datas if isinstance(data, LineMultiple)]
    names["_minperiod"] = max(_obj._minperiod, max(periods) if periods else 1)
    fill = FILLED.get(cls)
    if fill is None or not fill(_obj, names, args, kwargs):
        _obj.__init__(*args, **kwargs)
    register(names["_owner"], _obj)
    return _obj


def fill_operation(line: Any, names: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """`LinesOperation.__init__`, called as `_makeoperation` does."""
    if kwargs.keys() != {"r"}:
        return False
    try:
        first, second, combine = args
    except ValueError:
        return False
    fill_buffer(line, names)
    names["operation"] = combine
    names["a"], names["b"] = first, second
    names["r"] = reverse = kwargs["r"]
    names["bline"] = of_line = isinstance(second, LineBuffer)
    names["btime"] = of_time = isinstance(second, time)
    names["bfloat"] = not of_line and not of_time
    if reverse:
        names["a"], names["b"] = second, first
    return True


def fill_delay(line: Any, names: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """`_LineDelay.__init__`."""
    if kwargs:
        return False
    try:
        delayed, ago = args
    except ValueError:
        return False
    fill_buffer(line, names)
    names["a"] = delayed
    names["ago"] = ago
    names["_minperiod"] += abs(ago)
    return True


FILLED: Final = {LinesOperation: fill_operation, _LineDelay: fill_delay}


REPLACED: Final[tuple[tuple[Any, str, Any], ...]] = (
    (MetaParams, "donew", with_parameters),
    (MetaLineSeries, "donew", with_lines),
    (MetaLineIterator, "donew", with_datas),
    (MetaLineActions, "__call__", action),
    (MetaIndicator, "__call__", indicator),
    (bt.metabase, "findowner", owner_of),
    (bt.Strategy, "_stage2", second_stage),
)
ORIGINALS: Final = tuple(vars(home).get(name) for home, name, _ in REPLACED)


@contextmanager
def quickly() -> Iterator[None]:
    """Build with these constructors. One build at a time: whoever enters holds the lock on numbers."""
    for home, name, replacement in REPLACED:
        setattr(home, name, replacement)
    try:
        yield
    finally:
        for (home, name, _), original in zip(REPLACED, ORIGINALS, strict=True):
            if original is None:
                delattr(home, name)
            else:
                setattr(home, name, original)
