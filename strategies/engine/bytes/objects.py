"""Objects with attributes, and what is only named: classes, functions, methods, members of enumerations.

Writing and reading stand side by side. An object of the baseline is a number; a new one is its class, by
name, and its attributes. It is made by `object.__new__` and its attributes are set past the class, so a
state runs nobody's `__init__`, `__setattr__` or property; and only classes are found that the engine's
`Names` hold, so it makes nothing that the strategy could not have made.
"""

from collections.abc import Callable
from enum import Enum, Flag
from functools import reduce
from operator import or_
from types import FunctionType, MemberDescriptorType, MethodType
from typing import Any, Final

import backtrader as bt

from strategies.engine.bytes import tags
from strategies.engine.bytes.input import Input, Unknown
from strategies.engine.bytes.kinds import KINDS
from strategies.engine.bytes.output import Output
from strategies.engine.bytes.refusals import NEVER, attributes_of, container_base, is_plain_class, refused
from strategies.engine.bytes.vocabulary import SHAPES, remembered, token_of
from strategies.engine.engine_errors import NotCarriable, StateInvalid

SHAPED_CLASSES: Final = {token_of(cls): (cls, shape) for cls, shape in SHAPES.items()}
ORDERS: Final = (
    bt.order.BuyOrder, bt.order.SellOrder, bt.order.StopBuyOrder, bt.order.StopSellOrder,
    bt.order.StopLimitBuyOrder, bt.order.StopLimitSellOrder,
)  # fmt: skip
VALUES: Final = frozenset({int, float, str, bytes, tuple, frozenset})  # bases whose content never changes
FORBIDDEN: Final = frozenset(
    f"builtins:{name}" for name in
    ("eval", "exec", "compile", "__import__", "open", "input", "breakpoint", "getattr", "setattr", "delattr",
     "globals", "locals", "vars", "print", "__build_class__", "id", "hash", "dir", "help", "exit", "quit")
)  # fmt: skip
BUILTIN_TYPES: Final = {
    cls.__name__: cls for cls in
    (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, object,
     type(None), range)
}  # fmt: skip


def write_instance(w: Output, value: Any) -> None:
    """Write an object of a class of the user's, or one of Backtrader's that has no form of its own."""
    if id(value) in w.numbers:
        w.refer(value)
        return
    cls = type(value)
    token = w.names.token(cls)
    if token is None or not is_plain_class(cls) or issubclass(cls, NEVER):
        raise refused(value)
    base = container_base(cls)
    if base is not None and base in VALUES:
        w.out.append(tags.SUBCLASS)
        w.string(token)
        w.put(base(value) if base is not tuple else tuple.__getitem__(value, slice(None)))
    elif w.refer(value):
        return
    else:
        w.out.append(tags.OBJECT if base is None else tags.SUBCLASS)
        w.string(token)
        if base is not None:
            KINDS[base].write(w, value)
    w.attributes(attributes_of(value))


def read_object(r: Input) -> Any:
    cls = r.cls()
    if not is_plain_class(cls) or container_base(cls) is not None or issubclass(cls, Enum | bt.LineRoot):
        raise StateInvalid(f"{token_of(cls)} is not made from a state")
    found = r.remember(object.__new__(cls))
    set_attributes(found, r.attributes())
    return found


def read_subclass(r: Input) -> Any:
    cls = r.cls()
    base = container_base(cls)
    if base is None or not is_plain_class(cls) or issubclass(cls, Enum):
        raise StateInvalid(f"{token_of(cls)} is no container")
    make: Any = base.__new__
    if base in VALUES:
        content = r.get()
        if type(content) is not base:
            raise StateInvalid("a value of the wrong kind")
        found = make(cls, content)
    else:
        found = r.remember(make(cls))
        KINDS[base].fill(r, found)
    set_attributes(found, r.attributes())
    return found


def set_attributes(value: Any, attributes: dict[str, Any]) -> None:
    """Set attributes past any code of the class."""
    names = getattr(value, "__dict__", None)
    slots = _slots_of(type(value))
    if not slots and type(names) is dict:
        names.update(attributes)
        return
    for name, item in attributes.items():
        if name in slots:
            slots[name].__set__(value, item)
        elif type(names) is dict:
            names[name] = item
        else:
            raise StateInvalid(f"no attribute {name!r}")


@remembered
def _slots_of(cls: type) -> dict[str, MemberDescriptorType]:
    return {
        name: member
        for base in reversed(cls.__mro__)
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType)
    }


