"""Everything that can change and is the same object afterwards: containers, buffers, generators of numbers.

One `Kind` says all that the engine has to know of a type: its bytes (written, read anew, read into the
one that is there) and its baseline (saved, compared, put back). A new kind is one more entry of `KINDS`
and a tag at the end of `tags`; if it can hold objects, the walk has to look into it too (`anchors`).

A container of the baseline keeps its identity for ever: `fill` and `restore` change the content of the
object that is there, because a strategy, an indicator and Backtrader may all hold it. The methods are
those of the plain type (`list.extend(value, ...)`), because the object may be of a class of the user's
that has changed them, and no code of the user's runs while a state is written or read.
"""

from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, StringIO
from random import Random
from types import NoneType
from typing import Any, Final

from strategies.engine.bytes import numeric, tags
from strategies.engine.bytes.input import Input, Unknown
from strategies.engine.bytes.output import Output
from strategies.engine.bytes.refusals import plain_dict
from strategies.engine.bytes.vocabulary import remembered
from strategies.engine.engine_errors import StateInvalid

ARRAYS: Final = "bBuhHiIlLqQfd"
OF_RANDOM: Final = ((int, tuple, NoneType), (int, tuple, float))  # version, words, a second gauss or none


@dataclass(frozen=True, slots=True)
class Kind:
    """All that is known of one type of container."""

    cls: type
    tag: int
    write: Callable[[Output, Any], None]  # the content, after the tag
    fill: Callable[[Input, Any], None]  # reads the content into one that is there
    save: Callable[[Any], Any]  # the content as it was built
    same: Callable[[Any, Any], bool]  # whether the content is what `save` returned
    restore: Callable[[Any, Any], None]
    # How a new one is read: an empty one is made, then filled. Where the content decides what object it is,
    # an empty one would be wrong, and `whole` reads it in one go.
    make: Callable[[], Any] = Unknown
    whole: Callable[[Input], Any] | None = None

    def write_new(self, w: Output, value: Any) -> None:
        """Write an object where it is first met, a number wherever it is met again."""
        if w.numbers.get(id(value)) is None and id(value) not in w.memo:
            w.memo[id(value)] = len(w.memo)
            w.out.append(self.tag)
            self.write(w, value)
        else:
            w.refer(value)

    def read_new(self, r: Input) -> Any:
        if self.whole is None:
            found = r.remember(self.make())  # before its content, which may hold the container itself
            self.fill(r, found)
            return found
        at = len(r.memo)
        r.memo.append(None)
        r.memo[at] = found = self.whole(r)
        return found


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


def _same_items(found: tuple[Any, ...], saved: tuple[Any, ...]) -> bool:
    return len(found) == len(saved) and all(map(_same_item, found, saved))


def _write_list(w: Output, value: list[Any]) -> None:
    w.items(list.__iter__(value), list.__len__(value))


def _fill_list(r: Input, value: list[Any]) -> None:
    list.clear(value)
    list.extend(value, r.items())


def _write_deque(w: Output, value: deque[Any]) -> None:
    w.size(0 if value.maxlen is None else value.maxlen + 1)
    w.items(deque.__iter__(value), deque.__len__(value))


def _fill_deque(r: Input, value: deque[Any]) -> None:
    bound = r.size()
    deque.__init__(value, (), bound - 1 if bound else None)
    deque.extend(value, r.items())


def _write_set(w: Output, value: set[Any]) -> None:
    """Write a set and rebuild it in place, so that it is the same set here and where it is read.

    The order of a set depends on what was in it before. Numbers hash alike everywhere and keep their
    order of iteration; anything else is sorted, because its order differs between processes anyway.
    """
    plain = all(type(item) in {int, float, bool} for item in set.__iter__(value))
    ordered = list(set.__iter__(value)) if plain else sorted(set.__iter__(value), key=w.bytes_of)
    _restore_set(value, tuple(ordered))
    w.items(ordered, len(ordered))


def _fill_set(r: Input, value: set[Any]) -> None:
    set.clear(value)
    for item in r.items():
        set.add(value, item)


def _save_set(thing: set[Any]) -> tuple[Any, ...]:
    return tuple(set.__iter__(thing))


def _restore_set(thing: set[Any], saved: tuple[Any, ...]) -> None:
    # One by one: update() would size the table in one go, and the order of iteration be another.
    set.clear(thing)
    for item in saved:
        set.add(thing, item)


def _write_default_dict(w: Output, value: defaultdict[Any, Any]) -> None:
    w.put(value.default_factory)
    w.pairs(value)


def _fill_dict(r: Input, value: dict[Any, Any]) -> None:
    plain_dict(value).clear(value)
    r.fill(value)


def _fill_default_dict(r: Input, value: defaultdict[Any, Any]) -> None:
    factory = r.get()
    if factory is not None and not callable(factory):
        raise StateInvalid("a default that cannot be made")
    value.default_factory = factory
    _fill_dict(r, value)


