"""What grows for ever and is never read again: finished orders, closed trades, books on orders of nobody.

Forgotten is in the objects what is left out of the bytes. If it were left out of the bytes only, an engine
that goes on with its objects would write other states than one that loads them. Backtrader reads none of it:
`broker.orders` is only appended to, of `strategy._trades` only the last of a `tradeid` is asked for, and the
books on OCO groups and brackets are asked by the number of an order that somebody still holds.
"""

from typing import Any

import backtrader as bt

from strategies.engine.machine.cerebro import Machine


def prune(machine: Machine) -> None:
    """Drop finished orders and all but the last trade of each `tradeid`."""
    orders = getattr(machine.broker, "orders", None)
    if orders:
        orders[:] = [order for order in orders if order.alive()]
    for strategy in machine.strategies:
        strategy._orders.clear()
        for of_feed in strategy._trades.values():
            for trades in of_feed.values():
                if len(trades) > 1:
                    del trades[:-1]


def books_of(broker: Any) -> tuple[Any, ...]:
    """Return the broker's books on orders: OCO followers and leaders, and the children of brackets."""
    return tuple(getattr(broker, name, None) for name in ("_ocos", "_ocol", "_pchildren"))


def forget_finished(broker: Any, orders: list[Any]) -> None:
    """Drop the broker's books on orders that nobody holds any more: nothing can ask for them."""
    if not isinstance(broker, bt.brokers.BackBroker):
        return
    followers, leaders, children = books_of(broker)
    held = {order.ref for order in orders}
    kept = held | {followers[ref] for ref in held if ref in followers}
    for book in (followers, leaders):
        for ref in [ref for ref in book if ref not in kept]:
            del book[ref]
    for ref in [ref for ref in children if ref not in held]:
        if not any(child.alive() for child in children[ref]):
            del children[ref]
