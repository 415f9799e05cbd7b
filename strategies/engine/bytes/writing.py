"""Values to bytes, exactly: what `reading` makes of them is the same to the last bit.

One byte of tag, then the content; integers as varints, doubles as they are. An object of the graph
that was there when the engine was built is a number (an anchor); any other mutable object is written
where it is first met and is a number (a memo) afterwards, so shared and circular references survive.
"""

import struct
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC as UTC_ZONE
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from io import BytesIO, StringIO
from itertools import count
from random import Random
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final
from zoneinfo import ZoneInfo

import backtrader as bt

from strategies.engine.bytes import numeric
from strategies.engine.bytes.refusals import NEVER, attributes_of, container_base, is_plain_class, refused
from strategies.engine.bytes.vocabulary import (
    CODE_OF_STRING,
    PARAMETERS_OF,
    SHAPES,
    Names,
    remembered,
    token_of,
)
from strategies.engine.engine_errors import NotCarriable

(
    NONE, TRUE, FALSE, FLOAT, ZERO, INT, STR, BYTES, COMMON, AGAIN, ANCHOR, MEMO, LIST, TUPLE, DICT, SET,
    FROZENSET, DEQUE, OBJECT, CLASS, FUNCTION, METHOD, DATETIME, DATE, TIME, TIMEDELTA, DECIMAL, COMPLEX,
    RANGE, ENUM, SUBCLASS, ARRAY, RANDOM, COUNT, NDARRAY, NUMBER, STRINGIO, BYTESIO, BYTEARRAY, ZONE,
    FRACTION, WHOLE, SHAPED, PARAMS, GENERATOR, ORDERED_DICT, DEFAULT_DICT, UTC, OFFSET, BT_UTC, MISSING,
    CLOCK,
) = range(0xC0, 0xC0 + 52)  # fmt: skip
FIRST_STRING: Final = 0x80  # 0x00 to 0x7f are integers, 0x80 to 0xbf the first strings of the vocabulary
STRINGS_OF_ONE_BYTE: Final = 64
SEVEN_BITS: Final = 0x7F
DEEPEST: Final = 200
DAY_SECONDS: Final = 86_400
SHORT_STRING: Final = 64
DOUBLE: Final = struct.Struct("<d")


class Writer:
    """Collects the bytes of one state."""

    def __init__(self, numbers: dict[int, int], names: Names) -> None:
        self.out = bytearray()
        self.numbers = numbers
        self.names = names
        self.memo: dict[int, int] = {}
        self.strings: dict[str, int] = {}
        self.kept: list[Any] = []  # what was made for writing only: its id must not be used twice
        self.orders: list[Any] = []
        self.mentioned: set[int] = set()  # anchors that what was written refers to
        self.depth = 0

    def put(self, value: Any) -> None:
        write = WRITERS.get(type(value))
        if write is not None:
            write(self, value)
        else:
            _writer_of(type(value))(self, value)

    def size(self, number: int) -> None:
        """Write a non-negative integer, seven bits to a byte."""
        out = self.out
        while number > SEVEN_BITS:
            out.append(number & SEVEN_BITS | 0x80)
            number >>= 7
        out.append(number)

    def refer(self, value: Any) -> bool:
        """Write a number if the object is known; else remember it and say so."""
        key = id(value)
        number = self.numbers.get(key)
        if number is not None:
            self.out.append(ANCHOR)
            self.size(number)
            self.mentioned.add(number)
            return True
        number = self.memo.get(key)
        if number is not None:
            self.out.append(MEMO)
            self.size(number)
            return True
        self.memo[key] = len(self.memo)
        return False

    def items(self, values: Any, length: int) -> None:
        self.size(length)
        self.depth += 1
        if self.depth > DEEPEST:
            raise NotCarriable(f"a structure nested deeper than {DEEPEST}", "keep a flat list instead")
        at = 0
        try:
            for at, value in enumerate(values):  # noqa: B007 -- named in the refusal
                self.put(value)
        except NotCarriable as refusal:
            raise refusal.below(f"[{at}]") from None
        self.depth -= 1

    def pairs(self, values: dict[Any, Any]) -> None:
        self.size(len(values))
        self.depth += 1
        if self.depth > DEEPEST:
            raise NotCarriable(f"a structure nested deeper than {DEEPEST}", "keep a flat list instead")
        key = None
        try:
            for key, value in values.items():
                self.put(key)
                self.put(value)
        except NotCarriable as refusal:
            raise refusal.below(f"[{key if isinstance(key, str | int) else type(key).__name__!r}]") from None
        self.depth -= 1

    def attributes(self, values: dict[str, Any]) -> None:
        self.size(len(values))
        self.depth += 1
        if self.depth > DEEPEST:
            raise NotCarriable(f"a structure nested deeper than {DEEPEST}", "keep a flat list instead")
        name = ""
        try:
            for name, value in values.items():
                _string(self, name)
                self.put(value)
        except NotCarriable as refusal:
            raise refusal.below(name) from None
        self.depth -= 1

    def instance(self, value: Any) -> None:
        cls = type(value)
        token = self.names.token(cls)
        if id(value) in self.numbers:
            self.refer(value)
            return
        if token is None:
            raise refused(value)
        if not is_plain_class(cls) or issubclass(cls, NEVER):
            raise refused(value)
        base = container_base(cls)
        if base in {int, float, str, bytes, tuple, frozenset}:
            self.out.append(SUBCLASS)
            _string(self, token)
            assert base is not None  # noqa: S101 -- for the type checker
            self.put(base(value) if base is not tuple else tuple.__getitem__(value, slice(None)))
        elif not self.refer(value):
            self.out.append(OBJECT if base is None else SUBCLASS)
            _string(self, token)
            if base is not None:
                CONTENTS[base](self, value)
        else:
            return
        self.attributes(attributes_of(value))


