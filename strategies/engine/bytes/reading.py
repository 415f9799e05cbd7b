"""Bytes to values: the inverse of `writing`, for bytes that nobody vouches for.

Every length is compared with what is left before anything is made of it, nesting has a limit, classes
and functions come from the engine's own names, objects are made without calling their code, and
whatever is wrong ends as StateInvalid.
"""

import re
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from functools import reduce
from io import BytesIO, StringIO
from itertools import count
from operator import or_
from random import Random
from types import MemberDescriptorType, MethodType, NoneType
from typing import Any, Final

import backtrader as bt

from strategies.engine.bytes import numeric
from strategies.engine.bytes import writing as tags
from strategies.engine.bytes.refusals import container_base, is_plain_class
from strategies.engine.bytes.vocabulary import SHAPES, STRINGS, Names, remembered, token_of
from strategies.engine.bytes.writing import DOUBLE, plain_method
from strategies.engine.bytes.zones import zone_named
from strategies.engine.engine_errors import StateInvalid

SEVEN_BITS: Final = 0x7F
LONGEST_COUNTER: Final = 400
COUNTER: Final = re.compile(
    r"(-?\d{1,300}|-?\d+\.\d+(?:e[+-]?\d+)?)(?:, (-?\d{1,300}|-?\d+\.\d+(?:e[+-]?\d+)?))?"
)
SHAPED_CLASSES: Final = {token_of(cls): (cls, shape) for cls, shape in SHAPES.items()}
WRONG: Final = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError,
    ArithmeticError,
    AssertionError, MemoryError, LookupError, NotImplementedError,
)  # fmt: skip
OF_RANDOM: Final = ((int, tuple, NoneType), (int, tuple, float))  # version, words, a second gauss or none


class Unknown:
    """Stands for an object of a class that the present code does not have."""


class Reader:
    """Reads the bytes of one state. `anchor` finds the object of a number or raises StateInvalid."""

    def __init__(self, raw: bytes, anchor: Callable[[int], Any], names: Names) -> None:
        self.raw = raw
        self.at = 0
        self.anchor = anchor
        self.names = names
        self.memo: list[Any] = []
        self.strings: list[str] = []
        self.depth = 0

    def get(self) -> Any:
        tag = self.raw[self.at]
        self.at += 1
        if tag < tags.FIRST_STRING:
            return tag
        if tag < tags.NONE:
            return STRINGS[tag - tags.FIRST_STRING]
        return READERS[tag](self)

    def size(self) -> int:
        raw, at = self.raw, self.at
        if raw[at] <= SEVEN_BITS:
            self.at = at + 1
            return raw[at]
        shift = number = 0
        while (byte := raw[at]) > SEVEN_BITS:
            number |= (byte & SEVEN_BITS) << shift
            shift += 7
            at += 1
        self.at = at + 1
        return number | byte << shift

    def length(self) -> int:
        """Return a count of things that take a byte each at least."""
        number = self.size()
        if number > len(self.raw) - self.at:
            raise StateInvalid("a length beyond the end")
        return number

    def take(self, number: int) -> bytes:
        at = self.at
        if number > len(self.raw) - at:
            raise StateInvalid("cut short")
        self.at = at + number
        return self.raw[at : self.at]

    def whole(self) -> int:
        number = self.size()
        return -(number >> 1) - 1 if number & 1 else number >> 1

    def text(self) -> str:
        return self.take(self.size()).decode("utf-8", "surrogatepass")

    def name(self) -> str:
        """Return a string that is a name: an attribute, a class, a function."""
        found = self.get()
        if type(found) is not str:
            raise StateInvalid("a name that is no text")
        return found

    def nested(self) -> int:
        self.depth += 1
        if self.depth > 2 * tags.DEEPEST:
            raise StateInvalid("nested too deep")
        return self.length()

    def items(self) -> list[Any]:
        found = []
        for _ in range(self.nested()):
            found.append(self.get())  # noqa: PERF401 -- a comprehension is one more frame a level
        self.depth -= 1
        return found

    def fill(self, container: dict[Any, Any]) -> None:
        put = OrderedDict.__setitem__ if isinstance(container, OrderedDict) else dict.__setitem__
        for _ in range(self.nested()):
            key = self.get()
            put(container, key, self.get())
        self.depth -= 1

    def attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self.nested()):
            name = self.get()
            if type(name) is not str:
                raise StateInvalid("a name that is no text")
            found[name] = self.get()
        self.depth -= 1
        return found

    def remember(self, value: Any) -> Any:
        self.memo.append(value)
        return value

    def cls(self) -> type:
        token = self.name()
        found = self.names.find(token)
        if found is None:
            raise StateInvalid(f"the class {token!r} is not one of this strategy")
        return found


