"""The Backtrader objects of one engine, and how a state gets into them and out of them again.

The objects are a cache: whatever a step leaves in them is in the bytes of `dump`, and `load` makes
them what they were when those bytes were written, whoever used them in between. A step that raises
leaves them in disorder, which the next `load` repairs, because it trusts nothing but the baseline.
"""

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from types import NoneType
from typing import Any, Final

import backtrader as bt

from strategies.engine.bytes import numeric
from strategies.engine.bytes import state as form
from strategies.engine.bytes.reading import CONTENTS as READ_CONTENTS
from strategies.engine.bytes.reading import WRONG, Reader, set_attributes
from strategies.engine.bytes.state import Counters
from strategies.engine.bytes.vocabulary import names_of, remembered
from strategies.engine.bytes.writing import CONTAINER_TAGS, CONTENTS, NDARRAY, Writer
from strategies.engine.engine_errors import CodeChanged, HistoryTooShort, NotCarriable, StateInvalid
from strategies.engine.machine.cerebro import Configure, Machine
from strategies.engine.machine.feed import TICKS
from strategies.engine.machine.kept_lines import is_line
from strategies.engine.machine.record import Recorder
from strategies.engine.walk.anchors import Anchors
from strategies.engine.walk.baseline import PLAIN, Container, Instance
from strategies.engine.walk.fingerprint import fingerprint_of
from strategies.engine.walk.outside_state import ClassAttributes, Globals, refuse_globals
from strategies.values import Feed

END: Final = 0
SET, GONE, ORDERED = 1, 2, 4
MAYBE_INT: Final = (int, NoneType)
MOMENTS: Final = ("_dtmaster", "_udtmaster")
DROPPED_WHEN_EMPTY: Final = ("_orderspending", "_tradespending")


