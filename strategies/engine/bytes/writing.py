"""Values to bytes, exactly: what `reading` makes of them is the same to the last bit.

One byte of tag, then the content; integers as varints, doubles as they are. An object that was there
when the engine was built is a number (an anchor); any other object that can change is written where it
is first met and is a number (a memo) afterwards, so shared and circular references survive. The memo is
counted, not stored: a reader meets the objects in the same order and so gives them the same numbers.

The same values give the same bytes in every process, which is what makes a step a pure function: nothing
here depends on an address, on the order of a hash (see `kinds` for sets) or on what was written before.

What a type looks like stands in one place: `scalars`, `kinds`, `objects`. Here they become one table.
"""

from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

from strategies.engine.bytes import numeric, objects
from strategies.engine.bytes.kinds import KINDS
from strategies.engine.bytes.output import Output
from strategies.engine.bytes.scalars import SCALARS, Write, write_pytz
from strategies.engine.bytes.vocabulary import PARAMETERS_OF, SHAPES, remembered

WRITERS: Final[dict[type, Write]] = {
    **{scalar.cls: scalar.write for scalar in SCALARS},
    **{cls: kind.write_new for cls, kind in KINDS.items()},
    **{cls: objects.writer_of_shaped(cls) for cls in SHAPES},
    **dict.fromkeys(objects.ORDERS, objects.write_order),
    **{cls.params: objects.writer_of_parameters(cls) for cls in PARAMETERS_OF},
    type: objects.write_class,
    FunctionType: objects.write_function,
    BuiltinFunctionType: objects.write_function,
    MethodType: objects.write_method,
}


class Writer(Output):
    """Collects the bytes of one state."""

    def put(self, value: Any) -> None:
        write = WRITERS.get(type(value))
        if write is not None:
            write(self, value)
        else:
            _writer_of(type(value))(self, value)


@remembered
def _writer_of(cls: type) -> Write:
    """Return what writes the instances of a class that is not common."""
    if issubclass(cls, Enum):
        return objects.write_enum
    if issubclass(cls, type):
        return objects.write_class
    library = cls.__module__.partition(".")[0]
    if library == "numpy":
        return numeric.write
    return write_pytz if library == "pytz" else objects.write_instance
