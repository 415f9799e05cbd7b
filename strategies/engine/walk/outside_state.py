"""State that lives outside of the objects of a strategy: in its module, in its class, in a closure.

A bot's objects are made anew wherever it is stepped next; what its code keeps elsewhere would be lost
there and shared with other bots here. What the code shows is refused before the first bar, what only
shows at run time (a list in the class that was appended to) when it happens.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dis import Instruction
from enum import Enum
from io import IOBase
from operator import is_
from random import Random, SystemRandom
from typing import Any, Final

from strategies.engine.bytes.kinds import KINDS
from strategies.engine.bytes.numeric import is_mutable_class
from strategies.engine.bytes.refusals import attributes_of, container_base, is_plain_class, refused
from strategies.engine.bytes.vocabulary import is_backtrader, is_heap, remembered
from strategies.engine.engine_errors import NotCarriable
from strategies.engine.walk.baseline import PLAIN, Container, Instance, is_users_class
from strategies.engine.walk.reach import ATTRIBUTE, MISSING, Reached, is_library, owner_of, split

CONTAINERS: Final = (list, dict, set, deque, bytearray)
CHANGING: Final = frozenset(
    {"append", "appendleft", "add", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem",
     "popleft", "remove", "reverse", "setdefault", "sort", "update"}
)  # fmt: skip
STORES_ITEM: Final = frozenset({"STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"})  # the last since Python 3.12
SUBSCRIPT_WITHIN: Final = 4  # instructions from a name to the assignment of one of its items
REMEDY: Final = "keep it in an attribute, set in __init__"
OWN_GENERATOR: Final = "keep a random.Random of its own, with a seed, in an attribute"
LARGEST: Final = 10_000  # items of a global that are compared after every bar


def refuse_globals(reached: Reached) -> None:
    """Raise NotCarriable if the code changes a global of a module, or uses one that changes in use."""
    refusal = _refusal(reached)
    if refusal is not None:
        raise NotCarriable(refusal.what, refusal.remedy, refusal.parts)


@remembered
def _refusal(reached: Reached) -> NotCarriable | None:
    for function in reached.functions:
        for operations in split(function):
            name = _written(operations, function.__globals__)
            if name is not None:
                what = f"the global {name!r} of the module, which {function.__name__}() changes,"
                return NotCarriable(what, REMEDY, (owner_of(function),))
    for used in reached.globals:
        for value in (used.value, getattr(used.value, "__self__", None)):
            found = _changes_in_use(value)
            if found is not None:
                what = f"{used.text} in {used.user}(), {found.what},"
                return NotCarriable(what, found.remedy, (used.owner,))
    return None


def _changes_in_use(value: Any) -> NotCarriable | None:
    """Say why something cannot be used without being changed, if so."""
    generators: tuple[type, ...] = (Random,)
    np = sys.modules.get("numpy")
    if np is not None:
        generators += (np.random.Generator, np.random.RandomState)
    if isinstance(value, generators) and not isinstance(value, SystemRandom):
        return NotCarriable("a random generator that is not the strategy's own", OWN_GENERATOR)
    if isinstance(value, Iterator) and not isinstance(value, IOBase):  # sys.stderr is one
        return refused(value)
    return None


def _written(operations: list[Instruction], names: dict[str, Any]) -> str | None:
    """Return the first global that a function binds anew or, by the look of it, changes the content of."""
    for at, operation in enumerate(operations):
        if operation.opname in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
            return str(operation.argval)
        value = names.get(operation.argval) if operation.opname == "LOAD_GLOBAL" else None
        if isinstance(value, CONTAINERS) or is_mutable_class(type(value)):
            following = operations[at + 1 : at + 1 + SUBSCRIPT_WITHIN]
            if following and following[0].opname in ATTRIBUTE and following[0].argval in CHANGING:
                return str(operation.argval)
            if any(operation.opname in STORES_ITEM for operation in following):
                return str(operation.argval)
    return None


class Globals:
    """What the code loads from modules, with everything in it that could change.

    Whatever the code does to it, it would be lost in the process that steps the bot next. Containers
    of more than `LARGEST` items are looked at by their length only: to compare tables costs time.
    """

    __slots__ = ("_bound", "_things")

    def __init__(self, reached: Reached) -> None:
        self._bound = [(used, used.home.get(used.name, MISSING)) for used in reached.globals if used.own]
        self._things: list[tuple[str, Container | Instance]] = []
        seen: set[int] = set()
        for used, value in self._bound:
            self._watch(used.text, value, seen)

    def _watch(self, text: str, value: Any, seen: set[int]) -> None:
        cls = type(value)
        if cls in PLAIN or id(value) in seen or len(seen) > LARGEST:
            return
        seen.add(id(value))
        base = container_base(cls) or cls
        if base in KINDS or is_mutable_class(cls):
            self._watch_container(text, value, seen)
        elif base is tuple:
            for at, item in enumerate(value):
                self._watch(f"{text}[{at}]", item, seen)
        if is_users_class(cls) and is_plain_class(cls) and not _is_fixed(cls):
            self._things.append((text, Instance(0, value)))
            for name, item in attributes_of(value).items():
                self._watch(f"{text}.{name}", item, seen)

    def _watch_container(self, text: str, value: Any, seen: set[int]) -> None:
        if _size_of(value) > LARGEST:
            return
        self._things.append((text, Container(0, value, users=True)))
        items = (
            value.values() if isinstance(value, dict) else value if isinstance(value, list | deque) else ()
        )
        for item in items:
            self._watch(f"{text}[...]", item, seen)

    def refuse_changes(self) -> None:
        """Raise NotCarriable if something is not what it was when the engine was built."""
        for used, value in self._bound:
            if used.home.get(used.name, MISSING) is not value:
                raise NotCarriable(f"the global {used.text!r} of a module, which changes,", REMEDY)
        for text, thing in self._things:
            if thing.changed():
                raise NotCarriable(f"the global {text!r} of a module, whose content changes,", REMEDY)


def _is_fixed(cls: type) -> bool:
    home = sys.modules.get(cls.__module__)
    return issubclass(cls, Enum) or is_library(cls.__module__, getattr(home, "__file__", None))


def _size_of(value: Any) -> int:
    return int(getattr(value, "nbytes", None) or len(value) if hasattr(value, "__len__") else 0)


class ClassAttributes:
    """What the user's classes hold themselves, which bots in one process share."""

    __slots__ = ("_containers", "_values")

    def __init__(self, classes: Iterable[type]) -> None:
        mine = {base for cls in classes for base in cls.__mro__ if not is_backtrader(base) and is_heap(base)}
        ordered = sorted(mine, key=lambda cls: (cls.__module__, cls.__qualname__))
        self._values = [
            (cls, vars(cls), tuple(vars(cls).values())) for cls in ordered if not _is_library(cls)
        ]
        self._containers = [
            (cls, name, value, _copy(value))
            for cls, names, _ in self._values
            for name, value in list(names.items())
            if isinstance(value, CONTAINERS) and not name.startswith("__")
        ]

    def refuse_changes(self) -> None:
        """Raise NotCarriable if something was put into a class since the start."""
        for cls, names, values in self._values:
            if len(names) != len(values) or not all(map(is_, names.values(), values)):
                changed = [name for name, old in zip(names, values, strict=False) if names[name] is not old]
                name = changed[0] if changed else list(names)[-1]
                raise NotCarriable("an attribute of the class that changes", REMEDY, (cls.__name__, name))
        for cls, name, value, content in self._containers:
            if len(value) != len(content) or not all(map(is_, _copy(value), content)):
                raise NotCarriable("a container in the class that changes", REMEDY, (cls.__name__, name))


def _copy(value: Any) -> tuple[Any, ...]:
    return (*value, *value.values()) if isinstance(value, dict) else tuple(value)


def _is_library(cls: type) -> bool:
    """Classes of the standard library keep caches of their own (abc, enum, dataclasses)."""
    return cls.__module__.partition(".")[0] in {
        "abc",
        "enum",
        "dataclasses",
        "typing",
        "collections",
        "numpy",
    }