class Live:
    """One built engine: a machine, its anchors, and the bot's counters."""

    def __init__(self, configure: Configure, feeds: tuple[Feed, ...]) -> None:
        self.machine = machine = Machine(configure, feeds)
        self.counters = Counters()
        gate(machine.broker)
        for data in machine.cerebro.datas:
            data._tick_nullify()
        self.horizon = horizon = machine.horizon
        self.anchors = anchors = Anchors(_roots(machine), horizon)
        horizon.settle(int(anchors.longest))
        horizon.name_of = lambda number: ".".join(anchors.path_of(number)) or "a line"
        self.recorder = Recorder(machine.tell, machine.cerebro.datas)
        machine.notify = self.recorder.notify
        self.names = names_of(tuple({type(each.thing): None for each in anchors.instances}))
        refuse_globals(anchors.reached)
        self.class_attributes = ClassAttributes(anchors.reached.classes)
        self.globals = Globals(anchors.reached)
        self.dumps_each_bar = anchors.reached.uses_sets
        self.fingerprint = fingerprint_of(feeds, anchors.objects)
        self.roots = (tuple(data._name for data in machine.cerebro.datas), len(machine.strategies))
        self.named = 1 + len(machine.cerebro.datas) + len(machine.strategies)
        self.line_tails = form.LineTails(anchors.lines)
        self.visible = _visible(machine, anchors)
        self.user_containers = [each for each in anchors.containers if each.users]
        self.contents = {each.number: self._content(each) for each in self.user_containers}
        self.volatile: tuple[int, ...] = ()
        self.late = _late(anchors, machine.broker)
        self.structure = [(strategy, _made(strategy)) for strategy in machine.strategies]
        self._as_built = True

    def dump(self) -> bytes:
        """Return the bytes of what is now. Changes nothing that a strategy could see."""
        self._refuse_growth()
        form.trim_lines(self.anchors.lines)
        prune(self.machine)
        writer = Writer(self.anchors.numbers, self.names)
        self._write_counters(writer)
        self.line_tails.write(writer.out)
        for instance in self.anchors.changed():
            self._write_instance(writer, instance)
        changed = self.anchors.changed_containers()
        self._write_held(writer, [container for container in changed if container.number not in self.late])
        forget_finished(self.machine.broker, writer.orders)
        for container in changed:
            if container.number in self.late and container.changed():
                self._write_container(writer, container)
        writer.size(END)
        return form.seal(bytes(writer.out), self.fingerprint)

    def _write_held(self, writer: Writer, changed: list[Container]) -> None:
        """Write the containers that are still in use; what an attribute has let go of is forgotten.

        What the user's containers hold is written with them, so that other code can read them whole.
        """
        dropped = [each for each in self.user_containers if each not in changed]
        for container in changed:
            if self.anchors.is_held(container.number):
                self._write_container(writer, container)
            else:
                dropped.append(container)
        while used := [container for container in dropped if container.number in writer.mentioned]:
            dropped = [container for container in dropped if container not in used]
            for container in used:
                self._write_container(writer, container)
        for container in dropped:
            if container in changed:
                container.restore()

    def _refuse_growth(self) -> None:
        self.class_attributes.refuse_changes()
        self.globals.refuse_changes()
        for strategy, made in self.structure:
            if _made(strategy) != made:
                raise NotCarriable("an indicator made after the start", "make it in __init__", ("strategy",))

    def _write_counters(self, writer: Writer) -> None:
        counters, numbers = self.counters, self.machine.numbers
        counters.next_order, counters.next_trade = numbers.orders.upcoming, numbers.trades.upcoming
        for value in (
            counters.next_order, counters.next_trade, counters.stamp, counters.trade_from, self.roots,
            self.volatile, self.foundation(),
            self.recorder.memory(),
        ):  # fmt: skip
            writer.put(value)

    def _write_instance(self, writer: Writer, instance: Instance) -> None:
        changed, gone, order = instance.difference()
        _strip(instance.thing, changed)
        if not changed and not gone and order is None:
            return
        writer.size(instance.number + 1)
        writer.out.append(
            (SET if changed else 0) | (GONE if gone else 0) | (ORDERED if order is not None else 0)
        )
        try:
            if changed:
                writer.attributes(changed)
            for names in (gone, order):
                if names:
                    writer.put(tuple(names))  # a list would get a number, and its address another owner
        except NotCarriable as refusal:
            raise self._located(refusal, instance.number) from None

    def _write_container(self, writer: Writer, container: Container) -> None:
        writer.size(container.number + 1)
        kind = container.base or type(container.thing)
        writer.out.append(CONTAINER_TAGS.get(kind, NDARRAY))
        holder, part = self.anchors.holder[container.number], self.anchors.part[container.number]
        if 0 <= holder < self.named:
            writer.size(holder + 1)
            writer.put(part)
        else:
            writer.size(0)
        try:
            write: Any = CONTENTS.get(kind, numeric.content)
            write(writer, container.thing)
        except NotCarriable as refusal:
            raise self._located(refusal, container.number) from None

    def _located(self, refusal: NotCarriable, number: int) -> NotCarriable:
        path = (*self.anchors.path_of(number), *refusal.parts)
        return NotCarriable(refusal.what, refusal.remedy, path)

    def _content(self, container: Container) -> bytes:
        """Return a digest of a container as it was built."""
        writer = Writer(self.anchors.numbers, self.names)
        kind = container.base or type(container.thing)
        try:
            write: Any = CONTENTS.get(kind, numeric.content)
            write(writer, container.thing)
        except NotCarriable as refusal:
            raise self._located(refusal, container.number) from None
        return blake2b(writer.out, digest_size=8).digest()

    def foundation(self) -> bytes:
        """Return a digest of what a state takes for granted: the contents that `__init__` always makes."""
        fixed = b"".join(raw for number, raw in self.contents.items() if number not in self.volatile)
        return blake2b(fixed, digest_size=8).digest() if fixed else b""

    def differing(self, other: "Live") -> tuple[int, ...]:
        """Return the containers that another building filled otherwise, by chance or by date."""
        return tuple(number for number, raw in self.contents.items() if other.contents.get(number) != raw)

    def set_volatile(self, numbers: tuple[int, ...]) -> None:
        """Have these containers written always, and taken for granted never."""
        self.volatile = numbers
        for each in self.user_containers:
            each.always = each.always_at_start or each.number in numbers

    def drive(self, values: list[tuple[int, tuple[float, ...]]], stamp: int) -> None:
        """Push the bars of one step, by index of the feed, and run the loop over them."""
        machine, counters = self.machine, self.counters
        for at, bar in values:
            machine.pushed[at].queue.append(bar)
        counters.stamp = stamp
        machine.cerebro.closed = counters.trade_from is not None and stamp < counters.trade_from
        with machine.numbers:
            machine.passes()
        machine.cerebro.closed = False

    def tidy(self) -> None:
        """Do what a dump does to the objects, for bars after which no state is written."""
        if self.dumps_each_bar:
            self.dump()  # puts sets into the order that they have after a load
            return
        form.trim_lines(self.anchors.lines)
        prune(self.machine)

    def reset(self, depths: dict[int, int]) -> None:
        """Become the state before the first bar, keeping `depths` values of the lines named."""
        self._restore()
        self.counters = Counters()
        numbers = self.machine.numbers
        numbers.orders.upcoming = numbers.trades.upcoming = 1
        self.recorder.remember(())
        for line in self.anchors.lines:
            line.reset()
            least = 1 if line._number in self.visible else 0
            line._floor = min(-least, 1 - depths.get(line._number, 1))

    def analysis(self) -> dict[str, Any]:
        """End the analyzers as a run's end would; the objects have to be loaded anew afterwards.

        One that walks over more history than is kept has HistoryTooShort for its result.
        """
        found: dict[str, Any] = {}
        for at, strategy in enumerate(self.machine.strategies):
            for name, analyzer in strategy.analyzers.getitems():
                try:
                    analyzer._stop()
                    result = plain_copy(analyzer.get_analysis())
                except HistoryTooShort as short:
                    result = short  # the others have theirs
                found[name if not at else f"{at}.{name}"] = result
        return found

    def _restore(self) -> None:
        if self._as_built:
            self._as_built = False  # whoever comes here is about to change them
            return
        for instance in self.anchors.changed():
            instance.restore()
        for container in self.anchors.changed_containers():
            container.restore()

    def load(self, state: bytes) -> None:
        """Become what wrote these bytes. Raises StateInvalid or CodeChanged."""
        body = form.unseal(state, self.fingerprint)
        self._restore()
        reader = Reader(body, self._anchor, self.names)
        try:
            self._read_counters(reader)
            self.line_tails.read(reader)
            told = self._read_differences(reader)
            if reader.at != len(body):
                raise StateInvalid("more bytes than a state has")
            # No effect on what a dump wrote; orders that are none fall over here and not in a step.
            prune(self.machine)
            forget_finished(self.machine.broker, [each for each in reader.memo if isinstance(each, bt.Order)])
        except WRONG as exc:
            raise StateInvalid(f"the state is no state of this engine ({type(exc).__name__}: {exc})") from exc
        self._derive(told)

    def _anchor(self, number: int) -> Any:
        return self.anchors.objects[number]

    def _read_counters(self, reader: Reader) -> None:
        counters = self.counters
        counters.next_order, counters.next_trade = reader.get(), reader.get()
        counters.stamp, counters.trade_from = reader.get(), reader.get()
        if type(counters.next_order) is not int or type(counters.next_trade) is not int:
            raise StateInvalid("order numbers that are no numbers")
        if type(counters.stamp) not in MAYBE_INT or type(counters.trade_from) not in MAYBE_INT:
            raise StateInvalid("times that are no numbers")
        self.machine.numbers.orders.upcoming = counters.next_order
        self.machine.numbers.trades.upcoming = counters.next_trade
        reader.get()
        volatile, foundation = reader.get(), reader.get()
        if type(volatile) is not tuple or type(foundation) is not bytes or not is_plain(volatile):
            raise StateInvalid("no numbers of containers")
        self.set_volatile(volatile)
        if foundation != self.foundation():
            raise CodeChanged(
                "__init__ of the strategy does not make what it made when the state was written (a file, the"
                " date or chance decides): make it depend on parameters only, or rebuild with Engine.rebuild"
            )
        memory = reader.get()
        if type(memory) is not tuple or not is_plain(memory):
            raise StateInvalid("open trades that are none")
        self.recorder.remember(memory)

    def _read_differences(self, reader: Reader) -> set[int]:
        """Apply what differs; return the numbers of the feeds and strategies whose attributes were told."""
        told: set[int] = set()
        while (number := reader.size()) != END:
            thing = self.anchors.objects[number - 1]
            flags = reader.take(1)[0]
            if flags > ORDERED | GONE | SET:
                if reader.size():
                    reader.get()  # of which root it is what, for who reads it with other code
                _fill(reader, thing)
                continue
            if _apply(reader, thing, flags):
                told.add(number - 1)
            elif thing is self.machine.cerebro and MOMENTS[0] in (names := thing.__dict__):
                names.setdefault(MOMENTS[1], names[MOMENTS[0]])
        return told

    def _derive(self, told: set[int]) -> None:
        """Set what a state leaves out because it follows from the rest."""
        numbers = self.anchors.numbers
        for data in self.machine.cerebro.datas:
            if len(data) and numbers[id(data)] not in told:
                data._tick_fill(force=True)
        for strategy in self.machine.strategies:
            if numbers[id(strategy)] not in told:
                strategy._dlens = [len(data) for data in strategy.datas]