@remembered
def _writer_of(cls: type) -> Callable[[Writer, Any], None]:
    """Return what writes the instances of a class that is not common."""
    if issubclass(cls, Enum):
        return _enum
    if issubclass(cls, type):
        return _class
    library = cls.__module__.partition(".")[0]
    if library == "numpy":
        return numeric.write
    return _pytz if library == "pytz" else Writer.instance


def _string(w: Writer, text: str) -> None:
    code = CODE_OF_STRING.get(text)
    if code is not None:
        if code < STRINGS_OF_ONE_BYTE:
            w.out.append(FIRST_STRING + code)
        else:
            w.out += bytes((COMMON, code))
        return
    known = w.strings.get(text)
    if known is not None:
        w.out.append(AGAIN)
        w.size(known)
        return
    content = text.encode("utf-8", "surrogatepass")
    w.out.append(STR)
    w.size(len(content))
    w.out += content
    if len(content) <= SHORT_STRING:
        w.strings[text] = len(w.strings)


def _integer(w: Writer, number: int) -> None:
    if 0 <= number < FIRST_STRING:
        w.out.append(number)
    else:
        w.out.append(INT)
        w.size(number << 1 if number >= 0 else ((-number - 1) << 1) | 1)


def _float(w: Writer, number: float) -> None:
    content = DOUBLE.pack(number)
    if content == b"\0\0\0\0\0\0\0\0":
        w.out.append(ZERO)
    elif number.is_integer() and -WHOLE_LIMIT < number < WHOLE_LIMIT and number:
        whole = int(number)
        w.out.append(WHOLE)
        w.size(whole << 1 if whole >= 0 else ((-whole - 1) << 1) | 1)
    else:
        w.out.append(FLOAT)
        w.out += content


def _bytes(w: Writer, content: bytes) -> None:
    w.out.append(BYTES)
    w.size(len(content))
    w.out += content


def _text(w: Writer, tag: int, text: str) -> None:
    """Write a tag with a text that is not worth remembering."""
    content = text.encode("utf-8", "surrogatepass")
    w.out.append(tag)
    w.size(len(content))
    w.out += content


def _tuple(w: Writer, value: tuple[Any, ...]) -> None:
    w.out.append(TUPLE)
    w.items(value, len(value))


def _frozenset(w: Writer, value: frozenset[Any]) -> None:
    w.out.append(FROZENSET)
    w.items(sorted(value, key=_sort_key(w)), len(value))


def _moment(tag: int) -> Callable[[Writer, Any], None]:
    def write(w: Writer, value: Any) -> None:
        w.out.append(tag)
        text = value.replace(tzinfo=None).isoformat().encode()
        w.size(len(text) << 1 | value.fold)
        w.out += text
        _zone(w, value.tzinfo)

    return write


def _datetime(w: Writer, value: datetime) -> None:
    """Write a naive one as seconds since the year 1, with microseconds if there are some."""
    if value.tzinfo is not None or value.fold:
        _zoned(w, value)
        return
    since = value - datetime.min  # noqa: DTZ901 -- Backtrader computes with naive UTC
    w.out.append(CLOCK)
    w.size((since.days * DAY_SECONDS + since.seconds) << 1 | bool(since.microseconds))
    if since.microseconds:
        w.size(since.microseconds)


