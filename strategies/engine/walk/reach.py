"""What the code of a strategy can reach by name: functions, classes and globals that are its author's.

Followed are the globals that a function loads, also through modules (`helpers.bump`), its closures, and
the methods of the classes among them. Libraries are not looked into: Python's own, and what is installed
beside it, unless the strategy is installed there itself.
"""

import sys
import sysconfig
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from dis import Instruction, get_instructions
from enum import Enum
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from strategies.engine.bytes.vocabulary import FRAMEWORK, content_of, is_backtrader, is_heap, remembered

FOLDERS: Final = ("stdlib", "platstdlib", "purelib", "platlib")
LIBRARIES: Final = (*(sysconfig.get_path(name) for name in FOLDERS), "<frozen")
ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
SKIPPED: Final = frozenset({"CACHE", "NOP", "PUSH_NULL", "PRECALL", "EXTENDED_ARG"})
MISSING: Final = object()


@dataclass(frozen=True, eq=False)
class Global:
    """A name in a module that some function loads."""

    home: dict[str, Any]
    name: str
    text: str  # as the code has it, `helpers.COUNT`
    value: Any
    own: bool  # the module is the author's, not a library, which may hold what it pleases
    user: str  # the function's name
    owner: str  # and where it stands


@dataclass(frozen=True, eq=False)
class Reached:
    """Everything found, without repetition, in the order in which it was."""

    functions: tuple[FunctionType, ...]  # without those of libraries' classes, such as Random
    classes: tuple[type, ...]
    globals: tuple[Global, ...]
    written: frozenset[str]  # attributes that the functions set, on anything, libraries' included
    uses_sets: bool  # some function can make a set that changes


@remembered
def reached_from(classes: tuple[type, ...]) -> Reached:
    """Return what the users' code of these classes reaches, themselves included."""
    authors = [cls for cls in classes if any(map(is_backtrader, cls.__mro__)) and not is_backtrader(cls)]
    search = _Search({cls.__module__.partition(".")[0] for cls in authors})
    for cls in classes:
        search.follow_class(cls)
    while search.waiting:
        search.follow(search.waiting.popleft())
    operations = [operation for function in search.functions for operation in operations_of(function)]
    return Reached(
        tuple(function for function in search.functions if not search.is_foreign(function)),
        tuple(search.classes),
        tuple(search.globals.values()),
        frozenset(operation.argval for operation in operations if operation.opname == "STORE_ATTR"),
        any(
            operation.opname in {"BUILD_SET", "SET_ADD", "SET_UPDATE"} or operation.argval == "set"
            for operation in operations
        ),
    )


@dataclass
class _Search:
    packages: set[str]
    functions: dict[FunctionType, None] = field(default_factory=dict)
    waiting: deque[FunctionType] = field(default_factory=deque)
    classes: dict[type, None] = field(default_factory=dict)
    globals: dict[tuple[int, str], Global] = field(default_factory=dict)

    def follow_class(self, cls: type) -> None:
        if cls in self.classes or is_backtrader(cls):
            return
        self.classes[cls] = None
        for function in functions_of(cls):
            self._add(function)

    def _add(self, function: FunctionType) -> None:
        if function not in self.functions:
            self.functions[function] = None
            self.waiting.append(function)

    def follow(self, function: FunctionType) -> None:
        if self.is_foreign(function):
            return
        for operations in split(function):
            for at, operation in enumerate(operations):
                if operation.opname == "LOAD_GLOBAL":
                    self._load(function, operations[at:])
        for cell in function.__closure__ or ():
            self._meet(content_of(cell))

    def _load(self, function: FunctionType, operations: list[Instruction]) -> None:
        """Follow `a`, or `a.b.c` as far as `a` and `b` are modules."""
        home, path = function.__globals__, [str(operations[0].argval)]
        value = home.get(path[-1], MISSING)
        for operation in operations[1:]:
            if not isinstance(value, ModuleType) or operation.opname not in ATTRIBUTE:
                break
            home = vars(value)
            path.append(str(operation.argval))
            value = home.get(path[-1], MISSING)
        if value is not MISSING:
            own = not is_library(home.get("__name__"), home.get("__file__"), self.packages)
            found = Global(home, path[-1], ".".join(path), value, own, function.__name__, owner_of(function))
            self.globals.setdefault((id(home), path[-1]), found)
            self._meet(value)

    def is_foreign(self, function: FunctionType) -> bool:
        """Whether a library wrote it: `Random.seed` keeps a hash in a global that it imports when asked."""
        return is_library(function.__module__, function.__code__.co_filename, self.packages)

    def _meet(self, value: Any) -> None:
        if isinstance(value, FunctionType):
            if not self.is_foreign(value):
                self._add(value)
        elif isinstance(value, type) and not issubclass(value, Enum):
            home = sys.modules.get(value.__module__)
            if not is_library(value.__module__, getattr(home, "__file__", None), self.packages):
                self.follow_class(value)


def is_library(module: str | None, file: str | None, packages: Collection[str] = ()) -> bool:
    """Whether a module is Python's, Backtrader's, or installed and in none of the packages of a strategy."""
    if file is None or module is None or module.startswith(FRAMEWORK):
        return True
    return file.startswith(LIBRARIES) and module.partition(".")[0] not in packages


@remembered
def functions_of(cls: type) -> tuple[FunctionType, ...]:
    """Return the functions that the user's part of a class is made of."""
    return tuple(
        function
        for base in cls.__mro__
        if not is_backtrader(base) and is_heap(base)
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


def owner_of(function: FunctionType) -> str:
    """Return the class of a method, the module of another function."""
    return function.__qualname__.rpartition(".")[0].removesuffix(".<locals>") or function.__module__


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """Return a code object and those nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


def split(function: FunctionType) -> Iterator[list[Instruction]]:
    """Return the operations of a function and of those nested in it, one function at a time."""
    for code in codes_of(function.__code__):
        yield [operation for operation in get_instructions(code) if operation.opname not in SKIPPED]


def operations_of(function: FunctionType) -> Iterator[Instruction]:
    for operations in split(function):
        yield from operations
