"""What can go wrong with an engine, named for the reaction.

Nothing here is repaired inside a step: a step either happened completely or raised, and a raise
leaves the caller's state as it was.
"""


class EngineError(Exception):
    """Anything that the engine refuses. The state that was handed in is untouched."""


class StateInvalid(EngineError):
    """Bytes that are no state of this format: cut, altered, foreign or of another version."""


class CodeChanged(EngineError):
    """The state was made by other code, parameters or feeds; `Engine.rebuild` takes the account over."""


class NotCarriable(EngineError):
    """Something that a state cannot hold. `path` is where it hangs, `remedy` what to do instead."""

    def __init__(self, what: str, remedy: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(what, remedy, path)
        self.what = what
        self.remedy = remedy
        self.parts = path

    @property
    def path(self) -> str:
        """As one would write it in Python: `strategy.book[3].handle`."""
        text = ""
        for part in self.parts:
            text += part if part.startswith("[") or not text else f".{part}"
        return text

    def below(self, part: str) -> "NotCarriable":
        """Return the same refusal, seen from the object that holds the refused one as `part`."""
        return NotCarriable(self.what, self.remedy, (part, *self.parts))

    def __str__(self) -> str:
        where = f"{self.path}: " if self.parts else ""
        return f"{where}{self.what} cannot be carried from bar to bar; {self.remedy}"


class HistoryTooShort(EngineError):
    """A read behind the kept history. `Engine.replay` of the stored bars widens it.

    `line` is the number of the line in the engine, `depth` how many values it would have to keep.
    """

    def __init__(self, line: int, name: str, depth: int) -> None:
        super().__init__(line, name, depth)
        self.line = line
        self.name = name
        self.depth = depth

    def __str__(self) -> str:
        return (
            f"{self.name} was read {self.depth - 1} bars back, behind the kept history; "
            "replay the stored bars (Engine.replay) and the history is kept that deep"
        )


class LooksAhead(EngineError):
    """A read that plain Backtrader answers with a price of the future, because all bars are loaded.

    Besides `data[1]` that is a negative index on one of the first bars: it wraps round to the last.
    """