def writer_of_shaped(cls: type) -> Callable[[Output, Any], None]:
    """Write Backtrader's small objects whose attributes are always the same: no names."""
    shape, token = SHAPES[cls], token_of(cls)

    def write(w: Output, value: Any) -> None:
        if w.refer(value):
            return
        names = vars(value)
        if tuple(names) == shape:
            w.out.append(tags.SHAPED)
            w.string(token)
            for item in names.values():
                w.put(item)
        else:
            w.out.append(tags.OBJECT)
            w.string(token)
            w.attributes(names)

    return write


def read_shaped(r: Input) -> Any:
    cls, shape = SHAPED_CLASSES[r.name()]
    found = r.remember(object.__new__(cls))
    names = vars(found)
    for name in shape:
        names[name] = r.get()
    return found


def write_order(w: Output, value: Any) -> None:
    if not w.refer(value):
        w.orders.append(value)
        w.out.append(tags.OBJECT)
        w.string(token_of(type(value)))
        w.attributes(vars(value))


def writer_of_parameters(cls: type) -> Callable[[Output, Any], None]:
    """Write the parameters of an order: only those that are not the default."""
    token, defaults = f"{token_of(cls)}.params", dict(cls.params._getpairs())  # type: ignore[attr-defined]

    def write(w: Output, value: Any) -> None:
        if not w.refer(value):
            w.out.append(tags.PARAMS)
            w.string(token)
            names = vars(value)
            w.attributes(
                {key: item for key, item in names.items() if key not in defaults or item is not defaults[key]}
            )

    return write


def read_parameters(r: Input) -> Any:
    cls = r.cls()
    found = r.remember(object.__new__(cls))
    names = vars(found)
    names.update(cls._getpairs())  # type: ignore[attr-defined]
    names.update(r.attributes())
    return found


def write_class(w: Output, cls: type) -> None:
    token = token_of(cls) if cls.__module__ == "builtins" else w.names.token(cls)
    if token is None:
        raise NotCarriable(f"the class {token_of(cls)}", "use a class of the strategy's own module")
    w.out.append(tags.CLASS)
    w.string(token)


def read_class(r: Input) -> type:
    token = r.name()
    home, _, name = token.partition(":")
    if home == "builtins" and name in BUILTIN_TYPES:
        return BUILTIN_TYPES[name]
    return r.class_named(token)


def write_function(w: Output, value: Any) -> None:
    token = token_of(value)
    if w.names.function(token) is not value:
        raise NotCarriable(f"the function {token}", "use a method, or a function at the level of the module")
    w.out.append(tags.FUNCTION)
    w.string(token)


def read_function(r: Input) -> Any:
    token = r.name()
    found = None if token in FORBIDDEN else r.names.function(token)
    if found is None:
        raise StateInvalid(f"the function {token!r} is not one of this strategy")
    return found


def write_method(w: Output, value: MethodType) -> None:
    if _plain_method(value.__self__, value.__name__) is not value.__func__:
        raise NotCarriable(f"the method {value.__qualname__}", "use a method of the class")
    w.out.append(tags.METHOD)
    w.put(value.__self__)
    w.string(value.__name__)


def read_method(r: Input) -> MethodType:
    owner, name = r.get(), r.name()
    found = _plain_method(owner, name)
    if found is None:
        raise StateInvalid(f"no method {name!r}")
    return MethodType(found, owner)


def _plain_method(owner: Any, name: str) -> Any:
    """Return the function of that name in the owner's class, without running its code."""
    for cls in type(owner).__mro__:
        if name in vars(cls):
            found = vars(cls)[name]
            return found if isinstance(found, FunctionType) else None
    return None


def write_enum(w: Output, value: Enum) -> None:
    token = w.names.token(type(value))
    if token is None:
        raise refused(value)
    w.out.append(tags.ENUM)
    w.string(token)
    if isinstance(value.name, str) and type(value).__members__.get(value.name) is value:
        w.string(value.name)
    else:  # several flags at once
        w.put(value.value)


def read_enum(r: Input) -> Any:
    cls, name = r.cls(), r.get()
    if issubclass(cls, Unknown):
        return name
    if not issubclass(cls, Enum):
        raise StateInvalid("an enumeration that is none")
    members = cls.__members__
    if type(name) is str:
        return members[name]
    parts = [member for member in members.values() if issubclass(cls, Flag) and member.value & name]
    combined = reduce(or_, parts) if parts else None
    if combined is None or combined.value != name:
        raise StateInvalid("a combination of flags that there is not")
    return combined
