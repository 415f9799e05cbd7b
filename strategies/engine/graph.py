"""The objects of a built engine, numbered; what differs from how they were built; and back again.

A freshly built engine of the same code and parameters is the baseline. Everything reachable from it
is an anchor with a number, the same in every process, because the walk follows attributes and items
in their order. A state holds only the anchors that differ. To load one, whatever differs now is put
back to the baseline first, so nothing of a former state survives.

Comparison is by identity, at the speed of C: equality is overloaded on lines and blurs 0, False and
-0.0. Numbers and texts that are equal to the last bit count as the same, so that the result does not
depend on how a value came about.
"""

from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from dis import get_instructions
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from io import BytesIO, StringIO
from itertools import chain, count, islice
from logging import Logger
from operator import is_
from pathlib import PurePath
from random import Random
from re import Pattern
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import backtrader as bt
from backtrader.linebuffer import LineBuffer
from backtrader.metabase import AutoInfoClass

from strategies.engine import numeric
from strategies.engine.audit import written_names
from strategies.engine.errors import NotCarriable
from strategies.engine.history import HOT, Horizon, keep_tail
from strategies.engine.refusals import (
    NEVER,
    attributes_of,
    container_base,
    has_slots,
    is_plain_class,
    refused,
)
from strategies.engine.vocabulary import is_backtrader, remembered
from strategies.engine.writing import CONTENTS

PLAIN: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, Decimal, Fraction, datetime, date, time, timedelta,
     timezone, ZoneInfo, range, UUID}
)  # fmt: skip
FIXED: Final = (  # what has no state of its own, or none that a strategy may change
    type, FunctionType, BuiltinFunctionType, MethodWrapperType, WrapperDescriptorType, Enum, Pattern, Logger,
    PurePath, property, staticmethod, classmethod,
)  # fmt: skip
UNCHANGING: Final = (*FIXED, tuple, frozenset)
STRUCTURE: Final = frozenset(  # set up once by Backtrader and only read afterwards
    {"plotinfo", "plotlines", "_lineiterators", "ddatas", "dnames", "lines", "l", "datas", "datasbyname",
     "stcount", "_alnames", "indobscsv", "feeds", "stores", "_pretimers", "strats", "_feed", "bindings",
     "array",     "_datas", "_minperiods", "_orders", "runstrats", "runningstrats", *HOT}
)  # fmt: skip
RESERVED: Final = frozenset({"env", "cerebro", "broker", "_owner", "_clock", "strategy", "p", "params"})
SET_BY_BACKTRADER: Final = frozenset(
    {"_owner", "_id", "_opstage", "_tradehistoryon", "_minperiod", "_minperstatus"}
)
FILLED_BY_BACKTRADER: Final = (bt.LineRoot, bt.Analyzer, bt.Cerebro)


NO_NAMES: Final[frozenset[str]] = frozenset()
NONE: Final[dict[Any, Any]] = {}
SIMPLE: Final = (type, BuiltinFunctionType, Enum, property)  # nothing to look into, wherever they are held
NOTHING, CONTAINER, OBJECT, FOREIGN, FIXED_KIND = range(5)


