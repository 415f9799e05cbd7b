"""What CustomStrategy asks of its entry and exit logic.

A mixin is made once, inside the strategy's own __init__ (Backtrader finds the owner of an indicator by
looking for it there), and asked once a bar. What it remembers between bars are plain attributes: they are
carried from bar to bar with the strategy's own, so no closures, no generators, nothing that is open.
"""

from typing import Any, ClassVar

from strategies.sections import Section


class MixinParameters(Section):
    """The parameters of a mixin, without the prefix that a bot's configuration writes before them."""


class EntryMixin:
    prefix: ClassVar[str] = "e_"
    Parameters: ClassVar[type[MixinParameters]] = MixinParameters

    def __init__(self, strategy: Any, parameters: Any) -> None:
        """Make the indicators. `parameters` is a valid instance of `Parameters`."""
        raise NotImplementedError

    def entry_reason(self) -> str | None:
        """Return why to buy at the close of this bar (a word for the ledger), or None."""
        raise NotImplementedError


class ExitMixin:
    prefix: ClassVar[str] = "x_"
    Parameters: ClassVar[type[MixinParameters]] = MixinParameters

    def __init__(self, strategy: Any, parameters: Any) -> None:
        """Make the indicators. `parameters` is a valid instance of `Parameters`."""
        raise NotImplementedError

    def opened(self, price: float) -> None:
        """Hear that a position was opened or enlarged, at its average price; `exit_reason` comes after it."""

    def exit_reason(self) -> str | None:
        """Return why to sell at the close of this bar (a word for the ledger), or None."""
        raise NotImplementedError

    def closed(self) -> None:
        """Hear that the position is gone, whoever closed it."""
