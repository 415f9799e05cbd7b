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
from enum import Enum
from fractions import Fraction
from io import BytesIO, StringIO
from itertools import count, islice
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

from strategies.engine import numeric
from strategies.engine.errors import NotCarriable
from strategies.engine.feed import PushFeed
from strategies.engine.history import HOT, is_line
from strategies.engine.refusals import attributes_of, container_base, is_plain_class, refused
from strategies.engine.vocabulary import is_backtrader
from strategies.engine.writing import CONTENTS

PLAIN: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, Decimal, Fraction, datetime, date, time, timedelta,
     timezone, ZoneInfo, range, UUID}
)  # fmt: skip
FIXED: Final = (  # what has no state of its own, or none that a strategy may change
    type, FunctionType, BuiltinFunctionType, MethodWrapperType, WrapperDescriptorType, Enum, Pattern, Logger,
    PurePath, property, staticmethod, classmethod,
)  # fmt: skip
LISTS: Final = (list, deque)
UNWATCHED: Final = frozenset(  # set up once by Backtrader and only read afterwards
    {"plotinfo", "plotlines", "_lineiterators", "ddatas", "dnames", "lines", "l", "datas", "datasbyname",
     "stcount", "_alnames", "indobscsv", "feeds", "stores", "_pretimers", "strats", "_feed", "_env", "notifs_"}
)  # fmt: skip


class Anchors:
    """Numbered objects and their baselines."""

    def __init__(self, roots: list[tuple[str, Any]]) -> None:
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.origin: list[tuple[int, str]] = []  # per anchor: the anchor that holds it, and as what
        self.holders: list[list[tuple[int, str]]] = []  # per anchor: all that held it at the start
        self.lines: list[Any] = []
        self.instances: list[Instance] = []
        self.containers: list[Container] = []
        self.users: list[int] = []
        self._quiet = False
        for name, thing in roots:
            self._add(thing, -1, name)
        at = 0
        while at < len(self.objects):
            self._expand(at, self.objects[at])
            at += 1

    def path_of(self, number: int) -> tuple[str, ...]:
        parts: list[str] = []
        while number >= 0:
            number, part = self.origin[number]
            parts.append(part)
        return tuple(reversed(parts))

    def _add(self, thing: Any, holder: int, part: str) -> None:
        if id(thing) not in self.numbers:
            self.numbers[id(thing)] = len(self.objects)
            self.objects.append(thing)
            self.origin.append((holder, part))
            self.holders.append([])

    def is_held(self, number: int) -> bool:
        """Whether one of the objects that held a container at the start still does."""
        thing = self.objects[number]
        for holder, part in self.holders[number]:
            owner = self.objects[holder]
            if type(owner) in CONTENTS:
                items = [*owner, *owner.values()] if isinstance(owner, dict) else owner
                if any(item is thing or type(item) is tuple for item in items):
                    return True
            elif attributes_of(owner).get(part.partition("[")[0]) is thing or "[" in part:
                return True
        return not self.holders[number]

    def _visit(self, value: Any, holder: int, part: str, *, strict: bool) -> None:
        """Number a value that can change; refuse one that cannot be carried, if it is the user's."""
        cls = type(value)
        if cls in PLAIN:
            return
        if id(value) in self.numbers:
            self.holders[self.numbers[id(value)]].append((holder, part))
            return
        if cls is tuple or cls is frozenset:
            for at, item in enumerate(value):
                self._visit(item, holder, f"{part}[{at}]", strict=strict)
        elif cls is MethodType:
            self._visit(value.__self__, holder, f"{part}.__self__", strict=strict)
        elif isinstance(value, FIXED) or cls is count:
            if strict and cls is FunctionType:
                self._closure(value, holder, part)
        elif cls in CONTENTS or is_plain_class(cls) or numeric.is_mutable(value):
            self._add(value, holder, part)
            self.holders[-1].append((holder, part))
        elif numeric.is_number(value):
            return
        elif strict and not _from_library(cls):
            raise NotCarriable(*refused(value).args[:2], (*self.path_of(holder), part))

    def _closure(self, function: FunctionType, holder: int, part: str) -> None:
        for cell in function.__closure__ or ():
            content = cell.cell_contents
            if type(content) not in PLAIN and not isinstance(content, FIXED | ModuleType):
                raise NotCarriable(
                    f"a function that closes over an object ({function.__qualname__})",
                    "make it a method and keep the object in an attribute",
                    (*self.path_of(holder), part),
                )

    def _expand(self, number: int, thing: Any) -> None:
        cls = type(thing)
        if isinstance(thing, bt.lineseries.Lines):
            for at, line in enumerate(thing.lines):
                self._add(line, number, thing._getlinealias(at) or str(at))
        elif cls in CONTENTS:
            self._expand_container(number, thing, cls)
        elif numeric.is_mutable(thing):
            self.containers.append(Container(number, thing, None))
        else:
            self._expand_instance(number, thing)

    def _expand_container(self, number: int, thing: Any, cls: type) -> None:
        unwatched = self._is_unwatched(number)
        strict = self._users(number)
        keeps_count = False
        if isinstance(thing, dict):
            for key, value in list(thing.items()):
                self._visit(key, number, f"[{key!r:.40}]" if type(key) in PLAIN else "[key]", strict=strict)
                self._visit(value, number, f"[{key!r:.40}]" if type(key) in PLAIN else "[...]", strict=strict)
                keeps_count |= type(value) is count
        elif cls in {list, deque, set}:
            for at, value in enumerate(list(thing)):
                self._visit(value, number, f"[{at}]", strict=strict)
                keeps_count |= type(value) is count
        if not unwatched:
            self.containers.append(Container(number, thing, None, always=keeps_count))

    def _expand_instance(self, number: int, thing: Any) -> None:
        cls = type(thing)
        users = not is_backtrader(cls)
        if isinstance(thing, bt.metabase.AutoInfoClass):
            users = False
        if users:
            self.users.append(number)
        names = attributes_of(thing)
        for name, value in list(names.items()):
            if name not in {"plotinfo", "plotlines", "array"}:
                own = users and not (isinstance(thing, bt.LineRoot | bt.Analyzer) and is_reserved(name))
                self._visit(value, number, name, strict=own)
        base = container_base(cls)
        if base is not None and base in CONTENTS:
            for key, value in list(thing.items()) if issubclass(base, dict) else enumerate(list(thing)):
                self._visit(key, number, "[key]", strict=users)
                self._visit(value, number, f"[{key!r:.40}]", strict=users)
            self.containers.append(Container(number, thing, base))
        if is_line(thing):
            self.lines.append(thing)
        self.instances.append(Instance(number, thing, users=users))

    def _is_unwatched(self, number: int) -> bool:
        holder, part = self.origin[number]
        if holder < 0:
            return False
        if part in UNWATCHED and is_backtrader(type(self.objects[holder]).__mro__[-2]):
            return True
        return type(self.objects[holder]) in {list, dict, defaultdict, OrderedDict} and self._is_unwatched(holder)

    def _users(self, number: int) -> bool:
        """Whether an attribute of a class that is not Backtrader's holds this."""
        holder, part = self.origin[number]
        while holder >= 0:
            thing = self.objects[holder]
            if type(thing) not in CONTENTS:
                return not is_backtrader(type(thing)) and not is_reserved(part) and not isinstance(thing, bt.metabase.AutoInfoClass)
            holder, part = self.origin[holder]
        return False