class Anchors:
    """Numbered objects and their baselines."""

    def __init__(self, roots: list[tuple[str, Any]], horizon: Horizon) -> None:
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.holder: list[int] = []  # per anchor: the anchor that holds it, -1 for a root
        self.part: list[str] = []  # and as what
        self.holders: dict[int, list[tuple[int, str]]] = {}  # of containers: all that held it at the start
        self.lines: list[Any] = []
        self.instances: list[Instance] = []
        self.containers: list[Container] = []
        self._horizon = horizon
        self._feed_lines = {id(line) for _, thing in roots if is_feed(thing) for line in thing.lines.lines}
        for name, thing in roots:
            self._add(thing, -1, name)
        at = 0
        while at < len(self.objects):
            thing = self.objects[at]
            if kind_of(type(thing)) == CONTAINER:
                self._expand_container(at, thing)
            else:
                self._expand_instance(at, thing)
            at += 1
        self.watch()

    def watch(self) -> None:
        """Take the baseline: everything is as it was built."""
        mine: set[Any] = {cls for cls in set(map(type, self.objects)) if not is_backtrader(cls)}
        written: frozenset[str] = frozenset().union(*map(written_names, mine))
        self.instances = [
            Instance(number, thing, written)
            for number, thing in enumerate(self.objects)
            if kind_of(type(thing)) != CONTAINER
        ]
        self._static: list[Instance] = []
        self._quiet: list[Instance] = []
        self._busy: list[tuple[Instance, bool]] = []
        for each in self.instances:
            if each.static:
                self._static.append(each)
            elif each.is_quiet():
                self._quiet.append(each)
            else:
                self._busy.append((each, is_feed(each.thing)))
        self._static_names = [each.names for each in self._static]
        self._static_sizes = list(map(len, self._static_names))
        self._quiet_names = [each.names for each in self._quiet]
        self._quiet_sizes = list(map(len, self._quiet_names))
        self._quiet_values = tuple(chain.from_iterable(each.values for each in self._quiet))
        # Most containers are empty at the start and when a bar is over.
        self._empty = [
            each
            for each in self.containers
            if each.kind in (LIST, MAPPING) and not each.thing and not self.is_users(each.number)
        ]
        self._empty_things = [each.thing for each in self._empty]
        empty = {id(each) for each in self._empty}
        self._filled = [each for each in self.containers if id(each) not in empty]

    def changed_containers(self) -> list["Container"]:
        """Return the containers whose content is not as it was built, in the order of their numbers."""
        found = [each for each in self._filled if each.changed()]
        if any(self._empty_things):
            found += [each for each in self._empty if each.thing]
        found.sort(key=_number)
        return found

    def changed(self) -> list["Instance"]:
        """Return the objects whose attributes are not as they were built, in the order of their numbers.

        Most never change: one pass over all their values says so.
        """
        found = [each for each, feed in self._busy if feed or each.changed()]
        if list(map(len, self._static_names)) != self._static_sizes:
            found += [each for each in self._static if each.changed()]
        if list(map(len, self._quiet_names)) != self._quiet_sizes or not all(
            map(is_, chain.from_iterable(names.values() for names in self._quiet_names), self._quiet_values)
        ):
            found += [each for each in self._quiet if each.changed()]
        found.sort(key=_number)
        return found

    def path_of(self, number: int) -> tuple[str, ...]:
        parts: list[str] = []
        while number >= 0:
            parts.append(self.part[number])
            number = self.holder[number]
        return tuple(reversed(parts))

    def is_held(self, number: int) -> bool:
        """Whether one of the objects that held a container at the start still does."""
        thing = self.objects[number]
        if number not in self.holders:
            return True  # a container that is an object of its own, with attributes
        for holder, part in self.holders[number]:
            owner = self.objects[holder]
            if "[" in part:
                return True  # inside of a tuple, which does not change
            if type(owner) in CONTENTS:
                if any(item is thing for item in (owner.values() if isinstance(owner, dict) else owner)):
                    return True
            elif attributes_of(owner).get(part) is thing:
                return True
        return False

    def _add(self, thing: Any, holder: int, part: str) -> None:
        if id(thing) not in self.numbers:
            self.numbers[id(thing)] = len(self.objects)
            self.objects.append(thing)
            self.holder.append(holder)
            self.part.append(part)

    def _visit(self, value: Any, holder: int, part: str, *, strict: bool) -> None:
        """Give a number to what can change; refuse the user's that cannot be carried."""
        number = self.numbers.get(id(value))
        if number is not None:
            if number in self.holders:
                self.holders[number].append((holder, part))
            return
        kind = kind_of(type(value))
        if kind == CONTAINER:
            self.holders[len(self.objects)] = [(holder, part)]
            self._add(value, holder, part)
        elif kind == OBJECT or (kind == FOREIGN and not strict):
            if not _is_empty(value):
                self._add(value, holder, part)
        else:
            self._visit_fixed(value, holder, part, strict=strict)

    def _visit_fixed(self, value: Any, holder: int, part: str, *, strict: bool) -> None:
        """Look through what does not change itself for what can."""
        cls: Any = type(value)
        if isinstance(value, tuple | frozenset):
            for at, item in enumerate(value):
                if type(item) not in PLAIN:
                    self._visit(item, holder, f"{part}[{at}]", strict=strict)
        elif cls is MethodType:
            self._visit(value.__self__, holder, f"{part}.__self__", strict=strict)
        elif isinstance(value, FIXED) or cls is count or numeric.is_number(value):
            if strict and cls is FunctionType:
                self._closure(value, holder, part)
        elif strict:
            refusal = refused(value)
            raise NotCarriable(refusal.what, refusal.remedy, (*self.path_of(holder), part))

    def _closure(self, function: FunctionType, holder: int, part: str) -> None:
        for cell in function.__closure__ or ():
            content = cell.cell_contents
            if type(content) not in PLAIN and not isinstance(content, (*FIXED, ModuleType)):
                raise NotCarriable(
                    f"a function that closes over an object ({function.__qualname__})",
                    "make it a method and keep the object in an attribute",
                    (*self.path_of(holder), part),
                )

    def _expand_container(self, number: int, thing: Any) -> None:
        cls = type(thing)
        strict = self.is_users(number)
        keeps_count = False
        if isinstance(thing, dict):
            self._pairs(number, thing, strict=strict)
            keeps_count = any(type(value) is count for value in thing.values())
        elif cls in {list, deque, set}:
            for at, value in enumerate(thing):
                if type(value) not in PLAIN:
                    self._visit(value, number, f"[{at}]", strict=strict)
                    keeps_count |= type(value) is count
        self.containers.append(Container(number, thing, None, always=keeps_count))

    def _pairs(self, number: int, thing: Any, *, strict: bool) -> None:
        for key, value in thing.items():
            if type(key) not in PLAIN:
                self._visit(key, number, "[key]", strict=strict)
            if type(value) not in PLAIN:
                part = f"[{key!r:.40}]" if type(key) in PLAIN else "[...]"
                self._visit(value, number, part, strict=strict)

    def _expand_instance(self, number: int, thing: Any) -> None:
        cls: Any = type(thing)
        line, root, users, base = role_of(cls)
        if line:
            self.lines.append(thing)
            keep_tail(thing, number, self._horizon, of_feed=id(thing) in self._feed_lines)
        elif root:
            self._expand_structure(number, thing)
        if users:
            self._expand_users(number, thing)
        else:
            known = self.numbers
            for name, value in attributes_of(thing).items():
                kind = type(value)
                if kind in PLAIN or name in STRUCTURE or (id(value) in known and kind not in CONTENTS):
                    continue
                self._visit(value, number, name, strict=False)
        if base is not None:
            self._expand_base(number, thing, base, strict=users)

    def _expand_users(self, number: int, thing: Any) -> None:
        mixed = isinstance(thing, FILLED_BY_BACKTRADER)
        known = self.numbers
        for name, value in attributes_of(thing).items():
            if type(value) in PLAIN:
                continue
            own = not (mixed and (name in STRUCTURE or name in RESERVED))
            if own or (name not in STRUCTURE and (id(value) not in known or type(value) in CONTENTS)):
                self._visit(value, number, name, strict=own)

    def _expand_base(self, number: int, thing: Any, base: type, *, strict: bool) -> None:
        """Look into an object that is a container as well."""
        if issubclass(base, dict):
            self._pairs(number, thing, strict=strict)
        else:
            for at, value in enumerate(thing):
                self._visit(value, number, f"[{at}]", strict=strict)
        self.containers.append(Container(number, thing, base))

    def _expand_structure(self, number: int, thing: Any) -> None:
        """Lines and what calculates below: held in containers that do not change and are not watched."""
        known, names = self.numbers, aliases_of(type(thing.lines))
        for at, line in enumerate(thing.lines.lines):
            if id(line) not in known:
                self._add(line, number, (at < len(names) and names[at]) or f"lines[{at}]")
        attributes = vars(thing)
        for at, data in enumerate(attributes.get("datas", ())):
            if id(data) not in known:
                self._add(data, number, f"datas[{at}]")
        for kind in attributes.get("_lineiterators", NONE).values():
            for at, each in enumerate(kind):
                if id(each) not in known:
                    self._add(each, number, f"{type(each).__name__.lower()}[{at}]")

    def is_users(self, number: int) -> bool:
        """Whether an attribute of a class that is not Backtrader's holds this container."""
        holder, part = self.holder[number], self.part[number]
        while holder >= 0:
            thing = self.objects[holder]
            if type(thing) not in CONTENTS:
                return is_users_class(type(thing)) and not (
                    part in RESERVED or (isinstance(thing, FILLED_BY_BACKTRADER) and part in STRUCTURE)
                )
            holder, part = self.holder[holder], self.part[holder]
        return False


