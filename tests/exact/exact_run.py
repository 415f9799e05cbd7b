"""The same bars twice: through one plain Backtrader run, and through steps whose state moves between engines.

Nothing here knows how the engine works; it knows Backtrader and the engine's contract.
"""

import importlib
import itertools
import random
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import backtrader as bt
from exact_bars import rows_of, stamp
from exact_record import EventRecorder, LineRecorder, recording

from strategies.engine import Bar, Engine, Feed, HistoryTooShort

_FRAMES = {
    "s": (bt.TimeFrame.Seconds, 1),
    "m": (bt.TimeFrame.Minutes, 1),
    "h": (bt.TimeFrame.Minutes, 60),
    "d": (bt.TimeFrame.Days, 1),
    "w": (bt.TimeFrame.Weeks, 1),
}


@dataclass(frozen=True)
class Case:
    """One configuration over some bars. `origin` (module, function, arguments) makes it again elsewhere."""

    name: str
    configure: Callable[[bt.Cerebro], None]
    feeds: tuple[Feed, ...]
    bars: tuple[tuple[Bar, ...], ...]
    origin: tuple | None = None

    @cached_property
    def rows(self):
        return rows_of(self.feeds, self.bars)

    def recorded(self, cerebro):
        """Configure, then put the recorders last so that they see what everything else did."""
        self.configure(cerebro)
        cerebro.addobserver(LineRecorder)
        cerebro.addanalyzer(EventRecorder, _name="events_seen")

    def engine(self):
        return Engine(self.recorded, self.feeds)


class PlainFeed(bt.feed.DataBase):
    """Bars from memory, stamped with their open time, as any feed of Backtrader's users is written."""

    params = (("bars", ()), ("stamps", ()))

    def start(self):
        super().start()
        self._next_bar = iter(zip(self.p.bars, self.p.stamps, strict=True))

    def _load(self):
        bar, moment = next(self._next_bar, (None, None))
        if bar is None:
            return False
        self.lines.datetime[0] = bt.date2num(datetime.fromtimestamp(moment / 1000, UTC).replace(tzinfo=None))
        for name in ("open", "high", "low", "close", "volume"):
            getattr(self.lines, name)[0] = getattr(bar, name)
        self.lines.openinterest[0] = 0.0
        return True


@dataclass(frozen=True)
class Reference:
    records: list
    strategies: list

    @cached_property
    def labels(self):
        return next((record[1] for record in self.records if record[0] == "labels"), ())


def plain_cerebro(case, count=None):
    """Return a Cerebro with plain feeds of the first `count` rows, configured."""
    cerebro = bt.Cerebro()
    rows = case.rows[:count]
    for number, feed in enumerate(case.feeds):
        bars = tuple(row[number] for row in rows if row[number] is not None)
        frame, factor = _FRAMES[feed.interval[-1]]
        data = PlainFeed(
            bars=bars,
            stamps=tuple(stamp(bar, feed, case.feeds) for bar in bars),
            timeframe=frame,
            compression=factor * int(feed.interval[:-1]),
        )
        cerebro.adddata(data, name=feed.name)
    return cerebro


def reference(case, count=None):
    """Run plain Backtrader over the first `count` rows, all in one, and return what was seen."""
    # The numbers are the process's own in Backtrader; a bot's begin at 1.
    orders, trades = bt.order.OrderBase, bt.Trade
    before = orders.refbasis, trades.refbasis
    orders.refbasis, trades.refbasis = itertools.count(1), itertools.count(1)
    try:
        cerebro = plain_cerebro(case, count)
        case.recorded(cerebro)
        with recording() as records:
            strategies = cerebro.run(runonce=False, preload=True, exactbars=0)
    finally:
        orders.refbasis, trades.refbasis = before
    return Reference(records, strategies)


@dataclass
class Carried:
    """What the steps saw. `ends[i]` is how many records there were after row i."""

    records: list = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    steps: list = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    moves: Counter = field(default_factory=Counter)
    state: bytes = b""

    @property
    def restores(self):
        return sum(count for move, count in self.moves.items() if move != "stay")


def plan(seed, *, fresh=0.1, stay=0.1, swap=0.8, reimport=0.0, process=0.0):
    """Return a function that says by seed, bar by bar, where the state goes next."""
    rng = random.Random(seed)
    kinds = ("fresh", "stay", "swap", "reimport", "process")
    return lambda _: rng.choices(kinds, (fresh, stay, swap, reimport, process))[0]


