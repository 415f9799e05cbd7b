"""Rejecting orders while trading is not allowed, in Backtrader's own way.

A bar before `trade_from` is decided like any other, so that indicators and the strategy's own attributes
are what they would be; only the broker refuses. The strategy is told by a Rejected order, for which a
strategy has to be ready anyway.
"""

from collections.abc import Callable
from typing import Any

from strategies.engine.bytes.vocabulary import remembered


def gate(broker: Any) -> None:
    """Let a broker reject what is submitted while its Cerebro is `closed`."""
    broker.__class__ = _gated(type(broker))


@remembered
def _gated(original: Any) -> type:
    """One derived class per class of broker, under the same name: fingerprints and refusals show it."""
    inner: Callable[..., Any] = original.submit

    def submit(self: Any, order: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.cerebro.closed:
            return inner(self, order, *args, **kwargs)
        order.reject()
        self.notify(order)
        return order

    attributes = {"submit": submit, "__module__": original.__module__, "__qualname__": original.__qualname__}
    # Not a class statement: Backtrader's metaclasses leave something in the module for every class made.
    made: type = type.__new__(type(original), original.__name__, (original,), attributes)
    return made
