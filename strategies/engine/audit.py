"""State that lives outside of the objects of a strategy: in its module, in its class, in a closure.

A bot's objects are made anew wherever it is stepped next; what its code keeps elsewhere would be lost
there and shared with other bots here. What the code shows is refused before the first bar, what only
shows at run time (a list in the class that was appended to) when it happens.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dis import Instruction, get_instructions
from operator import is_
from types import CodeType, FunctionType
from typing import Any, Final

from strategies.engine.errors import NotCarriable
from strategies.engine.vocabulary import is_backtrader, remembered

CONTAINERS: Final = (list, dict, set, deque, bytearray)
CHANGING: Final = frozenset(
    {"append", "appendleft", "add", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem",
     "popleft", "remove", "reverse", "setdefault", "sort", "update"}
)  # fmt: skip
SUBSCRIPT_WITHIN: Final = 4  # instructions from a name to the assignment of one of its items
REMEDY: Final = "keep it in an attribute, set in __init__"


@remembered
def functions_of(cls: type) -> tuple[FunctionType, ...]:
    """Return the functions that the user's part of a class is made of."""
    return tuple(
        function
        for base in cls.__mro__
        if not is_backtrader(base) and base.__flags__ & 1 << 9
        for value in vars(base).values()
        for function in _plain(value)
    )


def _plain(value: Any) -> Iterator[FunctionType]:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        yield from (part for part in (value.fget, value.fset, value.fdel) if isinstance(part, FunctionType))
    elif isinstance(value, FunctionType):
        yield value


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """Return a code object and those nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


@remembered
def written_names(cls: type) -> frozenset[str]:
    """Attributes that the user's code of a class sets, on anything."""
    return frozenset(
        operation.argval
        for function in functions_of(cls)
        for code in codes_of(function.__code__)
        for operation in get_instructions(code)
        if operation.opname == "STORE_ATTR"
    )


@remembered
def uses_sets(cls: type) -> bool:
    """Whether the user's code of a class can make a set that changes."""
    return any(
        operation.opname in {"BUILD_SET", "SET_ADD", "SET_UPDATE"} or operation.argval == "set"
        for function in functions_of(cls)
        for code in codes_of(function.__code__)
        for operation in get_instructions(code)
    )


@remembered
def global_written(cls: type) -> tuple[str, str] | None:
    """Return the method and the name of a global of its module that a class changes, if it does."""
    for function in functions_of(cls):
        for code in codes_of(function.__code__):
            name = _global_written(list(get_instructions(code)), function.__globals__)
            if name is not None:
                return function.__name__, name
    return None


def _global_written(operations: list[Instruction], names: dict[str, Any]) -> str | None:
    for at, operation in enumerate(operations):
        if operation.opname in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
            return str(operation.argval)
        if operation.opname == "LOAD_GLOBAL" and isinstance(names.get(operation.argval), CONTAINERS):
            following = [each for each in operations[at + 1 : at + 8] if each.opname not in {"CACHE", "NOP"}]
            if (
                following
                and following[0].opname in {"LOAD_ATTR", "LOAD_METHOD"}
                and following[0].argval in CHANGING
            ):
                return str(operation.argval)
            if any(each.opname in {"STORE_SUBSCR", "DELETE_SUBSCR"} for each in following[:SUBSCRIPT_WITHIN]):
                return str(operation.argval)
    return None


def refuse_globals(classes: Iterable[type]) -> None:
    """Raise NotCarriable if the code of one of the classes changes a global of its module."""
    for cls in classes:
        if not is_backtrader(cls):
            found = global_written(cls)
            if found is not None:
                method, name = found
                raise NotCarriable(
                    f"the global {name!r} of the module, which {method}() changes,", REMEDY, (cls.__name__,)
                )


class ClassAttributes:
    """What the user's classes hold themselves, which bots in one process share."""

    __slots__ = ("_containers", "_values")

    def __init__(self, classes: Iterable[type]) -> None:
        mine = {
            base
            for cls in classes
            for base in cls.__mro__
            if not is_backtrader(base) and base.__flags__ & 1 << 9
        }
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
