"""Taking a bot over when its code, parameters or history changed: what is its own, not its bars.

A state is of one code; no other code can load it, since its numbers mean the objects of that code. What
the bot *owns* does not depend on the code: cash, positions, open orders, open trades, numbers. What it
*calculates* follows from the stored bars. So the bars are replayed with orders suppressed, which makes
everything that is calculated; then what is owned moves in. In that order: the replay resets the objects,
and orders that moved in before would be filled by bars of the past.

    the fingerprint is | moves in                                     | `rebuild` of
    another one        | the account, orders and trades (`take_over`) | edited code or parameters
    the same           | all but what is calculated (`deepen`)        | a history that was too short

A state of other code is read without that code, which rests on two things in the format. Broker, feeds
and strategies stand first among the numbers, and the state says how many there are (`built.roots`), so
these few can be told; whatever else a number means, a stand-in is put there. And what a container of
theirs held stands with its name (`built._write_container`). It is read twice: the first time for what the
numbers are, because a container may be mentioned before its content comes.

A strategy of changed code gets its former attributes only if it asks for them, with a method
`carry_over(self, old)`, where `old` maps names to values; without one it keeps references to orders
under the same name, because an order that is forgotten is sent twice.

What a user's broker counts by feed (`RiskBroker.open_entries`) moves too; what its rules need beyond that is
not known here, and is set right by a function that the engine was given (`adopt`).

Nothing is written: if it raises, the caller has the old state, and the engine loads at the next call.
"""

from typing import Any, Final

import backtrader as bt

from strategies.engine.built import END, GONE, ORDERED, SET, Built
from strategies.engine.bytes import state as form
from strategies.engine.bytes.input import Unknown
from strategies.engine.bytes.kinds import KIND_OF_TAG
from strategies.engine.bytes.reading import WRONG, Reader
from strategies.engine.bytes.vocabulary import Names, is_backtrader
from strategies.engine.engine_errors import EngineError, StateInvalid

BOOKS: Final = (
    "positions", "pending", "submitted", "_toactivate", "_pchildren", "_ocos", "_ocol", "d_credit", "notifs",
    "orders",
)  # fmt: skip
NUMBERS: Final = ("cash", "_fundval", "_fundshares", "startingcash")
# What a broker of the user's may keep.
PLAIN: Final = frozenset({bool, int, float, str, type(None)})
SUPPRESSED: Final = 1 << 62  # ms; no bar opens later


