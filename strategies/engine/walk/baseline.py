"""How an object or a container was built, whether it still is like that, and how to make it so again.

Three methods make one promise: `restore` puts back what `changed` would find. So `changed` may say yes too
often (then a little more is written, or put back, than needed), but never no when something has changed.

Comparison is by identity, at the speed of C: equality is overloaded on lines and blurs 0, False and -0.0.
What is not the same object is compared once more before it is written, and numbers and texts that are
equal to the last bit count as the same (`kinds.same`): otherwise the bytes would depend on how a value
came about, and an engine that goes on with its objects would write others than one that loaded them.

The order of the attributes counts as well, because `vars(self)` can be iterated over; it is written only
where it is not the one that loading would make by itself.

Some values are written whether or not they differ (`always`): plain values of the user's objects and the
broker's cash, so that changed code can read the account out of a state without building the old engine
(`rebuild`); and counters, whose position is inside of them.
"""

import re
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from dis import get_instructions
from fractions import Fraction
from functools import lru_cache
from itertools import compress, count, islice
from operator import is_, is_not
from types import FunctionType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import backtrader as bt
from backtrader.linebuffer import LineBuffer

from strategies.engine.bytes.kinds import kind_of, same
from strategies.engine.bytes.refusals import attributes_of, has_slots
from strategies.engine.bytes.vocabulary import is_backtrader, remembered
from strategies.engine.machine.kept_lines import HOT

PLAIN: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, Decimal, Fraction, datetime, date, time, timedelta,
     timezone, ZoneInfo, range, UUID}
)  # fmt: skip
STRUCTURE: Final = frozenset(  # set up once by Backtrader and only read afterwards
    {"plotinfo", "plotlines", "_lineiterators", "ddatas", "dnames", "lines", "l", "datas", "datasbyname",
     "stcount", "_alnames", "indobscsv", "feeds", "stores", "_pretimers", "strats", "_feed", "bindings",
     "array",     "_datas", "_minperiods", "_orders", "runstrats", "runningstrats", *HOT}
)  # fmt: skip
SET_BY_BACKTRADER: Final = frozenset(
    {"_owner", "_id", "_opstage", "_tradehistoryon", "_minperiod", "_minperstatus"}
)
NO_NAMES: Final[frozenset[str]] = frozenset()
MISSING: Final = object()


# Nothing is held only here: parameters, lines and feeds that Backtrader names once more, its own numbers.
GIVEN: Final = re.compile(r"p|params|mode|useislice|_minperiod|_opstage|data\d*(_\w+)?|line_?\d*")