def _number(each: "Instance | Container") -> int:
    return each.number


@remembered
def aliases_of(lines: Any) -> tuple[str, ...]:
    """Return the names of the lines in their class; extra lines have none."""
    return tuple(lines._getlinealias(at) for at in range(lines._getlinesextra() + len(lines._getlines())))


@remembered
def kind_of(cls: type) -> int:
    """Return what the walk does with the instances of a class."""
    if cls in PLAIN:
        return NOTHING
    if cls in CONTENTS or numeric.is_mutable_class(cls):
        return CONTAINER
    if issubclass(cls, UNCHANGING) or not is_plain_class(cls):
        return NOTHING if issubclass(cls, SIMPLE) else FIXED_KIND
    return FOREIGN if issubclass(cls, NEVER) else OBJECT


def is_feed(thing: Any) -> bool:
    return isinstance(thing, bt.feed.AbstractDataBase)


def _is_empty(thing: Any) -> bool:
    """Whether it is a set of no parameters: every line has one."""
    return isinstance(thing, AutoInfoClass) and not vars(thing)


@lru_cache(maxsize=4096)
def shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return one tuple for all objects of any engine that have these attributes in this order."""
    return names


class Instance:
    """Attributes of one object as they were built."""

    __slots__ = ("_base", "always", "keys", "names", "number", "skip", "slots", "static", "thing", "values")

    def __init__(self, number: int, thing: Any, written: frozenset[str]) -> None:
        self.number = number
        self.thing = thing
        cls = type(thing)
        self.slots, self.skip, static, watched = shape_of(cls)
        self.names: dict[str, Any] = attributes_of(thing) if self.slots else vars(thing)
        self._base: dict[str, Any] | None = None
        if self.skip:
            self.keys = shared(tuple(islice(self.names, self.skip, None)))
            self.values = tuple(islice(self.names.values(), self.skip, None))
        else:
            self.keys = shared(tuple(self.names))
            self.values = tuple(self.names.values())
        self.always = NO_NAMES
        self.static = static and written.isdisjoint(self.keys)
        if not self.static and (watched or count in map(type, self.values)):
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
        return not (self.slots or self.skip or self.always or is_restless(type(self.thing)))

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
        base, always = self.base, self.always
        changed = {
            name: value
            for name, value in names.items()
            if name not in base or name in always or (value is not base[name] and not same(value, base[name]))
        }
        if len(names) == len(base) and all(map(is_, names, base)):
            return changed, [], None
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
def shape_of(cls: type) -> tuple[bool, int, bool, bool]:
    """Return whether it has slots, how many attributes move, if none is set later, if some are watched."""
    return has_slots(cls), len(HOT) if issubclass(cls, LineBuffer) else 0, is_static(cls), is_watched(cls)


@remembered
def role_of(cls: type) -> tuple[bool, bool, bool, type | None]:
    """Return whether it is a line, something with lines, the user's; and the container that it is as well."""
    base = container_base(cls)
    return (
        issubclass(cls, LineBuffer),
        issubclass(cls, bt.LineRoot),
        is_users_class(cls),
        base if base in CONTENTS else None,
    )


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
    return not is_backtrader(cls) or issubclass(
        cls,
        bt.Strategy | bt.Analyzer | bt.Observer | bt.BrokerBase | bt.Cerebro | bt.feed.AbstractDataBase,
    )