class _Places:
    """The engines that a state wanders through: two used ones, new ones, ones made of modules read again."""

    def __init__(self, case, process):
        self.case = case
        self.engines = [case.engine(), case.engine()]
        self.process = process

    def initial(self):
        return self.engines[0].initial()

    def step(self, move, state, row, records):
        if move == "process":
            return self.process.step(state, row, records)
        if move == "fresh":
            self.engines[0] = self.case.engine()
        elif move == "swap":
            self.engines.reverse()
        elif move == "reimport":
            self.engines[0] = again(self.case).engine()
        return self.engines[0].step(state, row)


def again(case):
    """Make the case from its module, imported anew: its classes are other objects with the same code."""
    module, function, arguments = case.origin
    # Backtrader finds a parameter's class by the name of its module, so the new one stays in sys.modules.
    sys.modules.pop(module, None)
    made = getattr(importlib.import_module(module), function)(*arguments)
    return made[0] if isinstance(made, tuple) else made


def carry(case, where=None, *, rows=None, process=None, replays=None):
    """Step through the rows, moving the state as `where` says, and return what was seen.

    `replays` is the reference if reads behind the kept history are expected: such a bar is replayed
    from the beginning and what the replay saw is held against it.
    """
    where = where or plan(0)
    places, carried = _Places(case, process), Carried()
    carried.state = places.initial()
    with recording() as records:
        carried.records = records
        for number, row in enumerate(case.rows if rows is None else rows):
            move = where(number)
            carried.moves[move] += 1
            try:
                step = places.step(move, carried.state, row, records)
            except HistoryTooShort:
                if replays is None:
                    raise
                carried.moves["replay"] += 1
                step = _replayed(places, number, records, carried, replays)
            carried.state = step.state
            carried.steps.append(step)
            carried.sizes.append(len(step.state))
            carried.ends.append(len(records))
    return carried


def _replayed(places, number, records, carried, replays):
    before = carried.ends[-1] if carried.ends else 0
    del records[before:]
    step = places.engines[0].replay(places.case.rows[: number + 1])[-1]
    # Attempts that were too short stand before the one that worked; that one ends the list.
    first = next(index for index in range(len(records) - 1, -1, -1) if records[index][0] == "labels")
    # What came before the first bar's labels (cash of that bar) belongs to the run as well.
    lead = next(index for index, record in enumerate(replays.records) if record[0] == "labels")
    attempt = records[first - lead :]
    records[:] = attempt
    return step


def difference(expected, found):
    """Return what differs first, or None. `found` may be shorter: the caller knows how long it must be."""
    for number, (old, new) in enumerate(zip(expected.records, found.records, strict=False)):
        if old != new:
            return f"record {number}: " + _explained(old, new, expected.labels)
    if len(found.records) > len(expected.records):
        return f"{len(found.records)} records, expected {len(expected.records)}"
    return None


def _explained(old, new, labels):
    if old[0] != "bar" or new[0] != "bar" or len(old[2]) != len(new[2]):
        return _apart(old, new, str(old[0]))
    for index, (left, right) in enumerate(
        zip(*(struct.iter_unpack("8s", each[2]) for each in (old, new)), strict=True)
    ):
        if left != right:
            a, b = (struct.unpack("d", each[0])[0] for each in (left, right))
            label = labels[index] if index < len(labels) else index
            return f"bar {old[1]}, {label}: expected {a!r}, found {b!r}"
    return f"bar {old[1]}: " + _apart(old[3:], new[3:], "faults, lengths, account, positions")


def _apart(old, new, path):
    """Name the first place within nested tuples where two records differ."""
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            if left != right:
                return _apart(left, right, f"{path}[{number}]")
    return f"{path}: expected {old!r}, found {new!r}"


def assert_same(case, expected, carried, *, whole=True):
    """All that was seen is equal, and nothing is missing.

    `whole` is False where plain Backtrader says more at the end than a bot can know (last partial
    bars of resampling): then only as much must be there as came before the last row.
    """
    found = difference(expected, carried)
    assert found is None, f"{case.name}: {found}"
    if whole:
        assert len(carried.records) == len(expected.records), case.name
    else:
        assert carried.ends[-1] > carried.ends[0], case.name
    assert any(record[0] == "bar" for record in carried.records), f"{case.name}: nothing was recorded"


def check(case, where=None, **options):
    """Run a case both ways, compare, and return what was carried."""
    whole = options.pop("whole", True)
    expected = reference(case)
    if options.pop("may_replay", False):
        options["replays"] = expected
    carried = carry(case, where, **options)
    assert_same(case, expected, carried, whole=whole)
    return carried
