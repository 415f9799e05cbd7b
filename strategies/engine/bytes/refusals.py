"""What cannot be carried, why, and what to do instead; and how to look at an object without running it."""

import io
import socket
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    GeneratorType,
    MemberDescriptorType,
    ModuleType,
    TracebackType,
)
from typing import Any, Final
from weakref import ReferenceType

import backtrader as bt

from strategies.engine.bytes.vocabulary import is_heap, remembered
from strategies.engine.engine_errors import NotCarriable

POINTER: Final = 8
NEVER: Final = (threading.Thread, socket.socket, io.IOBase)
PLAIN_CONTAINERS: Final = (
    OrderedDict, defaultdict, list, dict, set, frozenset, deque, tuple, int, float, str, bytes
)  # fmt: skip
REMEDIES: Final[tuple[tuple[Any, str, str], ...]] = (
    (io.IOBase, "an open file", "open it where it is used, or send an alert; a bot is restored elsewhere"),
    (socket.socket, "a socket", "a strategy decides on bars only; connections belong to the service"),
    (threading.Thread, "a thread", "compute in next(); between two bars the bot does not run"),
    (
        (type(threading.Lock()), type(threading.RLock())),
        "a lock",
        "leave it out; a bot is stepped by one thread",
    ),
    (
        (GeneratorType, CoroutineType, AsyncGeneratorType),
        "a generator",
        "keep the position as a number or a list",
    ),
    (Iterator, "an iterator", "keep a list and the position in it"),
    (ReferenceType, "a weak reference", "keep the object itself"),
    ((FrameType, TracebackType), "a stack frame", "keep the text of the error"),
    (ModuleType, "a module", "import it at the top of the file"),
    (memoryview, "a memoryview", "keep bytes"),
)
NOTHING: Final[dict[str, Any]] = {}
OTHERWISE: Final = "keep plain values, containers, dataclasses or objects of your own module in attributes"


def refused(value: Any) -> NotCarriable:
    """Say what it is and what to do instead."""
    cls = type(value)
    name = f"{cls.__module__}.{cls.__qualname__}"
    for kinds, what, remedy in REMEDIES:
        if isinstance(value, kinds):
            return NotCarriable(f"{what} ({name})", remedy)
    if isinstance(value, bt.linebuffer.LineBuffer | bt.lineseries.LineSeries | bt.lineseries.Lines):
        return NotCarriable(f"an indicator or a line made after the start ({name})", "make it in __init__")
    if cls.__module__.partition(".")[0] == "pandas":
        return NotCarriable(f"a pandas object ({name})", "keep a list or a numpy array of the values")
    if is_plain_class(cls):
        return NotCarriable(
            f"an object of a class that was not known at the start ({name})",
            "define the class at the level of the strategy's module",
        )
    return NotCarriable(f"an object of {name}", OTHERWISE)


@remembered
def is_plain_class(cls: type) -> bool:
    """Whether instances consist of attributes and at most a known container, nothing hidden in C."""
    if not all(base in PLAIN_CONTAINERS or base is object or is_heap(base) for base in cls.__mro__):
        return False
    # The same comparison that object.__reduce_ex__ makes before it believes that it sees everything.
    visible = (container_base(cls) or object).__basicsize__ + POINTER * (
        (cls.__dictoffset__ != 0) + (cls.__weakrefoffset__ != 0) + sum(map(_slots, cls.__mro__))
    )
    return cls.__basicsize__ <= visible


def _slots(cls: type) -> int:
    return (
        sum(type(member) is MemberDescriptorType for member in vars(cls).values())
        if cls not in PLAIN_CONTAINERS
        else 0
    )


@remembered
def container_base(cls: type) -> type | None:
    return next((base for base in cls.__mro__ if base in PLAIN_CONTAINERS), None)


def plain_dict(value: dict[Any, Any]) -> type[dict[Any, Any]]:
    """Return the plain type whose methods see what a dict holds, whatever its own class makes of them.

    An OrderedDict keeps an order of its own, which the methods of `dict` do not know.
    """
    return OrderedDict if isinstance(value, OrderedDict) else dict


@remembered
def has_slots(cls: type) -> bool:
    """Whether attributes are not all in a `__dict__`."""
    return cls.__dictoffset__ == 0 or any(vars(base).get("__slots__") for base in cls.__mro__)


def attributes_of(value: Any) -> dict[str, Any]:
    """Instance attributes, slots included, without running code of the class. Not to be changed."""
    if not has_slots(type(value)):
        names: dict[str, Any] = getattr(value, "__dict__", NOTHING)
        return names
    found: dict[str, Any] = {}
    for cls in type(value).__mro__:
        if "__slots__" in vars(cls):
            for name, member in vars(cls).items():
                if isinstance(member, MemberDescriptorType):
                    try:
                        found.setdefault(name, member.__get__(value))
                    except AttributeError:  # a slot that was never set
                        continue
    found.update(getattr(value, "__dict__", NOTHING))
    return found