class Container:
    """Content of one container (or random generator, buffer, array) as it was built."""

    __slots__ = ("always", "always_at_start", "base", "kind", "number", "saved", "thing")

    def __init__(self, number: int, thing: Any, base: type | None, *, always: bool = False) -> None:
        self.number = number
        self.thing = thing
        self.base = base
        self.kind = KINDS.get(base or type(thing), NUMPY)
        self.always = self.always_at_start = always
        self.saved = self.kind[0](thing)

    def changed(self) -> bool:
        return self.always or not self.kind[1](self.thing, self.saved)

    def restore(self) -> None:
        self.kind[2](self.thing, self.saved)


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


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal to the last bit. False for anything else: then it is written."""
    cls = type(one)
    if cls is not type(other):
        return False
    if cls is float:
        return bool(one == other) and (one != 0.0 or str(one) == str(other))
    if cls in {int, str, bytes, bool}:
        return bool(one == other)
    return cls is tuple and len(one) == len(other) and all(map(_same_item, one, other))


def _same_item(one: Any, other: Any) -> bool:
    return one is other or same(one, other)


def _same_list(thing: Any, saved: tuple[Any, ...]) -> bool:
    return len(thing) == len(saved) and all(map(_same_item, thing, saved))


def _same_dict(thing: dict[Any, Any], saved: tuple[tuple[Any, ...], tuple[Any, ...]]) -> bool:
    return (
        len(thing) == len(saved[0])
        and all(map(_same_item, thing, saved[0]))
        and all(map(_same_item, thing.values(), saved[1]))
    )


def _restore_list(thing: Any, saved: tuple[Any, ...]) -> None:
    thing.clear()
    thing.extend(saved)


def _restore_dict(thing: dict[Any, Any], saved: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    dict.clear(thing) if not isinstance(thing, OrderedDict) else OrderedDict.clear(thing)
    put = OrderedDict.__setitem__ if isinstance(thing, OrderedDict) else dict.__setitem__
    for key, value in zip(*saved, strict=True):
        put(thing, key, value)


def _restore_set(thing: set[Any], saved: tuple[Any, ...]) -> None:
    set.clear(thing)
    for item in saved:
        set.add(thing, item)


def _restore_io(thing: Any, saved: tuple[Any, int]) -> None:
    thing.seek(0)
    thing.truncate()
    thing.write(saved[0])
    thing.seek(saved[1])


def _restore_whole(thing: Any, saved: Any) -> None:
    thing[:] = saved


def _saved_numpy(thing: Any) -> Any:
    return thing.copy() if hasattr(thing, "tobytes") else dict(thing.bit_generator.state)


def _same_numpy(thing: Any, saved: Any) -> bool:
    if hasattr(thing, "tobytes"):
        return bool(thing.shape == saved.shape and thing.tobytes() == saved.tobytes())
    return str(thing.bit_generator.state) == str(saved)


def _restore_numpy(thing: Any, saved: Any) -> None:
    if hasattr(thing, "tobytes"):
        thing[...] = saved
    else:
        thing.bit_generator.state = saved


Kind = tuple[Callable[[Any], Any], Callable[[Any, Any], bool], Callable[[Any, Any], None]]
LIST: Final[Kind] = (tuple, _same_list, _restore_list)
MAPPING: Final[Kind] = (
    lambda thing: (tuple(thing), tuple(thing.values())), _same_dict, _restore_dict
)  # fmt: skip
IO: Final[Kind] = (
    lambda thing: (thing.getvalue(), thing.tell()),
    lambda thing, saved: (thing.getvalue(), thing.tell()) == saved,
    _restore_io,
)
NUMPY: Final[Kind] = (_saved_numpy, _same_numpy, _restore_numpy)
KINDS: Final[dict[type, Kind]] = {
    list: LIST, deque: LIST, dict: MAPPING, OrderedDict: MAPPING, defaultdict: MAPPING,
    set: (tuple, _same_list, _restore_set),
    bytearray: (bytes, lambda thing, saved: thing == saved, _restore_whole),
    array: (
        lambda thing: array(thing.typecode, thing), lambda thing, saved: thing.tobytes() == saved.tobytes(),
        _restore_whole),
    Random: (Random.getstate, lambda thing, saved: Random.getstate(thing) == saved, Random.setstate),
    StringIO: IO, BytesIO: IO,
}  # fmt: skip