class _Lenient:
    """The engine's names, with a stand-in for classes that it does not know."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.function = names.function

    def find(self, token: str) -> type:
        return self._names.find(token) or Unknown


class Former:
    """A state read by an engine of other code: what hangs on the broker, the feeds and the strategies."""

    def __init__(self, state: bytes, built: Built) -> None:
        self.built = built
        self.feeds: tuple[str, ...] = ()
        self.strategies = 0
        self._tags: dict[int, int] = {}  # of the containers told of, by number
        body = form.unseal(state, None)
        try:
            self._read(body)  # to learn what the numbers are
            self._read(body)
        except WRONG as exc:
            raise StateInvalid(f"the former state cannot be read ({type(exc).__name__}: {exc})") from exc

    def _read(self, body: bytes) -> None:
        self.attributes: dict[int, dict[str, Any]] = {}
        self._strangers: dict[int, Any] = {}
        self.reader = reader = Reader(body, self._anchor, _Lenient(self.built.names))  # type: ignore[arg-type]  # looks up the same
        self.counters = [reader.get() for _ in range(4)]
        self.feeds, self.strategies = reader.get()
        reader.get()
        reader.get()
        self.open_trades = reader.get()
        self.lengths = form.skip_lines(reader)
        while (number := reader.size()) != END:
            self._record(number - 1)

    def _stranger(self, number: int) -> Any:
        """Stand in for what the present code has no object for, with a container if it was one."""
        if number not in self._strangers:
            kind = KIND_OF_TAG.get(self._tags.get(number, 0))
            self._strangers[number] = kind.make() if kind else Unknown()
        return self._strangers[number]

    def _anchor(self, number: int) -> Any:
        machine = self.built.machine
        if number == 0:
            return machine.broker
        if number <= len(self.feeds):
            return next(
                (data for data in machine.cerebro.datas if data._name == self.feeds[number - 1]),
                self._stranger(number),
            )
        at = number - 1 - len(self.feeds)
        if at < min(self.strategies, len(machine.strategies)):
            return machine.strategies[at]
        return self._stranger(number)

    def _record(self, number: int) -> None:
        reader = self.reader
        flags = reader.take(1)[0]
        if flags <= SET | GONE | ORDERED:
            if flags & SET:
                self.attributes.setdefault(number, {}).update(reader.attributes())
            for flag in (GONE, ORDERED):
                if flags & flag:
                    reader.get()
            return
        holder = reader.size()
        name = reader.get() if holder else ""
        content = self._content(number, flags)
        if holder:
            self.attributes.setdefault(holder - 1, {})[name] = content

    def _content(self, number: int, tag: int) -> Any:
        self._tags[number] = tag
        kind = KIND_OF_TAG[tag]
        if kind.whole is not None:
            return kind.whole(self.reader)
        made = self._stranger(number)
        if isinstance(made, Unknown):  # mentioned before its tag was known, on the first reading
            made = kind.make()
        kind.fill(self.reader, made)
        return made

    def bars_of(self, at: int) -> int:
        """How many bars a feed had: the lines of the feeds stand first, seven to a feed."""
        return self.lengths[7 * at]


def take_over(built: Built, state: bytes) -> None:
    """Move the account of a former state of other code into engine objects that have replayed the bars."""
    former = Former(state, built)
    machine = built.machine
    numbers = machine.numbers
    next_order, next_trade, stamp, trade_from = former.counters
    numbers.orders.upcoming, numbers.trades.upcoming = next_order, next_trade
    built.counters.trade_from = trade_from
    built.counters.stamp = max(stamp or 0, built.counters.stamp or 0) or None
    _move_account(former, machine.broker)
    index = {data._name: at for at, data in enumerate(machine.cerebro.datas)}
    built.recorder.remember(
        [(index[former.feeds[at]], *rest) for at, *rest in former.open_trades if former.feeds[at] in index]
    )
    with numbers:
        for at, strategy in enumerate(machine.strategies[: former.strategies]):
            _move_strategy(former, strategy, former.attributes.get(1 + len(former.feeds) + at, {}))
        if isinstance(machine.broker, bt.brokers.BackBroker):
            machine.broker._get_value()


def _move_account(former: Former, broker: Any) -> None:
    old = former.attributes.get(0, {})
    for name in NUMBERS:
        if name in old:
            setattr(broker, name, old[name])
    for data, position in old.get("positions", {}).items():
        if isinstance(data, Unknown) and position.size:
            raise EngineError("the former state holds a position in a feed that there is no longer")
    _move_books(broker, old)
    _adopt_orders(former, broker)
    if not is_backtrader(type(broker).__mro__[1]):
        _move_counts(broker, old)


def _move_counts(broker: Any, old: dict[str, Any]) -> None:
    """Move what a broker of the user's counts: plain values, and dicts of them by feed."""
    for name in (old.keys() & vars(broker).keys()).difference(BOOKS):
        value = old[name]
        if type(value) in PLAIN:
            setattr(broker, name, value)
        elif type(value) is dict and type(vars(broker)[name]) is dict:
            known = {key: held for key, held in value.items() if _is_known(key) and _is_known(held)}
            setattr(broker, name, known)


def _is_known(value: Any) -> bool:
    """Whether the present code has what a broker's count speaks of: plain values, feeds, strategies."""
    if type(value) is tuple:
        return all(map(_is_known, value))
    return type(value) in PLAIN or isinstance(value, bt.feed.AbstractDataBase | bt.Strategy)