def _zone(w: Writer, zone: Any) -> None:
    if zone is None:
        w.out.append(NONE)
    elif zone is UTC_ZONE:
        w.out.append(UTC)
    elif type(zone) is timezone:
        pickled: Any = zone
        offset, name = (*pickled.__getinitargs__(), None)[:2]
        w.out.append(OFFSET)
        w.put(offset)
        w.put(name)
    elif type(zone) is ZoneInfo and zone.key is not None:
        _text(w, ZONE, zone.key)
    elif zone is bt.utils.date.UTC:
        w.out.append(BT_UTC)
    else:
        w.put(zone)


_zoned: Final = _moment(DATETIME)


def _timedelta(w: Writer, value: timedelta) -> None:
    w.out.append(TIMEDELTA)
    for number in (value.days, value.seconds, value.microseconds):
        _integer(w, number)


def _complex(w: Writer, value: complex) -> None:
    w.out.append(COMPLEX)
    w.out += DOUBLE.pack(value.real) + DOUBLE.pack(value.imag)


def _sequence(tag: int) -> Callable[[Writer, Any], None]:
    def write(w: Writer, value: Any) -> None:
        w.out.append(tag)
        for part in (
            (value.start, value.stop, value.step) if tag == RANGE else (value.numerator, value.denominator)
        ):
            w.put(part)

    return write


def _mutable(tag: int, content: Callable[[Writer, Any], None]) -> Callable[[Writer, Any], None]:
    def write(w: Writer, value: Any) -> None:
        if w.numbers.get(id(value)) is None and id(value) not in w.memo:
            w.memo[id(value)] = len(w.memo)
            w.out.append(tag)
            content(w, value)
        else:
            w.refer(value)

    return write


def _list_content(w: Writer, value: list[Any]) -> None:
    w.items(list.__iter__(value), list.__len__(value))


def _dict_content(w: Writer, value: dict[Any, Any]) -> None:
    w.pairs(value)


def _defaultdict_content(w: Writer, value: defaultdict[Any, Any]) -> None:
    w.put(value.default_factory)
    w.pairs(value)


def _deque_content(w: Writer, value: deque[Any]) -> None:
    w.size(0 if value.maxlen is None else value.maxlen + 1)
    w.items(deque.__iter__(value), deque.__len__(value))


def _sort_key(w: Writer) -> Callable[[Any], bytes]:
    def key(value: Any) -> bytes:
        apart = Writer(w.numbers, w.names)
        apart.put(value)
        return bytes(apart.out)

    return key


def _set_content(w: Writer, value: set[Any]) -> None:
    """Write a set and rebuild it in place, so that it is the same set here and where it is read.

    The order of a set depends on what was in it before. Numbers hash alike everywhere and keep their
    order of iteration; anything else is sorted, because its order differs between processes anyway.
    """
    plain = all(type(item) in {int, float, bool} for item in set.__iter__(value))
    ordered = list(set.__iter__(value)) if plain else sorted(set.__iter__(value), key=_sort_key(w))
    set.clear(value)
    for item in ordered:
        set.add(value, item)
    w.items(ordered, len(ordered))


def _array_content(w: Writer, value: "array[Any]") -> None:
    _string(w, value.typecode)
    _bytes(w, value.tobytes())


def _random_content(w: Writer, value: Random) -> None:
    w.put(Random.getstate(value))


def _text_io_content(w: Writer, value: Any) -> None:
    w.put(value.getvalue())
    w.size(value.tell())


def _bytearray_content(w: Writer, value: bytearray) -> None:
    _bytes(w, bytes(value))


def _count(w: Writer, value: Any) -> None:
    """Write the next number and the step, from the representation: the only view in every Python version."""
    _text(w, COUNT, repr(value)[len("count(") : -1])


def _class(w: Writer, cls: type) -> None:
    token = token_of(cls) if cls.__module__ == "builtins" else w.names.token(cls)
    if token is None:
        raise NotCarriable(f"the class {token_of(cls)}", "use a class of the strategy's own module")
    w.out.append(CLASS)
    _string(w, token)


def _function(w: Writer, value: Any) -> None:
    token = token_of(value)
    if w.names.function(token) is not value:
        raise NotCarriable(f"the function {token}", "use a method, or a function at the level of the module")
    w.out.append(FUNCTION)
    _string(w, token)


def _method(w: Writer, value: MethodType) -> None:
    if plain_method(value.__self__, value.__name__) is not value.__func__:
        raise NotCarriable(f"the method {value.__qualname__}", "use a method of the class")
    w.out.append(METHOD)
    w.put(value.__self__)
    _string(w, value.__name__)


def plain_method(owner: Any, name: str) -> Any:
    """Return the function of that name in the owner's class, without running its code."""
    for cls in type(owner).__mro__:
        if name in vars(cls):
            found = vars(cls)[name]
            return found if isinstance(found, FunctionType) else None
    return None