def is_plain(value: Any) -> bool:
    """Whether to look into a value runs no code of anybody's: a line read before its bars would raise."""
    cls = type(value)
    return cls in PLAIN or (cls is tuple and all(map(is_plain, value))) or numeric.is_number(value)


def _apply(reader: Reader, thing: Any, flags: int) -> bool:
    """Change the attributes of an object; say whether those were told that a state may leave out."""
    attributes: dict[str, Any] = {}
    if flags & SET:
        attributes = reader.attributes()
        set_attributes(thing, attributes)
    if flags & GONE:
        for name in reader.get():
            object.__delattr__(thing, name)
    if flags & ORDERED:
        names = vars(thing)
        values = [(name, names.pop(name)) for name in reader.get()]
        names.update(values)
    return TICKS[0] in attributes or "_dlens" in attributes


def _fill(reader: Reader, thing: Any) -> None:
    for base in type(thing).__mro__:
        if base in READ_CONTENTS:
            READ_CONTENTS[base](reader, thing)
            return
    numeric.fill(reader, thing)


def _strip(thing: Any, changed: dict[str, Any]) -> None:
    """Leave out what follows from the lines: the ticks of a bar, the lengths of the feeds."""
    if isinstance(thing, bt.feed.AbstractDataBase):
        if _ticks_are_the_bar(thing):
            for name in TICKS:
                changed.pop(name, None)
        else:
            changed.update({name: getattr(thing, name) for name in TICKS})
    elif isinstance(thing, bt.Cerebro):
        if same_moment(changed.get(MOMENTS[0]), changed.get(MOMENTS[1])):
            del changed[MOMENTS[1]]
    elif isinstance(thing, bt.Strategy):
        _strip_strategy(thing, changed)


