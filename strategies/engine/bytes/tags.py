"""The numbers by which a state says what comes next.

A byte below `FIRST_STRING` is an integer itself, one below `NONE` is one of the first strings of the
vocabulary, any other is a tag of this list. Stored states use these numbers: append, never reorder.
"""

from typing import Final

(
    NONE, TRUE, FALSE, FLOAT, ZERO, INT, STR, BYTES, COMMON, AGAIN, ANCHOR, MEMO, LIST, TUPLE, DICT, SET,
    FROZENSET, DEQUE, OBJECT, CLASS, FUNCTION, METHOD, DATETIME, DATE, TIME, TIMEDELTA, DECIMAL, COMPLEX,
    RANGE, ENUM, SUBCLASS, ARRAY, RANDOM, COUNT, NDARRAY, NUMBER, STRINGIO, BYTESIO, BYTEARRAY, ZONE,
    FRACTION, WHOLE, SHAPED, PARAMS, GENERATOR, ORDERED_DICT, DEFAULT_DICT, UTC, OFFSET, BT_UTC, MISSING,
    CLOCK,
) = range(0xC0, 0xC0 + 52)  # fmt: skip
FIRST_STRING: Final = 0x80
STRINGS_OF_ONE_BYTE: Final = NONE - FIRST_STRING
SEVEN_BITS: Final = 0x7F
# What is said twice is numbered the first time; a longer text is not worth a number (bytes of UTF-8).
SHORT_STRING: Final = 64
# Levels of values in values, for a writer. A reader allows twice as many: its limit is for forged bytes, and
# nothing that was written may ever meet it.
DEEPEST: Final = 200
