"""The bytes of a state while they are read: the mirror of `output`, for bytes that nobody vouches for.

Nothing is made before there are bytes for it: a count is compared with what is left, a value in a value
has a deepest level. So a forged state costs memory in proportion to its length (unpacked, at most
`state.LARGEST`), and not much deeper a stack than a strategy could have built.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from strategies.engine.bytes.refusals import plain_dict
from strategies.engine.bytes.tags import DEEPEST, SEVEN_BITS
from strategies.engine.bytes.vocabulary import Names
from strategies.engine.engine_errors import StateInvalid


class Unknown:
    """Stands for an object of a class that the present code does not have; only `rebuild` lets one in."""


class Input(ABC):
    """Reads the bytes of one state. `anchor` finds the object of a number or raises StateInvalid."""

    def __init__(self, raw: bytes, anchor: Callable[[int], Any], names: Names) -> None:
        self.raw = raw
        self.at = 0
        self.anchor = anchor
        self.names = names
        self.memo: list[Any] = []  # new objects in the order of their first bytes, as in Output.memo
        self.strings: list[str] = []
        self.depth = 0

    @abstractmethod
    def get(self) -> Any:
        """Read a tag and the value that it stands for."""

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
        """Return a count of things that take at least a byte apiece."""
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

    def raw_bytes(self) -> bytes:
        """Return a value that has to be bytes."""
        found = self.get()
        if type(found) is not bytes:
            raise StateInvalid("no bytes where bytes belong")
        return found

    def nested(self) -> int:
        self.depth += 1
        if self.depth > 2 * DEEPEST:
            raise StateInvalid("nested too deep")
        return self.length()

    def items(self) -> list[Any]:
        found = []
        for _ in range(self.nested()):
            found.append(self.get())  # noqa: PERF401 -- a comprehension is one more frame a level
        self.depth -= 1
        return found

    def fill(self, container: dict[Any, Any]) -> None:
        put = plain_dict(container).__setitem__
        for _ in range(self.nested()):
            key = self.get()
            put(container, key, self.get())
        self.depth -= 1

    def attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self.nested()):
            name = self.name()
            found[name] = self.get()
        self.depth -= 1
        return found

    def remember(self, value: Any) -> Any:
        """Give a new object its number. Before its content is read, which may refer to it."""
        self.memo.append(value)
        return value

    def cls(self) -> type:
        return self.class_named(self.name())

    def class_named(self, token: str) -> type:
        found = self.names.find(token)
        if found is None:
            raise StateInvalid(f"the class {token!r} is not one of this strategy")
        return found