def _string(r: Reader) -> str:
    size = r.size()
    found = r.take(size).decode("utf-8", "surrogatepass")
    if size <= tags.SHORT_STRING:
        r.strings.append(found)
    return found


def _set(r: Reader) -> set[Any]:
    found: set[Any] = r.remember(set())
    for item in r.items():
        found.add(item)
    return found


def _dict(r: Reader) -> dict[Any, Any]:
    found: dict[Any, Any] = r.remember({})
    r.fill(found)
    return found


def _ordered_dict(r: Reader) -> OrderedDict[Any, Any]:
    found: OrderedDict[Any, Any] = r.remember(OrderedDict())
    r.fill(found)
    return found


def _default_dict(r: Reader) -> defaultdict[Any, Any]:
    found: defaultdict[Any, Any] = r.remember(defaultdict())
    found.default_factory = _factory(r.get())
    r.fill(found)
    return found


def _factory(found: Any) -> Any:
    if found is not None and not callable(found):
        raise StateInvalid("a default that cannot be made")
    return found


def _list(r: Reader) -> list[Any]:
    found: list[Any] = r.remember([])
    found.extend(r.items())
    return found


def _deque(r: Reader) -> deque[Any]:
    bound = r.size()
    at = len(r.memo)
    found: deque[Any] = r.remember(deque(maxlen=bound - 1 if bound else None))
    found.extend(r.items())
    r.memo[at] = found
    return found


def _moment(make: Callable[[str], Any]) -> Callable[[Reader], Any]:
    def read(r: Reader) -> Any:
        size = r.size()
        value = make(r.take(size >> 1).decode("ascii"))
        zone = r.get()
        return value.replace(tzinfo=zone, fold=size & 1)

    return read


def _clock(r: Reader) -> datetime:
    size = r.size()
    since = timedelta(seconds=size >> 1, microseconds=r.size() if size & 1 else 0)
    return datetime.min + since  # noqa: DTZ901 -- Backtrader computes with naive UTC


def _zone(r: Reader) -> Any:
    name = r.text()
    if name.startswith("pytz/"):
        import sys

        pytz = sys.modules.get("pytz")
        if pytz is not None and name[5:] in pytz.all_timezones_set:
            return pytz.timezone(name[5:])
        raise StateInvalid("an unknown time zone")
    return zone_named(name)


def _offset(r: Reader) -> timezone:
    offset, name = r.get(), r.get()
    return timezone(offset) if name is None else timezone(offset, name)


def _class(r: Reader) -> type:
    token = r.name()
    home, _, name = token.partition(":")
    if home == "builtins" and name in BUILTIN_TYPES:
        return BUILTIN_TYPES[name]
    found = r.names.find(token)
    if found is None:
        raise StateInvalid(f"the class {token!r} is not one of this strategy")
    return found


def _function(r: Reader) -> Any:
    token = r.name()
    found = None if token in FORBIDDEN else r.names.function(token)
    if found is None:
        raise StateInvalid(f"the function {token!r} is not one of this strategy")
    return found


def _method(r: Reader) -> MethodType:
    owner, name = r.get(), r.name()
    found = plain_method(owner, name)
    if found is None:
        raise StateInvalid(f"no method {name!r}")
    return MethodType(found, owner)


def _enum(r: Reader) -> Any:
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


