"""Bytes to values: the inverse of `writing`, for bytes that nobody vouches for.

The checksum of a state is no signature, so a body is read as if an enemy had written it. What it may cost
and do is bounded by four rules, every one with one home:

- memory: a length is compared with the bytes that are left before anything is made (`Input.length`,
  `take`);
- stack: values in values have a deepest level (`Input.nested`);
- code: classes and functions are looked up among what the strategy's modules hold (`vocabulary.Names`),
  and nothing is imported, not even for a time zone (`zones`);
- calls: objects are made without their class and filled past it (`objects`, `kinds`), so that nothing
  runs but this package, and what is handed to a library's own setter is looked at first, here
  (`kinds._fill_random`) or there.

Within these rules the reader believes what it finds: it does not check for every tag that the value is of
a kind that fits. A wrong index, a missing attribute, a text where a number belongs then fall over as one
of `WRONG`, which who holds the reader (`built.load`, `rebuild.Former`) turns into StateInvalid. That is
enough, because a state that fell over in the middle leaves nothing: `load` starts from the baseline,
always. A reader must therefore never be caught and continued.
"""

from collections.abc import Callable
from typing import Any, Final

from strategies.engine.bytes import numeric, objects, tags
from strategies.engine.bytes.input import Input
from strategies.engine.bytes.kinds import KINDS, NUMPY
from strategies.engine.bytes.scalars import SCALARS
from strategies.engine.bytes.vocabulary import STRINGS
from strategies.engine.engine_errors import StateInvalid

WRONG: Final = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError,
    ArithmeticError,
    AssertionError, MemoryError, LookupError, NotImplementedError,
)  # fmt: skip


class Reader(Input):
    """Reads the bytes of one state. `anchor` finds the object of a number or raises StateInvalid."""

    def get(self) -> Any:
        tag = self.raw[self.at]
        self.at += 1
        if tag < tags.FIRST_STRING:
            return tag
        if tag < tags.NONE:
            return STRINGS[tag - tags.FIRST_STRING]
        return READERS[tag](self)


def _memo(r: Input) -> Any:
    found = r.memo[r.size()]
    if found is None:
        raise StateInvalid("a reference into something unfinished")
    return found


READERS: Final[dict[int, Callable[[Input], Any]]] = {
    **{tag: read for scalar in SCALARS for tag, read in scalar.read.items()},
    **{kind.tag: kind.read_new for kind in (*KINDS.values(), NUMPY)},
    tags.GENERATOR: NUMPY.read_new,
    tags.NUMBER: lambda r: numeric.read_number(r.get(), r.get()),
    tags.ANCHOR: lambda r: r.anchor(r.size()),
    tags.MEMO: _memo,
    tags.OBJECT: objects.read_object,
    tags.SUBCLASS: objects.read_subclass,
    tags.SHAPED: objects.read_shaped,
    tags.PARAMS: objects.read_parameters,
    tags.CLASS: objects.read_class,
    tags.FUNCTION: objects.read_function,
    tags.METHOD: objects.read_method,
    tags.ENUM: objects.read_enum,
}
