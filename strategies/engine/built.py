"""One built engine: the Backtrader objects, how a state gets into them and out of them again.

The objects are a cache of the bytes. Between any two calls of an `Engine` they are those of the state that
it returned last, or in disorder, and then nobody asks them anything before a `load`.

Why a load is right, whatever the objects went through before:

- The *baseline* is the engine as it was built. The walk (`anchors`) numbers its objects and keeps what they
  held. Engines of one fingerprint build the same objects in the same order, so a number means the
  same in every process. What `__init__` of a strategy fills by chance or by the date is found by building
  twice (`differing`) and then written always (`volatile`); of the rest a state has a digest (`foundation`).
- A *dump* is what differs from the baseline now, found by comparing and not by keeping a list of changes:
  a change that nobody noticed cannot be forgotten.
- A *load* puts back whatever differs, then applies the bytes. In that order, because a state says nothing
  about what is as it was built.

What a dump may leave out, and what makes up for it:

    left out                                         | because
    what is as it was built                          | load restores it
    ticks of a bar, lengths of feeds, a second clock | they follow from the lines (`derived`)
    finished orders, closed trades, their books      | Backtrader never asks for them again (`forgetting`)
    old values of lines                              | a read of them raises HistoryTooShort (`kept_lines`)
    a container that nothing refers to any more      | no code can get at it (`_write_held`)

What is left out is dropped from the objects by the same dump. So an engine that goes on with its objects
and one that loads the bytes decide and write the same: a step is a function of its arguments.

The order of a dump follows from that. What is forgotten goes before anything is written. Objects go
before containers, because what they mention decides which containers are still in use. The broker's books
on orders go last: only when all else is written is it known which orders somebody holds.

Nothing is written to anywhere, so a failure leaves no trace but disorder, which the next load puts right:

    raised in                                   | the caller has      | the next load finds
    drive: the strategy, its broker, Backtrader | the state handed in | objects in the middle of a bar
    dump: NotCarriable, HistoryTooShort         | the state handed in | objects after the bar, half forgotten
    load: StateInvalid, CodeChanged             | bytes of no use     | objects with half of a foreign state

The Engine forgets which state its objects are in before it calls any of these, and knows it again when all
of them are done.
"""

from hashlib import blake2b
from types import NoneType
from typing import Any, Final

import backtrader as bt

from strategies.engine import derived
from strategies.engine.bytes import numeric
from strategies.engine.bytes import state as form
from strategies.engine.bytes.kinds import kind_of
from strategies.engine.bytes.objects import set_attributes
from strategies.engine.bytes.reading import WRONG, Reader
from strategies.engine.bytes.state import Counters
from strategies.engine.bytes.vocabulary import names_of
from strategies.engine.bytes.writing import Writer
from strategies.engine.engine_errors import CodeChanged, NotCarriable, StateInvalid
from strategies.engine.forgetting import books_of, forget_finished, prune
from strategies.engine.machine.cerebro import Configure, Machine
from strategies.engine.machine.kept_lines import is_line
from strategies.engine.machine.record import Recorder
from strategies.engine.walk.anchors import Anchors
from strategies.engine.walk.baseline import PLAIN, Container, Instance
from strategies.engine.walk.fingerprint import fingerprint_of
from strategies.engine.walk.outside_state import ClassAttributes, Globals, refuse_globals
from strategies.values import Feed

END: Final = 0  # where the number of the next object would stand
SET, GONE, ORDERED = 1, 2, 4  # what follows of an object; a larger number is the tag of a container
MAYBE_INT: Final = (int, NoneType)