def _object(r: Reader) -> Any:
    cls = r.cls()
    if not is_plain_class(cls) or container_base(cls) is not None or issubclass(cls, Enum | bt.LineRoot):
        raise StateInvalid(f"{token_of(cls)} is not made from a state")
    found = r.remember(object.__new__(cls))
    set_attributes(found, r.attributes())
    return found


def _shaped(r: Reader) -> Any:
    cls, shape = SHAPED_CLASSES[r.name()]
    found = r.remember(object.__new__(cls))
    names = vars(found)
    for name in shape:
        names[name] = r.get()
    return found


def _parameters(r: Reader) -> Any:
    cls = r.cls()
    found = r.remember(object.__new__(cls))
    names = vars(found)
    names.update(cls._getpairs())  # type: ignore[attr-defined]
    names.update(r.attributes())
    return found


def _subclass(r: Reader) -> Any:
    cls = r.cls()
    base = container_base(cls)
    if base is None or not is_plain_class(cls) or issubclass(cls, Enum):
        raise StateInvalid(f"{token_of(cls)} is no container")
    if base in {int, float, str, bytes, tuple, frozenset}:
        content = r.get()
        if type(content) is not base:
            raise StateInvalid("a value of the wrong kind")
        make: Any = base.__new__
        found = make(cls, content)
    else:
        make = base.__new__
        found = r.remember(make(cls))
        CONTENTS[base](r, found)
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


def _fill_list(r: Reader, value: list[Any]) -> None:
    list.clear(value)
    list.extend(value, r.items())


def _fill_dict(r: Reader, value: dict[Any, Any]) -> None:
    if isinstance(value, OrderedDict):
        OrderedDict.clear(value)
    else:
        dict.clear(value)
    r.fill(value)


def _fill_default_dict(r: Reader, value: defaultdict[Any, Any]) -> None:
    value.default_factory = _factory(r.get())
    _fill_dict(r, value)


def _fill_set(r: Reader, value: set[Any]) -> None:
    set.clear(value)
    for item in r.items():
        set.add(value, item)


def _fill_deque(r: Reader, value: deque[Any]) -> None:
    bound = r.size()
    deque.__init__(value, (), bound - 1 if bound else None)
    deque.extend(value, r.items())


def _fill_array(r: Reader, value: "array[Any]") -> None:
    typecode, raw = r.name(), r.get()
    if typecode != value.typecode or type(raw) is not bytes:
        raise StateInvalid("an array of another type")
    del value[:]
    value.frombytes(raw)


def _fill_random(r: Reader, value: Random) -> None:
    state = r.get()
    # Anything else setstate would index, compare and calculate with: code of whatever the state put there.
    if type(state) is not tuple or tuple(map(type, state)) not in OF_RANDOM or state[0] != Random.VERSION:
        raise StateInvalid("no state of a random generator")
    Random.setstate(value, state)


def _fill_text(r: Reader, value: Any) -> None:
    content, position = r.get(), r.size()
    value.seek(0)
    value.truncate()
    value.write(content)
    value.seek(position)


def _fill_bytearray(r: Reader, value: bytearray) -> None:
    raw = r.get()
    if type(raw) is not bytes:
        raise StateInvalid("no bytes")
    value[:] = raw


def _array(r: Reader) -> "array[Any]":
    at = len(r.memo)
    r.memo.append(None)
    typecode, raw = r.name(), r.get()
    if len(typecode) != 1 or typecode not in "bBuhHiIlLqQfd" or type(raw) is not bytes:
        raise StateInvalid("an array of an unknown type")
    found: array[Any] = array(typecode)
    found.frombytes(raw)
    r.memo[at] = found
    return found


def _made(make: Callable[[], Any], fill: Callable[[Reader, Any], None]) -> Callable[[Reader], Any]:
    def read(r: Reader) -> Any:
        found = r.remember(make())
        fill(r, found)
        return found

    return read


def _ndarray(r: Reader) -> Any:
    at = len(r.memo)
    r.memo.append(None)
    dtype, shape, by_column, writeable, raw = r.get(), r.get(), r.get(), r.get(), r.get()
    r.memo[at] = numeric.read_array(dtype, shape, by_column=by_column, writeable=writeable, raw=raw)
    return r.memo[at]


