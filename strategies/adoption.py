"""What a broker has to know of an account that was another broker's until an edit of the bot.

The engine moves cash, positions, orders and equal counters (`strategies.engine.rebuild`). It knows no
rules; so what the rules need, and what is left of rules that are gone, is set right here:

| an edit              | without this                                                              |
|----------------------|---------------------------------------------------------------------------|
| adds the first limit | waiting orders were never asked: every bar raises; positions count as none |
| drops the last one   | protective orders stay, nobody withdraws them, and they flip the position  |
"""

from typing import Any

from strategies.risk import RiskBroker, is_protective


def adopt(broker: Any) -> None:
    """Set right what waits and what is open in a broker that has just taken an account over."""
    if isinstance(broker, RiskBroker):
        for data, position in broker.positions.items():
            if position.size:
                broker.open_entries.setdefault(data, 1)  # entries that nobody counted are one
        for order in (*broker.submitted, *broker.pending):
            if not hasattr(order, "opens"):
                _ask_later(order, broker.getposition(order.data).size)
    else:
        for order in [order for order in broker.pending if is_protective(order)]:
            broker.cancel(order)


def _ask_later(order: Any, position: float) -> None:
    """Give an order what `RiskBroker.submit` would have: allowed as it is, asked again if it opens more."""
    remaining = order.executed.remsize
    order.entered = bool(order.executed.size)
    order.opens = max(0.0, abs(remaining) - (abs(position) if remaining * position < 0 else 0.0))