@lru_cache(maxsize=4096)
def shared(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return one tuple for all objects of any engine that have these attributes in this order.

    And the names among them under which an object of Backtrader's may hold what nobody else does.
    """
    return names, tuple(name for name in names if name not in STRUCTURE and not GIVEN.fullmatch(name))


class Instance:
    """Attributes of one object as they were built."""

    __slots__ = (
        "_base", "always", "holding", "keys", "names", "number", "skip", "slots", "static", "thing", "values",
    )  # fmt: skip

    def __init__(self, number: int, thing: Any) -> None:
        self.number = number
        self.thing = thing
        self._base: dict[str, Any] | None = None
        self.slots, self.skip, self.static, self.always = shape_of(type(thing))
        self.names: dict[str, Any] = attributes_of(thing) if self.slots else thing.__dict__
        keys, values = tuple(self.names), tuple(self.names.values())
        if self.skip:
            keys, values = keys[self.skip :], values[self.skip :]
        self.keys, self.holding = shared(keys)
        self.values = values

    def watch(self) -> None:
        """Look at the values from now on, not only at their number, and find those to write always."""
        cls = type(self.thing)
        self.static = False
        if is_watched(cls) or count in map(type, self.values):
            self.always = self._always(users=is_users_class(cls))

    def _always(self, *, users: bool) -> frozenset[str]:
        """Return the names that are written whether or not they are as they were built."""
        return frozenset(
            name
            for name, value in zip(self.keys, self.values, strict=True)
            if (
                (type(value) is count and not (name == "_dataid" and isinstance(self.thing, bt.Cerebro)))
                or (users and type(value) in PLAIN)
                or (name == "cash" and isinstance(self.thing, bt.BrokerBase))
            )
            and name not in STRUCTURE
            and name not in SET_BY_BACKTRADER
        )

    @property
    def base(self) -> dict[str, Any]:
        """The attributes as a dict. Most objects never change and need none."""
        if self._base is None:
            self._base = dict(zip(self.keys, self.values, strict=True))
        return self._base

    def is_quiet(self) -> bool:
        """Whether it is one of the many objects of Backtrader's that hardly ever change."""
        return not (self.skip or self.always or is_restless(type(self.thing)))

    def changed(self) -> bool:
        names = self.names
        if self.slots:
            names = attributes_of(self.thing)
        if len(names) != len(self.keys) + self.skip or self.always:
            return True
        if self.static:
            return False  # nobody writes them: to count them is enough
        found = islice(names.values(), self.skip, None) if self.skip else names.values()
        return not all(map(is_, found, self.values)) or (
            len(names) > 0 and next(reversed(names)) is not self.keys[-1]
        )

    def difference(self) -> tuple[dict[str, Any], list[str], list[str] | None]:
        """Return what is set, what is gone and, if it is not the natural one, the order of all names."""
        names = attributes_of(self.thing) if self.slots else self.names
        if self.skip:
            names = dict(islice(names.items(), self.skip, None))
        always, keys = self.always, self.keys
        if len(names) == len(keys) and all(map(is_, names, keys)):
            found: Iterable[tuple[str, Any, Any]] = zip(keys, names.values(), self.values, strict=True)
            if not always:
                found = compress(found, map(is_not, names.values(), self.values))
            set_anew = {
                name: now
                for name, now, was in found
                if (now is not was and not same(now, was)) or name in always
            }
            return set_anew, [], None
        base = self.base
        changed = {
            name: now
            for name, now in names.items()
            if (now is not (was := base.get(name, MISSING)) and not same(now, was)) or name in always
        }
        gone = [name for name in base if name not in names]
        natural = [name for name in base if name in names]
        natural += [name for name in names if name not in base]
        return changed, gone, None if natural == list(names) else list(names)

    def restore(self) -> None:
        if self.slots:
            self._restore_slots()
            return
        names = self.names
        moving = dict(islice(names.items(), self.skip)) if self.skip else {}
        names.clear()
        names.update(moving)
        names.update(zip(self.keys, self.values, strict=True))

    def _restore_slots(self) -> None:
        base = self.base
        for name in attributes_of(self.thing):
            if name not in base:
                object.__delattr__(self.thing, name)
        for name, value in base.items():
            object.__setattr__(self.thing, name, value)


@remembered
def shape_of(cls: type) -> tuple[bool, int, bool, frozenset[str]]:
    """Return whether it has slots, how many attributes are a line's moving parts, if none is set later."""
    return has_slots(cls), len(HOT) if issubclass(cls, LineBuffer) else 0, is_static(cls), NO_NAMES


@remembered
def is_users_class(cls: type) -> bool:
    """Whether a class is neither Backtrader's nor made by it for the parameters of one."""
    return not is_backtrader(cls) and not issubclass(cls, bt.metabase.AutoInfoClass)


@remembered
def is_watched(cls: type) -> bool:
    """Whether some attributes of the instances are written always."""
    return is_users_class(cls) or issubclass(cls, bt.BrokerBase)


@remembered
def is_restless(cls: type) -> bool:
    return (
        has_slots(cls)
        or not is_backtrader(cls)
        or issubclass(
            cls,
            bt.Strategy | bt.Analyzer | bt.Observer | bt.BrokerBase | bt.Cerebro | bt.feed.AbstractDataBase,
        )
    )


class Container:
    """Content of one container (or random generator, buffer, array) as it was built."""

    __slots__ = ("always", "always_at_start", "kind", "number", "saved", "thing", "users")

    def __init__(self, number: int, thing: Any, *, users: bool, always: bool = False) -> None:
        self.number = number
        self.users = users
        self.thing = thing
        self.kind = kind_of(type(thing))
        self.always = self.always_at_start = always
        self.saved = self.kind.save(thing)

    def changed(self) -> bool:
        return self.always or not self.kind.same(self.thing, self.saved)

    def restore(self) -> None:
        self.kind.restore(self.thing, self.saved)


@remembered
def is_static(cls: type) -> bool:
    """Whether no method of a class of Backtrader's that runs after the start sets an attribute."""
    if not is_backtrader(cls) or not issubclass(
        cls, bt.linebuffer.LineActions | bt.linebuffer.LineBuffer | bt.Indicator
    ):
        return False
    return not any(
        "STORE_ATTR" in _operations(value)
        for base in cls.__mro__
        if base.__module__.startswith("backtrader.indicators")
        or base in (bt.lineiterator.SingleCoupler, bt.lineiterator.MultiCoupler)
        for name, value in vars(base).items()
        if isinstance(value, FunctionType) and name != "__init__"
    )


@remembered
def _operations(function: FunctionType) -> frozenset[str]:
    return frozenset(operation.opname for operation in get_instructions(function))