def is_reserved(name: str) -> bool:
    return name in RESERVED or name in UNWATCHED


RESERVED: Final = frozenset({"env", "cerebro", "broker", "_owner", "_clock", "strategy", "p", "params"})


def _from_library(cls: type) -> bool:
    return is_backtrader(cls)


class Instance:
    """Attributes of one object as they were built."""

    __slots__ = ("always", "base", "keys", "last", "names", "number", "plain", "skip", "slots", "thing", "users", "values")

    def __init__(self, number: int, thing: Any, *, users: bool) -> None:
        self.number = number
        self.thing = thing
        self.users = users
        self.slots = type(getattr(thing, "__dict__", None)) is not dict or any(
            "__slots__" in vars(cls) and vars(cls)["__slots__"] for cls in type(thing).__mro__
        )
        self.skip = 0
        self.capture()

    def capture(self) -> None:
        """Take the attributes as they are now for the baseline."""
        thing = self.thing
        self.names = attributes_of(thing) if self.slots else vars(thing)
        if is_line(thing):
            self.skip = len(HOT) if "_tail" in self.names else 0
        elif isinstance(thing, PushFeed):
            self.skip = 0
        self.base = dict(islice(self.names.items(), self.skip, None))
        self.keys = tuple(self.base)
        self.values = tuple(self.base.values())
        self.last = self.keys[-1] if self.keys else None
        self.always = frozenset(
            name
            for name, value in self.base.items()
            if type(value) is count and name not in UNWATCHED
            or self.users and type(value) in PLAIN and not is_reserved(name)
        )

    def current(self) -> dict[str, Any]:
        return attributes_of(self.thing) if self.slots else self.names

    def changed(self) -> bool:
        if self.always:
            return True
        names = self.current()
        if len(names) != len(self.values) + self.skip:
            return True
        found = names.values() if not self.skip else islice(names.values(), self.skip, None)
        return not all(map(is_, found, self.values)) or (
            self.last is not None and next(reversed(names)) != self.last
        )

    def difference(self) -> tuple[dict[str, Any], list[str], list[str] | None]:
        """Return what is set, what is gone and, if it is not the natural one, the order of all names."""
        names = dict(islice(self.current().items(), self.skip, None))
        base, always = self.base, self.always
        changed = {
            name: value
            for name, value in names.items()
            if name not in base or name in always or (value is not base[name] and not same(value, base[name]))
        }
        gone = [name for name in base if name not in names]
        natural = [name for name in base if name in names]
        natural += [name for name in names if name not in base]
        order = None if natural == list(names) else list(names)
        return changed, gone, order

    def restore(self) -> None:
        if self.slots:
            self._restore_slots()
            return
        names = self.names
        if self.skip:
            moving = dict(islice(names.items(), self.skip))
            names.clear()
            names.update(moving)
        else:
            names.clear()
        names.update(self.base)

    def _restore_slots(self) -> None:
        for name in self.current():
            if name not in self.base:
                object.__delattr__(self.thing, name)
        for name, value in self.base.items():
            object.__setattr__(self.thing, name, value)


class Container:
    """Content of one container (or random generator, buffer, array) as it was built."""

    __slots__ = ("always", "base", "kind", "number", "saved", "thing")

    def __init__(self, number: int, thing: Any, base: type | None, *, always: bool = False) -> None:
        self.number = number
        self.thing = thing
        self.base = base
        self.kind = KINDS.get(base or type(thing), NUMPY)
        self.always = always
        self.saved = self.kind[0](thing)

    def changed(self) -> bool:
        return self.always or not self.kind[1](self.thing, self.saved)

    def restore(self) -> None:
        self.kind[2](self.thing, self.saved)


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
    return len(thing) == len(saved[0]) and all(map(_same_item, thing, saved[0])) and all(
        map(_same_item, thing.values(), saved[1])
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