def _enum(w: Writer, value: Enum) -> None:
    token = w.names.token(type(value))
    if token is None:
        raise refused(value)
    w.out.append(ENUM)
    _string(w, token)
    if isinstance(value.name, str) and type(value).__members__.get(value.name) is value:
        _string(w, value.name)
    else:  # several flags at once
        w.put(value.value)


def _pytz(w: Writer, zone: Any) -> None:
    name = getattr(zone, "zone", None)
    if not isinstance(name, str):
        raise refused(zone)
    _text(w, ZONE, f"pytz/{name}")


def _object(cls: type) -> Callable[[Writer, Any], None]:
    """Backtrader's small objects whose attributes are always the same: no names."""
    shape, token = SHAPES[cls], token_of(cls)

    def write(w: Writer, value: Any) -> None:
        names = vars(value)
        if w.refer(value):
            return
        if tuple(names) == shape:
            w.out.append(SHAPED)
            _string(w, token)
            for item in names.values():
                w.put(item)
        else:
            w.out.append(OBJECT)
            _string(w, token)
            w.attributes(names)

    return write


def _order(w: Writer, value: Any) -> None:
    if not w.refer(value):
        w.orders.append(value)
        w.out.append(OBJECT)
        _string(w, token_of(type(value)))
        w.attributes(vars(value))


def _parameters(cls: type) -> Callable[[Writer, Any], None]:
    """Parameters of an order: only those that are not the default."""
    token, defaults = f"{token_of(cls)}.params", dict(cls.params._getpairs())  # type: ignore[attr-defined]

    def write(w: Writer, value: Any) -> None:
        if not w.refer(value):
            w.out.append(PARAMS)
            _string(w, token)
            names = vars(value)
            w.attributes(
                {key: item for key, item in names.items() if key not in defaults or item is not defaults[key]}
            )

    return write


WHOLE_LIMIT: Final = 2**31
CONTENTS: Final[dict[type, Callable[[Writer, Any], None]]] = {
    list: _list_content, dict: _dict_content, set: _set_content, deque: _deque_content,
    OrderedDict: _dict_content, defaultdict: _defaultdict_content, array: _array_content,
    Random: _random_content, StringIO: _text_io_content, BytesIO: _text_io_content,
    bytearray: _bytearray_content,
}  # fmt: skip
CONTAINER_TAGS: Final = {
    list: LIST, dict: DICT, set: SET, deque: DEQUE, OrderedDict: ORDERED_DICT, defaultdict: DEFAULT_DICT,
    array: ARRAY, Random: RANDOM, StringIO: STRINGIO, BytesIO: BYTESIO, bytearray: BYTEARRAY,
}  # fmt: skip
WRITERS: Final[dict[type, Callable[[Writer, Any], None]]] = {
    type(None): lambda w, _: w.out.append(NONE),
    bool: lambda w, value: w.out.append(TRUE if value else FALSE),
    int: _integer, float: _float, str: _string, bytes: _bytes, tuple: _tuple, frozenset: _frozenset,
    datetime: _datetime, time: _moment(TIME), timedelta: _timedelta,
    date: lambda w, value: _text(w, DATE, value.isoformat()),
    Decimal: lambda w, value: _text(w, DECIMAL, str(value)),
    complex: _complex, range: _sequence(RANGE), Fraction: _sequence(FRACTION),
    timezone: _zone, ZoneInfo: _zone, type(bt.utils.date.UTC): _zone,
    list: _mutable(LIST, _list_content), dict: _mutable(DICT, _dict_content),
    set: _mutable(SET, _set_content),
    deque: _mutable(DEQUE, _deque_content), OrderedDict: _mutable(ORDERED_DICT, _dict_content),
    defaultdict: _mutable(DEFAULT_DICT, _defaultdict_content), array: _mutable(ARRAY, _array_content),
    Random: _mutable(RANDOM, _random_content), StringIO: _mutable(STRINGIO, _text_io_content),
    BytesIO: _mutable(BYTESIO, _text_io_content), bytearray: _mutable(BYTEARRAY, _bytearray_content),
    count: _count, FunctionType: _function, BuiltinFunctionType: _function, MethodType: _method, type: _class,
    **{cls: _object(cls) for cls in SHAPES},
    **dict.fromkeys(
        (bt.order.BuyOrder, bt.order.SellOrder, bt.order.StopBuyOrder, bt.order.StopSellOrder,
         bt.order.StopLimitBuyOrder, bt.order.StopLimitSellOrder), _order),
    **{cls.params: _parameters(cls) for cls in PARAMETERS_OF},
}  # fmt: skip