def _strip_strategy(strategy: Any, changed: dict[str, Any]) -> None:
    if strategy._dlens == [len(data) for data in strategy.datas]:
        changed.pop("_dlens", None)
    for name in DROPPED_WHEN_EMPTY:
        if not changed.get(name, True):
            del changed[name]


def same_moment(one: Any, other: Any) -> bool:
    """Whether two moments of Backtrader's clock, local and UTC, are written alike."""
    return type(one) is type(other) is datetime and one.tzinfo is other.tzinfo is None and one == other


def _ticks_are_the_bar(data: Any) -> bool:
    if not len(data):
        return False
    names = vars(data)
    bar = [line._tail[line._idx] for line in data.lines.lines[: len(TICKS) - 1]]
    return [names[tick] for tick in TICKS] == [*bar, bar[0]]


def prune(machine: Machine) -> None:
    """Drop what grows for ever and is never read again."""
    orders = getattr(machine.broker, "orders", None)
    if orders:
        orders[:] = [order for order in orders if order.alive()]
    for strategy in machine.strategies:
        strategy._orders.clear()
        for of_feed in strategy._trades.values():
            for trades in of_feed.values():
                if len(trades) > 1:
                    del trades[:-1]


def forget_finished(broker: Any, orders: list[Any]) -> None:
    """Drop the broker's books on orders that nobody holds any more: nothing can ask for them."""
    if not isinstance(broker, bt.brokers.BackBroker):
        return
    held = {order.ref for order in orders}
    leaders = {broker._ocos[ref] for ref in held if ref in broker._ocos}
    for book in (broker._ocos, broker._ocol):
        for ref in [ref for ref in book if ref not in held and ref not in leaders]:
            del book[ref]
    children = broker._pchildren
    for ref in [ref for ref, kept in children.items() if ref not in held and not any(map(_is_alive, kept))]:
        del children[ref]


