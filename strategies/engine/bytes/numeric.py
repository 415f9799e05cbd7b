"""numpy scalars, arrays and generators in a state, for strategies that use numpy.

numpy is not imported for a state: a strategy that holds such a value has imported it.
"""

import sys
from typing import Any, Final

from strategies.engine.bytes import tags
from strategies.engine.bytes.input import Input
from strategies.engine.bytes.output import Output
from strategies.engine.bytes.refusals import refused
from strategies.engine.engine_errors import NotCarriable, StateInvalid

PLAIN_KINDS: Final = "biufcmMSU"
BIT_GENERATORS: Final = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
LARGEST_ITEM: Final = 1 << 20


def is_mutable_class(cls: type) -> bool:
    """Whether it is the class of numpy's arrays or of its random generators."""
    np = sys.modules.get("numpy")
    return np is not None and cls in {np.ndarray, np.random.Generator}


def is_number(value: object) -> bool:
    np = sys.modules.get("numpy")
    return np is not None and isinstance(value, np.generic)


def write(w: Output, value: Any) -> None:
    """Write a numpy value with its tag."""
    np = sys.modules["numpy"]
    if isinstance(value, np.generic) and value.dtype.kind in PLAIN_KINDS:
        w.out.append(tags.NUMBER)
        w.put(value.dtype.str)
        w.put(value.tobytes())
    elif type(value) is np.ndarray and value.dtype.kind in PLAIN_KINDS and value.dtype.fields is None:
        if not w.refer(value):
            w.out.append(tags.NDARRAY)
            content(w, value)
    elif type(value) is np.random.Generator and type(value.bit_generator).__name__ in BIT_GENERATORS:
        if not w.refer(value):
            w.out.append(tags.GENERATOR)
            content(w, value)
    elif type(value) is np.ndarray:
        raise NotCarriable(f"a numpy array of {value.dtype}", "keep an array of numbers, or a list")
    else:
        raise refused(value)


def content(w: Output, value: Any) -> None:
    """Write what is kept of an array or a random generator."""
    if _is_generator(value):
        w.put(type(value.bit_generator).__name__)
        state = _plain(value.bit_generator.state)
        w.kept.append(state)
        w.put(state)
        return
    by_column = value.flags.f_contiguous and not value.flags.c_contiguous
    w.put(value.dtype.str)
    w.put(tuple(int(length) for length in value.shape))
    w.put(bool(by_column))
    w.put(bool(value.flags.writeable))
    w.put(value.tobytes("F" if by_column else "C"))


def fill(r: Input, value: Any) -> None:
    """Read the content of an array or a generator into the one that is there."""
    if not is_mutable_class(type(value)):
        raise StateInvalid("a content for something that holds none")
    if _is_generator(value):
        name, state = r.get(), r.get()
        if name != type(value.bit_generator).__name__:
            raise StateInvalid("another random generator")
        value.bit_generator.state = state
        return
    found = read(r)
    if found.dtype != value.dtype or found.shape != value.shape:
        raise StateInvalid("an array of another shape")
    value[...] = found


def read(r: Input) -> Any:
    """Read what `content` wrote: the state of a generator is a dict, the shape of an array is none."""
    first, second = r.get(), r.get()
    if isinstance(second, dict):
        return _read_generator(first, second)
    by_column, writeable, raw = r.get(), r.get(), r.get()
    return _read_array(first, second, by_column=by_column, writeable=writeable, raw=raw)


def _is_generator(thing: Any) -> bool:
    return type(thing) is sys.modules["numpy"].random.Generator


def save(thing: Any) -> Any:
    return dict(thing.bit_generator.state) if _is_generator(thing) else thing.copy()


def same(thing: Any, saved: Any) -> bool:
    if _is_generator(thing):
        return str(thing.bit_generator.state) == str(saved)
    return bool(thing.shape == saved.shape and thing.tobytes() == saved.tobytes())


def restore(thing: Any, saved: Any) -> None:
    if _is_generator(thing):
        thing.bit_generator.state = saved
    else:
        thing[...] = saved


def _plain(state: Any) -> Any:
    """Return the state of a bit generator with arrays that are nobody else's."""
    if isinstance(state, dict):
        return {key: _plain(item) for key, item in state.items()}
    return state.copy() if hasattr(state, "tobytes") and hasattr(state, "copy") else state


def read_number(dtype: Any, raw: Any) -> Any:
    np = _numpy()
    kind = _dtype(np, dtype)
    if type(raw) is not bytes or len(raw) != kind.itemsize:
        raise StateInvalid("a numpy number of the wrong size")
    return np.frombuffer(raw, dtype=kind)[0]


def _read_array(dtype: Any, shape: Any, *, by_column: bool, writeable: bool, raw: Any) -> Any:
    np = _numpy()
    kind = _dtype(np, dtype)
    count = 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise StateInvalid("a numpy array of no shape")
        count *= length
    if type(raw) is not bytes or len(raw) != count * kind.itemsize:
        raise StateInvalid("a numpy array of the wrong size")
    value = np.frombuffer(raw, dtype=kind).reshape(shape, order="F" if by_column else "C").copy(order="K")
    value.flags.writeable = writeable
    return value


def _read_generator(name: Any, state: Any) -> Any:
    np = _numpy()
    if name not in BIT_GENERATORS:
        raise StateInvalid("an unknown random generator")
    bits = getattr(np.random, name)(0)
    bits.state = state
    return np.random.Generator(bits)


def _dtype(np: Any, text: Any) -> Any:
    kind = np.dtype(text) if type(text) is str else None
    if (
        kind is None
        or kind.kind not in PLAIN_KINDS
        or kind.fields is not None
        or kind.itemsize > LARGEST_ITEM
    ):
        raise StateInvalid("a numpy type that is not plain")
    return kind


def _numpy() -> Any:
    np = sys.modules.get("numpy")
    if np is None:
        raise StateInvalid("the state holds numpy values, but its strategy does not import numpy")
    return np
