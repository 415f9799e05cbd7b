"""A hash of everything that a state relies on: formats, feeds, code and parameters.

Two engines of one fingerprint must build the same objects under the same numbers, and step them alike;
otherwise a state would be loaded into something that it does not fit, without a word. A fingerprint that
differs needlessly costs one rebuild. So in doubt something counts, and what does not count needs a reason:

    counts                                        | does not count, because
    format, version of Backtrader, feeds in order | Backtrader's code: it follows from its version
    the classes of all anchors in their order     | file names, lines, docstrings: they change nothing
    bytecode of the user's classes and bases      | classes that Backtrader numbers as it makes them
    functions and constants that it names         | what is deeper than a few steps, or in other modules
    all parameters, by name and value             | attributes: they follow, or are in the state

The last line but one is a limit and not a proof: a function of another module may change unseen.

Code is hashed as it runs, by its bytecode: a source file that was edited under a running process would lie.
Line numbers, file names and docstrings do not count, so comments and moving a class do not matter. Bytecode
differs between minor versions of Python: after such an upgrade bots are rebuilt (`Engine.rebuild`).

Fingerprints are stored with every state. A change of what this module returns is a rebuild of all bots.
"""

import sys
from collections.abc import Iterator, Sequence
from dis import get_instructions
from hashlib import blake2b
from itertools import pairwise
from types import CodeType, FunctionType
from typing import Any, Final

import backtrader as bt

from strategies.engine.bytes.state import VERSION
from strategies.engine.bytes.vocabulary import content_of, is_backtrader, is_heap, remembered
from strategies.values import Feed

SIZE: Final = 12
NOT_CODE: Final = frozenset(
    {"__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__", "__annotations__",
     "__annotate__", "__annotate_func__", "__annotations_cache__", "__conditional_annotations__",
     "_abc_impl", "plotinfo", "plotlines", "__module__", "__qualname__", "__slotnames__"}
)  # fmt: skip
LINE: Final = "__firstlineno__"
PLAIN: Final = (type(None), bool, int, float, complex, str, bytes)
DEEPEST: Final = 6


def fingerprint_of(feeds: tuple[Feed, ...], objects: Sequence[Any]) -> bytes:
    """Twelve bytes; equal in every process of the same minor version of Python."""
    code, parameters = _of_classes(tuple(map(type, objects)))
    parts = [f"{VERSION} {bt.__version__} {feeds!r}", code]
    parts += [_parameters(objects[at]) for at in parameters]
    return blake2b("\n".join(parts).encode("utf-8", "surrogatepass"), digest_size=SIZE).digest()


@remembered
def _of_classes(classes: tuple[type, ...]) -> tuple[str, tuple[int, ...]]:
    """Return their names with the code of the user's among them, and which are sets of parameters.

    Sets of parameters have no name here: Backtrader numbers their classes as the process makes them.
    """
    parameters = tuple(at for at, cls in enumerate(classes) if issubclass(cls, bt.metabase.AutoInfoClass))
    named = [cls for cls in classes if not issubclass(cls, bt.metabase.AutoInfoClass)]
    code = (code_of(cls) for cls in dict.fromkeys(named) if not is_backtrader(cls))
    return "\n".join((f"{parameters}", *map(_known_name, named), *code)), parameters


@remembered
def _known_name(cls: type) -> str:
    """Return the name of the nearest class that a module knows.

    Couplers and some observers are of classes made for them, with a number or an UUID in the name.
    """
    for base in cls.__mro__:
        if not is_backtrader(base) or vars(sys.modules[base.__module__]).get(base.__name__) is base:
            return base.__qualname__
    return ""


def _parameters(thing: Any) -> str:
    return " ".join(
        [
            f"{name}={value!r}" if type(value) in PLAIN else f"{name}={_value(value, 0)}"
            for name, value in vars(thing).items()
        ]
    )


