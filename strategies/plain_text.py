"""Text from rows and messages as it may reach a terminal, a log or a spreadsheet: it shows and does nothing.

What does not print moves the cursor (escape sequences), turns the order of letters round (U+202A to U+202E,
U+2066 to U+2069), hides (zero width) or begins a line. Python calls all of it not printable.
"""

import re
from typing import Final

_ASTRAL: Final = 0x10000
_FORMULA: Final = "=+-@\uff1d\uff0b\uff0d\uff20"  # the wide ones count in East Asian settings
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def visible(text: str, keep: str = "") -> str:
    """Return text with whatever does not print written as Python would write it, except what is in `keep`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else repr(char)[1:-1] for char in text)


def visible_json(text: str) -> str:
    """Return JSON that says the same and does nothing on a terminal; line breaks between texts stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if code < _ASTRAL:
        return f"\\u{code:04x}"
    high, low = divmod(code - _ASTRAL, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def for_spreadsheet(cell: object) -> object:
    """Return a cell of a CSV file; text that a spreadsheet would compute is given an apostrophe in front."""
    if not isinstance(cell, str):
        return cell
    text = visible(cell)
    computed = text.lstrip()[:1] in tuple(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if computed else text
