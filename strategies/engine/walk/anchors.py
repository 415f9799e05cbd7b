"""The objects of a built engine, numbered; what differs from how they were built; and back again.

Everything that is reachable from the roots (broker, feeds, strategies, Cerebro) and can change is an
anchor. Its number is its place in a walk that takes attributes and items in their own order. Engines of
one fingerprint run the same constructors with the same arguments, so the walk meets the same things in
the same order in every process. A constructor that lets chance decide which objects there are has another
fingerprint every time; if chance decides on contents only, `built.differing` finds them. Numbers are the
only pointers in a state.

The walk happens once, before the first bar, and takes the baseline as it goes. After it these hold:

- An anchor stays the object that it is. Whatever the strategy binds to a name, the anchor keeps its
  number and is restored with the rest, because its id is in `numbers` and the engine holds a reference to
  it: no new object can be given the same id.
- Every object that a state tells of is an anchor or was made after the build; the latter are written in
  full where they are first met (`writing`).
- What is no anchor cannot change, or is not the strategy's to change: plain values, classes, functions,
  and Backtrader's tables that are set up once (`baseline.STRUCTURE`).

What the user's own code holds is looked at strictly: something that could not be carried is refused here,
with its path, before a bar is stepped, and not at the bar at which it is first used. Of Backtrader's own
objects a stranger is let pass, because Backtrader does not change it.

A dump asks all anchors whether they differ. A strategy has hundreds and few of them change at a bar, so
they are asked in bulk, by how likely a change is:

    busy     asked one by one: strategies, brokers, analyzers, feeds, the user's objects
    quiet    one comparison over all their values at once, one by one only if that finds something
    static   no code sets their attributes after the start; only whether one was added is looked at
    empty    containers that were empty: one `any` over all of them

Which group an object is in is only a matter of speed, but for `static`: there the claim is that nobody
writes the attribute, which is read from the bytecode of Backtrader's class (`baseline.is_static`) and of
all that the user's code reaches (`reach`). See `baseline` for one object.
"""

from collections import deque
from enum import Enum
from itertools import chain, count
from logging import Logger
from operator import attrgetter, is_
from pathlib import PurePath
from re import Pattern
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final, TypeAlias

import backtrader as bt
from backtrader.linebuffer import LineBuffer

from strategies.engine.bytes import numeric
from strategies.engine.bytes.kinds import KINDS
from strategies.engine.bytes.refusals import (
    NEVER,
    attributes_of,
    container_base,
    is_plain_class,
    plain_dict,
    refused,
)
from strategies.engine.bytes.vocabulary import is_backtrader, remembered
from strategies.engine.engine_errors import NotCarriable
from strategies.engine.machine.kept_lines import Horizon, keep_tail
from strategies.engine.walk.baseline import (
    PLAIN,
    STRUCTURE,
    Container,
    Instance,
    is_users_class,
)
from strategies.engine.walk.reach import reached_from

FIXED: Final = (  # what has no state of its own, or none that a strategy may change
    type, FunctionType, BuiltinFunctionType, MethodWrapperType, WrapperDescriptorType, Enum, Pattern, Logger,
    PurePath, property, staticmethod, classmethod,
)  # fmt: skip
UNCHANGING: Final = (*FIXED, tuple, frozenset)
RESERVED: Final = frozenset({"env", "cerebro", "broker", "_owner", "_clock", "strategy", "p", "params"})
FILLED_BY_BACKTRADER: Final = (bt.LineRoot, bt.Analyzer, bt.Cerebro)
NONE: Final[dict[Any, Any]] = {}
SIMPLE: Final = (type, BuiltinFunctionType, Enum, property)  # nothing to look into, wherever they are held
NUMBER: Final = attrgetter("number")
NOTHING, CONTAINER, OBJECT, FOREIGN, FIXED_KIND = range(5)