def _is_alive(order: Any) -> bool:
    return bool(order.alive())


def _late(anchors: Anchors, broker: Any) -> frozenset[int]:
    books = (getattr(broker, name, None) for name in ("_ocos", "_ocol", "_pchildren"))
    return frozenset(anchors.numbers[id(book)] for book in books if id(book) in anchors.numbers)


def _roots(machine: Machine) -> list[tuple[str, Any]]:
    several = len(machine.strategies) > 1
    return [
        ("broker", machine.broker),
        *((f"data{at}", data) for at, data in enumerate(machine.cerebro.datas)),
        *((f"strategy[{at}]" if several else "strategy", each) for at, each in enumerate(machine.strategies)),
        ("cerebro", machine.cerebro),
    ]


def _visible(machine: Machine, anchors: Anchors) -> frozenset[int]:
    """Lines that a strategy can name. It may look one bar back on any day, so two values are kept."""
    tops = [*machine.cerebro.datas, *machine.strategies]
    for strategy in machine.strategies:
        tops += [each for kind in strategy._lineiterators.values() for each in kind]
    lines = [line for top in tops for line in (top.lines if is_line(top) else top.lines.lines)]
    return frozenset(anchors.numbers[id(line)] for line in lines)


def _made(strategy: Any) -> int:
    return sum(map(len, strategy._lineiterators.values()))


def gate(broker: Any) -> None:
    """Let the broker reject what is submitted while trading is not allowed, in Backtrader's own way."""
    broker.__class__ = _gated(type(broker))


@remembered
def _gated(original: Any) -> type:
    inner: Callable[..., Any] = original.submit

    def submit(self: Any, order: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.cerebro.closed:
            return inner(self, order, *args, **kwargs)
        order.reject()
        self.notify(order)
        return order

    attributes = {"submit": submit, "__module__": original.__module__, "__qualname__": original.__qualname__}
    made: type = type.__new__(type(original), original.__name__, (original,), attributes)
    return made


def plain_copy(value: Any) -> Any:
    """Return a copy in dicts and lists, detached from the engine's objects."""
    if isinstance(value, dict):
        return {key: plain_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (
            type(value)(plain_copy(item) for item in value) if type(value) in {list, tuple} else list(value)
        )
    return value