def _save_dict(thing: dict[Any, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    plain = plain_dict(thing)
    return tuple(plain.keys(thing)), tuple(plain.values(thing))


def _same_dict(thing: dict[Any, Any], saved: tuple[tuple[Any, ...], tuple[Any, ...]]) -> bool:
    keys, values = _save_dict(thing)
    return _same_items(keys, saved[0]) and _same_items(values, saved[1])


def _restore_dict(thing: dict[Any, Any], saved: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    plain = plain_dict(thing)
    plain.clear(thing)
    for key, value in zip(*saved, strict=True):
        plain.__setitem__(thing, key, value)


def _write_array(w: Output, value: "array[Any]") -> None:
    w.string(value.typecode)
    w.put(value.tobytes())


def _read_array(r: Input) -> "array[Any]":
    typecode, raw = r.name(), r.raw_bytes()
    if len(typecode) != 1 or typecode not in ARRAYS:
        raise StateInvalid("an array of an unknown type")
    found: array[Any] = array(typecode)
    found.frombytes(raw)
    return found


def _fill_array(r: Input, value: "array[Any]") -> None:
    found = _read_array(r)
    if found.typecode != value.typecode:
        raise StateInvalid("an array of another type")
    value[:] = found


def _restore_whole(thing: Any, saved: Any) -> None:
    thing[:] = saved


def _fill_bytearray(r: Input, value: bytearray) -> None:
    value[:] = r.raw_bytes()


def _fill_random(r: Input, value: Random) -> None:
    state = r.get()
    # Anything else setstate would index, compare and calculate with: code of whatever the state put there.
    if type(state) is not tuple or tuple(map(type, state)) not in OF_RANDOM or state[0] != Random.VERSION:
        raise StateInvalid("no state of a random generator")
    Random.setstate(value, state)


def _save_buffer(thing: Any) -> tuple[Any, int]:
    return thing.getvalue(), thing.tell()


def _write_buffer(w: Output, value: Any) -> None:
    content, position = _save_buffer(value)
    w.put(content)
    w.size(position)


def _restore_buffer(thing: Any, saved: tuple[Any, int]) -> None:
    thing.seek(0)
    thing.truncate()
    thing.write(saved[0])
    thing.seek(saved[1])


def _fill_buffer(r: Input, value: Any) -> None:
    _restore_buffer(value, (r.get(), r.size()))


def _a_list(cls: Any, tag: int, write: Any, fill: Any) -> Kind:
    def save(thing: Any) -> tuple[Any, ...]:
        return tuple(cls.__iter__(thing))

    def restore(thing: Any, saved: tuple[Any, ...]) -> None:
        cls.clear(thing)
        cls.extend(thing, saved)

    return Kind(
        cls, tag, write, fill, save, lambda thing, saved: _same_items(save(thing), saved), restore, make=cls
    )


def _a_dict(cls: type, tag: int, write: Any = Output.pairs, fill: Any = _fill_dict) -> Kind:
    return Kind(cls, tag, write, fill, _save_dict, _same_dict, _restore_dict, make=cls)


def _a_buffer(cls: type, tag: int) -> Kind:
    return Kind(
        cls, tag, _write_buffer, _fill_buffer,
        _save_buffer, lambda thing, saved: _save_buffer(thing) == saved, _restore_buffer, make=cls,
    )  # fmt: skip


# numpy's arrays and generators: their classes are known only where a strategy has imported numpy.
NUMPY: Final = Kind(
    object, tags.NDARRAY, numeric.content, numeric.fill, numeric.save, numeric.same, numeric.restore,
    whole=numeric.read,
)  # fmt: skip
KINDS: Final[dict[type, Kind]] = {
    kind.cls: kind
    for kind in (
        _a_list(list, tags.LIST, _write_list, _fill_list),
        _a_list(deque, tags.DEQUE, _write_deque, _fill_deque),
        Kind(
            set, tags.SET, _write_set, _fill_set,
            _save_set, lambda thing, saved: _same_items(_save_set(thing), saved), _restore_set, make=set,
        ),
        _a_dict(dict, tags.DICT),
        _a_dict(OrderedDict, tags.ORDERED_DICT),
        _a_dict(defaultdict, tags.DEFAULT_DICT, _write_default_dict, _fill_default_dict),
        _a_buffer(StringIO, tags.STRINGIO),
        _a_buffer(BytesIO, tags.BYTESIO),
        Kind(
            bytearray, tags.BYTEARRAY, lambda w, value: w.put(bytes(value)), _fill_bytearray,
            bytes, lambda thing, saved: bool(thing == saved), _restore_whole, make=bytearray,
        ),
        Kind(
            array, tags.ARRAY, _write_array, _fill_array,
            lambda thing: array(thing.typecode, thing),
            lambda thing, saved: bool(thing.tobytes() == saved.tobytes()), _restore_whole, whole=_read_array,
        ),
        Kind(
            Random, tags.RANDOM, lambda w, value: w.put(Random.getstate(value)), _fill_random,
            Random.getstate, lambda thing, saved: Random.getstate(thing) == saved, Random.setstate,
            make=Random,
        ),
    )
}  # fmt: skip
KIND_OF_TAG: Final = {kind.tag: kind for kind in (*KINDS.values(), NUMPY)}


@remembered
def kind_of(cls: type) -> Kind:
    """Return the kind of a container, or of the container that a class inherits from; else numpy's."""
    return next((KINDS[base] for base in cls.__mro__ if base in KINDS), NUMPY)