def _adopt_orders(former: Former, broker: Any) -> None:
    """Give the orders the commission schemes of now."""
    for thing in former.reader.memo:
        if isinstance(thing, bt.Order) and isinstance(thing.comminfo, Unknown):
            known = not isinstance(thing.data, Unknown)
            thing.comminfo = broker.getcommissioninfo(thing.data) if known else None


def _move_books(broker: Any, old: dict[str, Any]) -> None:
    for name in BOOKS:
        book = getattr(broker, name, None)
        if book is None:
            continue
        book.clear()
        content = old.get(name)
        if isinstance(content, dict):
            book.update({key: value for key, value in content.items() if not isinstance(key, Unknown)})
        elif content:
            if any(isinstance(order.data, Unknown) and order.alive() for order in content):
                raise EngineError("the former state has an open order in a feed that there is no longer")
            book.extend(order for order in content if not isinstance(order.data, Unknown))


def _move_strategy(former: Former, strategy: Any, old: dict[str, Any]) -> None:
    trades = old.pop("_trades", {})
    for data, by_id in trades.items():
        if not isinstance(data, Unknown):
            shift = len(data) - former.bars_of(former.feeds.index(data._name))
            for kept in by_id.values():
                for trade in kept:
                    trade.baropen += shift
            strategy._trades[data] = by_id
    if hasattr(strategy, "carry_over"):
        strategy.carry_over({name: value for name, value in old.items() if not isinstance(value, Unknown)})
        return
    for name, value in old.items():
        if isinstance(value, bt.Order) and name in vars(strategy):
            setattr(strategy, name, value)


def deepen(built: Built, state: bytes) -> None:
    """Move everything of a state of the same code in, but what is calculated from bars.

    `built` has replayed the bars; feeds, indicators and their lines stay as they are.
    """
    anchors = built.anchors
    datas = built.machine.cerebro.datas
    counts = [len(data) for data in datas]
    calculated = _calculated(built)
    attributes = [
        (instance, instance.names.copy()) for instance in anchors.instances if instance.number in calculated
    ]
    contents = [
        (container, container.kind.save(container.thing))
        for container in anchors.containers
        if container.number in calculated
    ]
    built.load(state)
    shifts = {id(data): count - len(data) for data, count in zip(datas, counts, strict=True)}
    for instance, names in attributes:  # with the tails of lines, which are attributes too
        instance.names.clear()
        instance.names.update(names)
    for container, saved in contents:
        container.kind.restore(container.thing, saved)
    for line in anchors.lines:
        if _is_observed(line):
            _lengthen(line)
    for strategy in built.machine.strategies:
        for data, by_id in strategy._trades.items():
            for trade in (trade for kept in by_id.values() for trade in kept):
                trade.baropen += shifts[id(data)]
        strategy._dlens = [len(data) for data in strategy.datas]


def _calculated(built: Built) -> set[int]:
    """Numbers of feeds, filters and indicators and of the containers that they hold."""
    anchors = built.anchors
    found = {
        number
        for number, thing in enumerate(anchors.objects)
        if isinstance(thing, bt.Indicator | bt.feed.AbstractDataBase)
        or (isinstance(thing, bt.linebuffer.LineBuffer) and not _is_observed(thing))
    }
    for number, holder in enumerate(anchors.holder):
        thing = anchors.objects[number]
        if holder in found and not isinstance(
            thing, bt.Strategy | bt.Observer | bt.Analyzer | bt.BrokerBase | bt.Cerebro
        ):
            found.add(number)
    return found


def _is_observed(line: Any) -> bool:
    return isinstance(line._owner, bt.Observer) or (
        line._owner is None and isinstance(getattr(line, "_clock", None), bt.Observer)
    )


def _lengthen(line: Any) -> None:
    """Give a line of an observer as many bars as its clock now has; what was before is unknown."""
    length = len(line._owner._clock)
    missing = max(length - line.lencount, 0)
    if missing:
        line._tail = type(line._tail)("d", [form.NAN] * missing) + line._tail
        line._idx += missing
        line.lencount = length