def _generator(r: Reader) -> Any:
    at = len(r.memo)
    r.memo.append(None)
    r.memo[at] = numeric.read_generator(r.get(), r.get())
    return r.memo[at]


def _count(r: Reader) -> Any:
    text = r.text()
    parts = COUNTER.fullmatch(text) if len(text) <= LONGEST_COUNTER else None
    if parts is None:
        raise StateInvalid("a counter that counts nothing")
    start, step = (float(part) if "." in part else int(part) for part in (parts[1], parts[2] or "1"))
    return count(start, step)


def _memo(r: Reader) -> Any:
    found = r.memo[r.size()]
    if found is None:
        raise StateInvalid("a reference into something unfinished")
    return found


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
CONTENTS: Final[dict[type, Callable[[Reader, Any], None]]] = {
    list: _fill_list, dict: _fill_dict, set: _fill_set, deque: _fill_deque, OrderedDict: _fill_dict,
    defaultdict: _fill_default_dict, array: _fill_array, Random: _fill_random, StringIO: _fill_text,
    BytesIO: _fill_text, bytearray: _fill_bytearray,
}  # fmt: skip
READERS: Final[dict[int, Callable[[Reader], Any]]] = {
    tags.NONE: lambda _: None,
    tags.TRUE: lambda _: True,
    tags.FALSE: lambda _: False,
    tags.FLOAT: lambda r: DOUBLE.unpack(r.take(8))[0],
    tags.ZERO: lambda _: 0.0,
    tags.WHOLE: lambda r: float(r.whole()),
    tags.INT: Reader.whole,
    tags.STR: _string,
    tags.BYTES: lambda r: r.take(r.size()),
    tags.COMMON: lambda r: STRINGS[r.take(1)[0]],
    tags.AGAIN: lambda r: r.strings[r.size()],
    tags.ANCHOR: lambda r: r.anchor(r.size()),
    tags.MEMO: _memo,
    tags.LIST: _list,
    tags.TUPLE: lambda r: tuple(r.items()),
    tags.DICT: _dict,
    tags.SET: _set,
    tags.FROZENSET: lambda r: frozenset(r.items()),
    tags.DEQUE: _deque,
    tags.ORDERED_DICT: _ordered_dict,
    tags.DEFAULT_DICT: _default_dict,
    tags.OBJECT: _object,
    tags.SHAPED: _shaped,
    tags.PARAMS: _parameters,
    tags.SUBCLASS: _subclass,
    tags.CLASS: _class,
    tags.FUNCTION: _function,
    tags.METHOD: _method,
    tags.ENUM: _enum,
    tags.DATETIME: _moment(datetime.fromisoformat),
    tags.CLOCK: _clock,
    tags.TIME: _moment(time.fromisoformat),
    tags.DATE: lambda r: date.fromisoformat(r.text()),
    tags.TIMEDELTA: lambda r: timedelta(r.get(), r.get(), r.get()),
    tags.DECIMAL: lambda r: Decimal(r.text()),
    tags.COMPLEX: lambda r: complex(DOUBLE.unpack(r.take(8))[0], DOUBLE.unpack(r.take(8))[0]),
    tags.RANGE: lambda r: range(r.get(), r.get(), r.get()),
    tags.FRACTION: lambda r: Fraction(r.get(), r.get()),
    tags.ZONE: _zone,
    tags.UTC: lambda _: UTC,
    tags.OFFSET: _offset,
    tags.BT_UTC: lambda _: bt.utils.date.UTC,
    tags.ARRAY: _array,
    tags.RANDOM: _made(Random, _fill_random),
    tags.COUNT: _count,
    tags.NDARRAY: _ndarray,
    tags.NUMBER: lambda r: numeric.read_number(r.get(), r.get()),
    tags.GENERATOR: _generator,
    tags.STRINGIO: _made(StringIO, _fill_text),
    tags.BYTESIO: _made(BytesIO, _fill_text),
    tags.BYTEARRAY: _made(bytearray, _fill_bytearray),
}
