"""The bytes of a state while they are written: counts, texts, references and what holds other values.

`scalars`, `kinds` and `objects` say how a value of each type is written; they do it with this. What
`input` reads is the mirror of what stands here, method by method.
"""

from abc import ABC, abstractmethod
from typing import Any

from strategies.engine.bytes import tags
from strategies.engine.bytes.refusals import plain_dict
from strategies.engine.bytes.tags import SEVEN_BITS
from strategies.engine.bytes.vocabulary import CODE_OF_STRING, Names
from strategies.engine.engine_errors import NotCarriable


class Output(ABC):
    """Collects the bytes of one state. `numbers` are the anchors' numbers by id."""

    def __init__(self, numbers: dict[int, int], names: Names) -> None:
        self.out = bytearray()
        self.numbers = numbers
        self.names = names
        # New objects, by id, in the order in which they were met: a reader counts them in the same order.
        self.memo: dict[int, int] = {}
        self.strings: dict[str, int] = {}
        self.kept: list[Any] = []  # what was made for writing only: its id must not be used twice
        self.orders: list[Any] = []  # which the broker must go on knowing, see `forgetting`
        self.mentioned: set[int] = set()  # anchors that what was written refers to
        self.depth = 0

    @abstractmethod
    def put(self, value: Any) -> None:
        """Write any value with its tag. Raises NotCarriable."""

    def size(self, number: int) -> None:
        """Write a non-negative integer, seven bits to a byte."""
        if number <= SEVEN_BITS:
            self.out.append(number)
        else:
            self.out += varint(number)

    def whole(self, number: int) -> None:
        """Write an integer with its sign."""
        self.size(number << 1 if number >= 0 else ((-number - 1) << 1) | 1)

    def text(self, tag: int, text: str) -> int:
        """Write a tag with a text that will not be said again; return how many bytes the text has."""
        content = text.encode("utf-8", "surrogatepass")
        self.out.append(tag)
        self.size(len(content))
        self.out += content
        return len(content)

    def string(self, text: str) -> None:
        """Write a text that may be said again: a name, a word of the strategy."""
        code = CODE_OF_STRING.get(text)
        if code is not None:
            if code < tags.STRINGS_OF_ONE_BYTE:
                self.out.append(tags.FIRST_STRING + code)
            else:
                self.out += bytes((tags.COMMON, code))
            return
        known = self.strings.get(text)
        if known is not None:
            self.out.append(tags.AGAIN)
            self.size(known)
            return
        if self.text(tags.STR, text) <= tags.SHORT_STRING:
            self.strings[text] = len(self.strings)

    def refer(self, value: Any) -> bool:
        """Write a number if the object is known; else remember it and say so."""
        key = id(value)
        number = self.numbers.get(key)
        if number is not None:
            self.out.append(tags.ANCHOR)
            self.size(number)
            self.mentioned.add(number)
            return True
        number = self.memo.get(key)
        if number is not None:
            self.out.append(tags.MEMO)
            self.size(number)
            return True
        self.memo[key] = len(self.memo)
        return False

    def nested(self, length: int) -> None:
        """Write how many values follow, one level deeper; who calls takes the level back."""
        self.size(length)
        self.depth += 1
        if self.depth > tags.DEEPEST:
            raise NotCarriable(f"a structure nested deeper than {tags.DEEPEST}", "keep a flat list instead")

    def items(self, values: Any, length: int) -> None:
        self.nested(length)
        at = 0
        try:
            for at, value in enumerate(values):  # noqa: B007 -- named in the refusal
                self.put(value)
        except NotCarriable as refusal:
            raise refusal.below(f"[{at}]") from None
        self.depth -= 1

    def pairs(self, values: dict[Any, Any]) -> None:
        plain = plain_dict(values)
        self.nested(plain.__len__(values))
        key = None
        try:
            for key, value in plain.items(values):
                self.put(key)
                self.put(value)
        except NotCarriable as refusal:
            raise refusal.below(f"[{key if isinstance(key, str | int) else type(key).__name__!r}]") from None
        self.depth -= 1

    def attributes(self, values: dict[str, Any]) -> None:
        self.nested(len(values))
        name = ""
        try:
            for name, value in values.items():
                self.string(name)
                self.put(value)
        except NotCarriable as refusal:
            raise refusal.below(name) from None
        self.depth -= 1

    def bytes_of(self, value: Any) -> bytes:
        """Return what a value is written as when it stands alone: an order for things that have none."""
        apart = type(self)(self.numbers, self.names)
        apart.put(value)
        return bytes(apart.out)


def varint(number: int) -> bytes:
    """Return a non-negative integer, seven bits to a byte, the lowest first."""
    out = bytearray()
    while number > SEVEN_BITS:
        out.append(number & SEVEN_BITS | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