class Built:
    """One built engine: a machine, its anchors, and the bot's counters."""

    def __init__(self, configure: Configure, feeds: tuple[Feed, ...]) -> None:
        # What is stepped. Its feeds have no ticks yet, as before the first bar of a run.
        self.machine = machine = Machine(configure, feeds)
        for data in machine.cerebro.datas:
            data._tick_nullify()
        # The bot's own memory beside Backtrader's objects: numbers, the last bar, when it may trade.
        self.counters = Counters()
        # Everything that is reachable, numbered, and what it was like: the baseline.
        self.anchors = anchors = Anchors(_roots(machine), machine.horizon)
        machine.horizon.settle(int(anchors.longest))
        machine.horizon.name_of = lambda number: ".".join(anchors.path_of(number)) or "a line"
        # Listens between broker and strategy; what it notes becomes the events of a Step.
        self.recorder = Recorder(machine.tell, machine.cerebro.datas)
        machine.notify = self.recorder.notify
        # Classes and functions that a state of this strategy may name.
        self.names = names_of(tuple({type(instance.thing): None for instance in anchors.instances}))
        # What the strategy keeps where no state reaches: refused if the code shows it, or once it changes.
        refuse_globals(anchors.reached)
        self.class_attributes = ClassAttributes(anchors.reached.classes)
        self.globals = Globals(anchors.reached)
        # A dump puts sets into order, so a strategy that has some needs one at every bar of `catch_up` too.
        self.dumps_each_bar = anchors.reached.uses_sets
        # Whose states these are.
        self.fingerprint = fingerprint_of(feeds, anchors.objects)
        # What other code has to know to read the account out of a state (`rebuild`): names of the feeds and
        # number of strategies, which stand first among the objects, after the broker.
        self.roots = (tuple(data._name for data in machine.cerebro.datas), len(machine.strategies))
        self.named = 1 + len(machine.cerebro.datas) + len(machine.strategies)
        # The tails of all lines, written and read in bulk; and which of them a strategy can name.
        self.line_tails = form.LineTails(anchors.lines)
        self.visible = _visible(machine, anchors)
        # Containers of the strategy's own, digests of them as they were built, and those to write always.
        self.user_containers = [container for container in anchors.containers if container.users]
        self.contents = {container.number: self._digest(container) for container in self.user_containers}
        self.volatile: tuple[int, ...] = ()
        # The broker's books, which are written last.
        self.late = frozenset(
            anchors.numbers[id(book)] for book in books_of(machine.broker) if id(book) in anchors.numbers
        )
        # How many indicators the strategies have. One that is made later would be in no state.
        self.structure = [(strategy, _made(strategy)) for strategy in machine.strategies]
        # Until something is loaded or reset there is nothing to put back.
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

    def _refuse_growth(self) -> None:
        """Raise NotCarriable if the strategy has put something where no state reaches."""
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
            self.volatile, self.foundation(), self.recorder.memory(),
        ):  # fmt: skip
            writer.put(value)

    def _write_instance(self, writer: Writer, instance: Instance) -> None:
        changed, gone, order = instance.difference()
        derived.strip(instance.thing, changed)
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

    def _write_held(self, writer: Writer, changed: list[Container]) -> None:
        """Write the containers that are still in use; what an attribute has let go of is forgotten.

        What the user's containers hold is written with them, so that other code can read them whole.
        """
        dropped = [container for container in self.user_containers if container not in changed]
        for container in changed:
            if self.anchors.is_held(container.number):
                self._write_container(writer, container)
            else:
                dropped.append(container)
        # What is written may mention one that was dropped, which then is written and may mention another.
        while used := [container for container in dropped if container.number in writer.mentioned]:
            dropped = [container for container in dropped if container not in used]
            for container in used:
                self._write_container(writer, container)
        for container in dropped:
            if container in changed:
                container.restore()

    def _write_container(self, writer: Writer, container: Container) -> None:
        writer.size(container.number + 1)
        writer.out.append(container.kind.tag)
        # Of which broker, feed or strategy it is what: for other code, whose numbers are others.
        holder, part = self.anchors.holder[container.number], self.anchors.part[container.number]
        if 0 <= holder < self.named:
            writer.size(holder + 1)
            writer.put(part)
        else:
            writer.size(0)
        self._write_content(writer, container)

    def _write_content(self, writer: Writer, container: Container) -> None:
        try:
            container.kind.write(writer, container.thing)
        except NotCarriable as refusal:
            raise self._located(refusal, container.number) from None

    def _located(self, refusal: NotCarriable, number: int) -> NotCarriable:
        path = (*self.anchors.path_of(number), *refusal.parts)
        return NotCarriable(refusal.what, refusal.remedy, path)

    def _digest(self, container: Container) -> bytes:
        writer = Writer(self.anchors.numbers, self.names)
        self._write_content(writer, container)
        return blake2b(writer.out, digest_size=8).digest()

    def foundation(self) -> bytes:
        """Return a digest of what a state takes for granted: the contents that `__init__` always makes."""
        fixed = b"".join(raw for number, raw in self.contents.items() if number not in self.volatile)
        return blake2b(fixed, digest_size=8).digest() if fixed else b""

    def differing(self, other: "Built") -> tuple[int, ...]:
        """Return the containers that another building filled otherwise, by chance or by date."""
        return tuple(number for number, raw in self.contents.items() if other.contents.get(number) != raw)

    def set_volatile(self, numbers: tuple[int, ...]) -> None:
        """Have these containers written always, and taken for granted never."""
        self.volatile = numbers
        for container in self.user_containers:
            container.always = container.always_at_start or container.number in numbers

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
            self.dump()
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

    def _restore(self) -> None:
        if self._as_built:
            self._as_built = False  # the caller is about to change them
            return
        for instance in self.anchors.changed():
            instance.restore()
        for container in self.anchors.changed_containers():
            container.restore()

    def load(self, state: bytes) -> None:
        """Become what wrote these bytes. Raises StateInvalid or CodeChanged."""
        body = form.unseal(state, self.fingerprint)
        self._restore()
        reader = Reader(body, self.anchors.objects.__getitem__, self.names)
        try:
            self._read_counters(reader)
            self.line_tails.read(reader)
            told = self._read_differences(reader)
            if reader.at != len(body):
                raise StateInvalid("more bytes than a state has")
            # No effect on what a dump wrote; orders that are none fall over here and not in a step.
            prune(self.machine)
            forget_finished(self.machine.broker, [new for new in reader.memo if isinstance(new, bt.Order)])
        except WRONG as exc:
            raise StateInvalid(f"the state is no state of this engine ({type(exc).__name__}: {exc})") from exc
        derived.derive(self.machine, told)

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
        reader.get()  # the roots, which only other code needs to be told
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
        """Apply what differs; return the ids of the objects that said what a state may leave out."""
        told: set[int] = set()
        while (number := reader.size()) != END:
            thing = self.anchors.objects[number - 1]
            flags = reader.take(1)[0]
            if flags > ORDERED | GONE | SET:
                if reader.size():
                    reader.get()  # of which root it is what
                kind_of(type(thing)).fill(reader, thing)
            elif not _apply(reader, thing, flags).isdisjoint(derived.TOLD):
                told.add(id(thing))
        return told