class Anchors:
    """Numbered objects and their baselines."""

    def __init__(self, roots: list[tuple[str, Any]], horizon: Horizon) -> None:
        self.objects: list[Any] = []  # by number; the reference keeps its id from being used again
        self.numbers: dict[int, int] = {}  # and back, by id
        self.holder: list[int] = []  # per anchor: the anchor that holds it, -1 for a root
        self.part: list[str] = []  # and as what
        self.holders: dict[int, list[tuple[int, str]]] = {}  # of containers: all that held it at the start
        # Everything once more by what is done with it: the tails of lines are written in bulk, but lines are
        # instances too, for their other attributes; an object that is a container as well is in both lists.
        self.lines: list[Any] = []
        self.instances: list[Instance] = []
        self.containers: list[Container] = []
        self.longest = 1  # minimum period of them all, in bars
        self._horizon = horizon
        self._feed_lines = {id(line) for _, thing in roots if is_feed(thing) for line in thing.lines.lines}
        for name, thing in roots:
            self._add(thing, -1, name)
        # Breadth first, so the roots get the first numbers. The list grows meanwhile.
        for number, thing in enumerate(self.objects):
            role = role_of(type(thing))
            if role is None:
                self._expand_container(number, thing)
            else:
                self._expand_instance(number, thing, role)
        self._watch()

    def _watch(self) -> None:
        """Sort everything by how it is asked whether it has changed. Now all is as it was built."""
        classes: dict[Any, None] = dict.fromkeys(map(type, self.objects))
        self.reached = reached_from(tuple(cls for cls in classes if not is_backtrader(cls)))
        written = self.reached.written  # attributes that the user's code sets, on whatever object
        self._static: list[Instance] = []
        self._quiet: list[Instance] = []
        self._busy: list[tuple[Instance, bool]] = []
        names = {id(instance.keys): instance.keys for instance in self.instances}
        touched = {number for number, keys in names.items() if not written.isdisjoint(keys)}
        for instance in self.instances:
            if instance.static and id(instance.keys) not in touched:
                self._static.append(instance)
                continue
            instance.watch()
            if instance.is_quiet():
                self._quiet.append(instance)
            else:
                self._busy.append((instance, is_feed(instance.thing)))
        self._static_names = [instance.names for instance in self._static]
        self._static_sizes = list(map(len, self._static_names))
        self._quiet_names = [instance.names for instance in self._quiet]
        self._quiet_sizes = list(map(len, self._quiet_names))
        self._quiet_values = tuple(chain.from_iterable(instance.values for instance in self._quiet))
        # Most containers are empty at the start and when a bar is over. Not the user's: one of
        # those may have to be written always (`Built.set_volatile`), which only asking it says.
        self._empty = [
            container
            for container in self.containers
            if issubclass(container.kind.cls, list | deque | dict)
            and not container.thing
            and not container.users
        ]
        self._empty_things = [container.thing for container in self._empty]
        empty = {id(container) for container in self._empty}
        self._filled = [container for container in self.containers if id(container) not in empty]

    def changed_containers(self) -> list["Container"]:
        """Return the containers whose content is not as it was built, in the order of their numbers."""
        found = [container for container in self._filled if container.changed()]
        if any(self._empty_things):
            found += [container for container in self._empty if container.thing]
        found.sort(key=NUMBER)
        return found

    def changed(self) -> list["Instance"]:
        """Return the objects whose attributes are not as they were built, in the order of their numbers.

        Most never change: one pass over all their values says so.
        """
        found = [instance for instance, feed in self._busy if feed or instance.changed()]
        if list(map(len, self._static_names)) != self._static_sizes:
            found += [instance for instance in self._static if instance.changed()]
        if list(map(len, self._quiet_names)) != self._quiet_sizes or not all(
            map(is_, chain.from_iterable(names.values() for names in self._quiet_names), self._quiet_values)
        ):
            found += [instance for instance in self._quiet if instance.changed()]
        found.sort(key=NUMBER)
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
            if type(owner) in KINDS:
                if any(item is thing for item in (owner.values() if isinstance(owner, dict) else owner)):
                    return True
            elif attributes_of(owner).get(part) is thing:
                return True
        return False

    def _add(self, thing: Any, holder: int, part: str) -> None:
        """Give the next number to something that has none."""
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
        treatment = treatment_of(type(value))
        if treatment == CONTAINER:
            self.holders[len(self.objects)] = [(holder, part)]
            self._add(value, holder, part)
        elif treatment == OBJECT or (treatment == FOREIGN and not strict):
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
        self.containers.append(Container(number, thing, users=strict, always=keeps_count))

    def _pairs(self, number: int, thing: Any, *, strict: bool) -> None:
        for key, value in plain_dict(thing).items(thing):
            if type(key) not in PLAIN:
                self._visit(key, number, "[key]", strict=strict)
            if type(value) not in PLAIN:
                part = f"[{key!r:.40}]" if type(key) in PLAIN else "[...]"
                self._visit(value, number, part, strict=strict)

    def _expand_instance(self, number: int, thing: Any, role: "Role") -> None:
        line, root, users, base = role
        if root and thing._minperiod > self.longest:
            self.longest = thing._minperiod
        if line:
            self.lines.append(thing)
            keep_tail(thing, number, self._horizon, of_feed=id(thing) in self._feed_lines)
        elif root:
            self._expand_structure(number, thing)
        instance = Instance(number, thing)
        self.instances.append(instance)
        if users:
            self._expand_users(number, thing)
        else:
            self._expand_backtraders(number, instance)
        if base is not None:
            self._expand_base(number, thing, base, strict=users)

    def _expand_backtraders(self, number: int, instance: Instance) -> None:
        known, names = self.numbers, instance.names
        parameters = names.get("params")
        if parameters is not None and getattr(parameters, "__dict__", True):  # most have none
            self._visit(parameters, number, "params", strict=False)
        for name in instance.holding:
            value = names[name]
            cls = type(value)
            if cls not in PLAIN and (id(value) not in known or cls in KINDS):
                self._visit(value, number, name, strict=False)

    def _expand_users(self, number: int, thing: Any) -> None:
        mixed = isinstance(thing, FILLED_BY_BACKTRADER)
        known = self.numbers
        for name, value in attributes_of(thing).items():
            if type(value) in PLAIN:
                continue
            own = not (mixed and (name in STRUCTURE or name in RESERVED))
            if own or (name not in STRUCTURE and (id(value) not in known or type(value) in KINDS)):
                self._visit(value, number, name, strict=own)

    def _expand_base(self, number: int, thing: Any, base: Any, *, strict: bool) -> None:
        """Look into an object that is a container as well."""
        if issubclass(base, dict):
            self._pairs(number, thing, strict=strict)
        else:
            for at, value in enumerate(base.__iter__(thing)):  # past a method of the user's
                self._visit(value, number, f"[{at}]", strict=strict)
        self.containers.append(Container(number, thing, users=self.is_users(number)))

    def _expand_structure(self, number: int, thing: Any) -> None:
        """Lines and what calculates below: held in containers that do not change and are not watched."""
        known, attributes = self.numbers, vars(thing)
        lines = attributes["lines"]
        for line, name in zip(lines.lines, aliases_of(type(lines), len(lines.lines)), strict=True):
            if id(line) not in known:
                self._add(line, number, name)
        for at, data in enumerate(attributes.get("datas", ())):
            if id(data) not in known:
                self._add(data, number, f"datas[{at}]")
        for kind in attributes.get("_lineiterators", NONE).values():
            for at, below in enumerate(kind):
                if id(below) not in known:
                    self._add(below, number, f"{type(below).__name__.lower()}[{at}]")

    def is_users(self, number: int) -> bool:
        """Whether an attribute of a class that is not Backtrader's holds this container."""
        holder, part = self.holder[number], self.part[number]
        while holder >= 0:
            thing = self.objects[holder]
            if type(thing) not in KINDS:
                return is_users_class(type(thing)) and not (
                    part in RESERVED or (isinstance(thing, FILLED_BY_BACKTRADER) and part in STRUCTURE)
                )
            holder, part = self.holder[holder], self.part[holder]
        return False


