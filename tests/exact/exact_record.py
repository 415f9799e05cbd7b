"""What a strategy can see, written down bar by bar, without leaving anything in its state.

An observer that stands last sees all lines of a bar when they are done; an analyzer hears every
notification. Both write into the list that `recording` sets up: it belongs to the context, not
to a strategy, so a state cannot carry it and an engine has nothing to refuse.
"""

import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import backtrader as bt

_SINK: ContextVar[list] = ContextVar("records of the run under way")


@contextmanager
def recording() -> Iterator[list]:
    records: list = []
    token = _SINK.set(records)
    try:
        yield records
    finally:
        _SINK.reset(token)


def note(*values):
    """Write down what a strategy of a test saw."""
    _SINK.get().append(("note", exact(values)))


def exact(value):
    """Return a value whose equality is that of the bits: NaN equals itself, 0.0 is not -0.0."""
    if isinstance(value, float):
        return struct.pack(">d", value).hex()
    if isinstance(value, dict):
        return tuple((exact(key), exact(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(exact, value))
    if isinstance(value, int | str | bytes | type(None)):
        return value
    return repr(value)


class LineRecorder(bt.Observer):
    """Stands last among the observers, so that all lines of the bar are written when it looks."""

    lines = ("nothing",)
    plotinfo = {"plot": False}  # noqa: RUF012  (Backtrader's way to say it)

    def next(self):
        strategy = self._owner
        records = _SINK.get()
        if len(strategy) == 1:
            records.append(("labels", tuple(label for label, _ in lines_of(strategy))))
        records.append(("bar", len(strategy), *_values(strategy), *_account(strategy)))


class EventRecorder(bt.Analyzer):
    def notify_order(self, order):
        _SINK.get().append(("order", order_values(order)))

    def notify_trade(self, trade):
        _SINK.get().append(("trade", trade_values(trade)))

    def notify_cashvalue(self, cash, value):
        _SINK.get().append(("cash", exact((cash, value))))

    def notify_fund(self, cash, value, fundvalue, shares):
        _SINK.get().append(("fund", exact((cash, value, fundvalue, shares))))


def lines_of(strategy):
    """Yield (label, line) of all feeds, indicators below indicators, and observers."""
    for number, data in enumerate(strategy.cerebro.datas):
        yield from _own_lines(f"data{number}", data)
    yield from _own_lines("strategy", strategy)
    yield from _below("", strategy)


def _below(prefix, owner):
    for kind in sorted(getattr(owner, "_lineiterators", {})):
        for number, each in enumerate(owner._lineiterators[kind]):
            # Backtrader numbers some of its classes through the process.
            label = f"{prefix}/{number}:{type(each).__name__.rstrip('_0123456789')}"
            if not isinstance(each, LineRecorder):
                yield from _own_lines(label, each)
                yield from _below(label, each)


def _own_lines(label, owner):
    if isinstance(owner, bt.linebuffer.LineBuffer):
        yield label, owner
        return
    for number, line in enumerate(owner.lines):
        yield f"{label}.{number}", line


def _values(strategy):
    numbers, faults, lengths = array("d"), [], []
    for label, line in lines_of(strategy):
        lengths.append(len(line))
        try:
            if not lengths[-1] and label.startswith("data"):
                raise IndexError  # with preloaded data this would be the last bar, which lies in the future
            numbers.append(line[0])
        except IndexError:
            numbers.append(float("nan"))
            faults.append(len(lengths))
    return numbers.tobytes(), tuple(faults), tuple(lengths)


def _account(strategy):
    broker = strategy.broker
    positions = []
    for data in strategy.cerebro.datas:
        # Asking for a position makes one, and the broker then wants a price of that feed: only look.
        each = broker.positions[data] if data in broker.positions else bt.Position()
        held = (each.size, each.price, each.price_orig, each.upopened, each.upclosed, each.updt, each.adjbase)
        positions.append(exact(held))
    account = (broker.getcash(), broker.getvalue(), broker.get_fundvalue(), broker.get_fundshares())
    return exact(account), tuple(positions)


def order_values(order):
    parts = [_order_data(order.created), _order_data(order.executed)]
    bits = [tuple(exact(value) for value in vars(bit).values()) for bit in order.executed.exbits]
    return (
        order.ref,
        order.data._name,
        order.getstatusname(),
        order.ordtypename(),
        order.getordername(),
        exact((order.size, order.price, order.pricelimit, order.trailamount, order.trailpercent)),
        exact(
            (
                order.valid,
                order.tradeid,
                order.alive(),
                order.active(),
                order.triggered,
                vars(order).get("plen"),
            )
        ),
        order.parent.ref if order.parent is not None else None,
        order.oco.ref if order.oco is not None else None,
        exact(dict(order.info)),
        *parts,
        tuple(bits),
    )


def _order_data(part):
    names = (
        *("dt", "size", "remsize", "price", "pricelimit", "pclose", "trailamount", "trailpercent"),
        *("value", "comm", "margin", "pnl", "psize", "pprice"),
    )
    return tuple(exact(getattr(part, name)) for name in names)


def trade_values(trade):
    names = (
        *("ref", "status", "tradeid", "size", "price", "value", "commission", "pnl", "pnlcomm"),
        *("justopened", "isopen", "isclosed", "baropen", "dtopen", "barclose", "dtclose", "barlen", "long"),
    )
    entries = [exact(dict(entry.status)) for entry in trade.history]
    return (trade.data._name, *(exact(getattr(trade, name, None)) for name in names), tuple(entries))