def _value(value: Any, depth: int) -> str:  # noqa: PLR0911 -- one kind of value a line
    """Return a text that is the same in every process: no addresses, no order of hashes."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, CodeType):
        return _code(value, None)
    if isinstance(value, FunctionType):
        return function_text(value, depth)
    if isinstance(value, type):
        return value.__qualname__
    if depth < DEEPEST and isinstance(value, tuple | list):
        return f"{type(value).__name__}({','.join(_value(item, depth + 1) for item in value)})"
    if depth < DEEPEST and isinstance(value, set | frozenset):
        return f"set({','.join(sorted(_value(item, depth + 1) for item in value))})"
    if depth < DEEPEST and isinstance(value, dict):
        return f"dict({','.join(f'{_value(k, depth + 1)}:{_value(v, depth + 1)}' for k, v in value.items())})"
    text = repr(value) if type(value).__module__ in {"datetime", "decimal", "fractions"} else ""
    return f"<{type(value).__qualname__}{text}>"


@remembered
def code_of(cls: type) -> str:
    """Return the code of a class and of those it inherits from, up to Backtrader's and the library's."""
    return " ".join(_class(base) for base in cls.__mro__ if not is_backtrader(base) and is_heap(base))


def _class(cls: type) -> str:
    found = [
        f"{name}={_attribute(value)}"
        for name, value in sorted(vars(cls).items())
        if name not in NOT_CODE and not _is_made(name, value)
    ]
    return f"class {cls.__qualname__}({','.join(base.__qualname__ for base in cls.__bases__)}){found}"


def _is_made(name: str, value: Any) -> bool:
    """Classes that Backtrader's metaclasses put there; the parameters are hashed with their values."""
    return name in {"params", "lines", "linealias", "packages", "frompackages"} or (
        isinstance(value, type) and issubclass(value, bt.metabase.AutoInfoClass | bt.lineseries.Lines)
    )


def _attribute(value: Any) -> str:
    if isinstance(value, staticmethod | classmethod):
        return _attribute(value.__func__)
    if isinstance(value, property):
        return " ".join(_attribute(part) for part in (value.fget, value.fset, value.fdel) if part is not None)
    return _value(value, 0)


def function_text(function: FunctionType, depth: int = 0) -> str:
    """Code, defaults, and what the code names in its module, followed a few steps."""
    parts = [_code(function.__code__, function.__doc__), _value(function.__defaults__, depth + 1)]
    parts.append(_value(function.__kwdefaults__, depth + 1))
    if depth < DEEPEST:
        parts.extend(_named(function, depth))
        for cell in function.__closure__ or ():
            content = content_of(cell)
            if isinstance(content, (*PLAIN, FunctionType)):
                parts.append(_value(content, depth + 1))
    return f"def({' '.join(parts)})"


def _named(function: FunctionType, depth: int) -> Iterator[str]:
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType):
            if value.__module__ == function.__module__ and value is not function:
                yield f"{name}={function_text(value, depth + 2)}"
        elif isinstance(value, PLAIN) and value is not None:
            yield f"{name}={value!r}"


def _code(code: CodeType, doc: str | None) -> str:
    if LINE in code.co_names:
        return f"{code.co_name}:{_class_body(code)}"
    constants = [
        _value(constant, 1)
        for at, constant in enumerate(code.co_consts)
        if not (at == 0 and doc is not None and constant == doc)
    ]
    digest = blake2b(code.co_code, digest_size=SIZE).hexdigest()
    return f"{code.co_name}:{digest}:{code.co_names}:{code.co_varnames}:{code.co_freevars}:{constants}"


def _class_body(code: CodeType) -> list[str]:
    """Return what the body of a class in a function does, as text.

    Since Python 3.13 its first line and its methods' attributes are constants in it. Constants that
    are equal share a place, so the bytes of the code can differ by the line as well.
    """
    operations = [operation for operation in get_instructions(code) if operation.opname != "EXTENDED_ARG"]
    return [
        f"{operation.opname} {_value(operation.argval, 1)}"
        for operation, following in pairwise([*operations, operations[-1]])
        if following.opname != "STORE_NAME" or following.argval not in NOT_CODE
    ]