def is_plain(value: Any) -> bool:
    """Whether to look into a value runs no code of anybody's: a line read before its bars would raise."""
    cls = type(value)
    return cls in PLAIN or (cls is tuple and all(map(is_plain, value))) or numeric.is_number(value)


def _apply(reader: Reader, thing: Any, flags: int) -> set[str]:
    """Change the attributes of an object; return the names of those that were set."""
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
    return set(attributes)


def _roots(machine: Machine) -> list[tuple[str, Any]]:
    """Return where the walk begins. The order is part of the format: broker, feeds, strategies, the rest."""
    several = len(machine.strategies) > 1
    return [
        ("broker", machine.broker),
        *((f"data{at}", data) for at, data in enumerate(machine.cerebro.datas)),
        *(
            (f"strategy[{at}]" if several else "strategy", strategy)
            for at, strategy in enumerate(machine.strategies)
        ),
        ("cerebro", machine.cerebro),
    ]


def _visible(machine: Machine, anchors: Anchors) -> frozenset[int]:
    """Lines that a strategy can name. It may look one bar back on any day, so two values are kept."""
    tops = [*machine.cerebro.datas, *machine.strategies]
    for strategy in machine.strategies:
        tops += [below for kind in strategy._lineiterators.values() for below in kind]
    lines = [line for top in tops for line in (top.lines if is_line(top) else top.lines.lines)]
    return frozenset(anchors.numbers[id(line)] for line in lines)


def _made(strategy: Any) -> int:
    return sum(map(len, strategy._lineiterators.values()))