@remembered
def aliases_of(lines: Any, number: int) -> tuple[str, ...]:
    """Return the names of that many lines in their class; extra lines have none."""
    return tuple(lines._getlinealias(at) or f"lines[{at}]" for at in range(number))


@remembered
def treatment_of(cls: type) -> int:
    """Return what the walk does with the instances of a class."""
    if cls in PLAIN:
        return NOTHING
    if cls in KINDS or numeric.is_mutable_class(cls):
        return CONTAINER
    if issubclass(cls, UNCHANGING) or not is_plain_class(cls):
        return NOTHING if issubclass(cls, SIMPLE) else FIXED_KIND
    return FOREIGN if issubclass(cls, NEVER) else OBJECT


def is_feed(thing: Any) -> bool:
    return isinstance(thing, bt.feed.AbstractDataBase)


Role: TypeAlias = tuple[bool, bool, bool, type | None]


@remembered
def role_of(cls: type) -> Role | None:
    """Return whether it is a line, something with lines, the user's; and the container that it is as well.

    None if it is a container and nothing else.
    """
    if treatment_of(cls) == CONTAINER:
        return None
    base = container_base(cls)
    return (
        issubclass(cls, LineBuffer),
        issubclass(cls, bt.LineRoot),
        is_users_class(cls),
        base if base in KINDS else None,
    )
