"""CustomStrategy: one position at a time, long only, with entry and exit logic from mixins.

It decides at the close of a bar; its market orders fill at the next open. While an order of its own waits it
decides nothing. Every order carries the name of the mixin and the reason, for the ledger.
"""

from typing import Any

import backtrader as bt


class CustomStrategy(bt.Strategy):  # type: ignore[misc]  # Backtrader has no types
    """`entry` and `exit` are mixin classes or None (then it never buys, or never sells by itself)."""

    params = (("entry", None), ("entry_params", None), ("exit", None), ("exit_params", None))

    def __init__(self) -> None:
        self.order: Any = None
        self.entry = _logic(self, self.p.entry, self.p.entry_params)
        self.exit = _logic(self, self.p.exit, self.p.exit_params)

    def next(self) -> None:
        if self.order is not None:
            return
        logic = self.exit if self.position else self.entry
        if logic is None:
            return
        name = type(logic).__name__
        if not self.position:
            if reason := logic.entry_reason():
                self.order = self.buy(logic=name, reason=reason)
        elif reason := logic.exit_reason():
            self.order = self.close(logic=name, reason=reason)

    def notify_order(self, order: Any) -> None:
        if order.alive() and order.status != order.Partial:
            return
        if self.order is not None and order.ref == self.order.ref and not order.alive():
            self.order = None
        if self.exit is None or not order.executed.size:
            return
        # Read the position and not the order: a stop of the risk rules closes it as well.
        if not self.position:
            self.exit.closed()
        elif order.isbuy():
            self.exit.opened(self.position.price)


def _logic(strategy: CustomStrategy, mixin: Any, parameters: dict[str, Any] | None) -> Any:
    return None if mixin is None else mixin(strategy, mixin.Parameters(**(parameters or {})))
