"""The bytes: exact values both ways, nothing but StateInvalid for bytes of anybody, taking over."""

import math
import random
import struct
import tracemalloc
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from io import StringIO
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import backtrader as bt
import numpy as np
import pytest
from runs import X, bars, configured, stepped

from strategies.engine import CodeChanged, Engine, StateInvalid
from strategies.engine.bytes import tags
from strategies.engine.bytes.kinds import KINDS, NUMPY
from strategies.engine.bytes.reading import READERS, WRONG, Reader
from strategies.engine.bytes.scalars import SCALARS
from strategies.engine.bytes.state import HEADER, seal, unseal
from strategies.engine.bytes.vocabulary import Names
from strategies.engine.bytes.writing import Writer


class Mood(Enum):
    CALM = "calm"


class Rights(Flag):
    READ = 1
    WRITE = 2


class Point:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __repr__(self):
        return f"Point({self.x}, {self.y})"


class Speaking:
    """Its code must not run while a state is read."""

    def _speak(self, *_):
        raise RuntimeError("code ran while a state was read")

    __getitem__ = __iter__ = __len__ = __mod__ = __index__ = __float__ = _speak

    def __eq__(self, other):
        self._speak(other)

    __hash__ = None


NAMES = Names([Point, Mood, Rights, Speaking])


def there_and_back(value):
    writer = Writer({}, NAMES)
    writer.put(value)
    reader = Reader(bytes(writer.out), lambda number: number, NAMES)
    found = reader.get()
    assert reader.at == len(writer.out)
    return found


VALUES = [
    None, True, False, 0, 1, -1, 127, 128, -(10**40), 10**40, 0.0, -0.0, 1.5, 12345.0, -3.0, 5e-324, math.inf,
    "", "a", "é\ud800", "x" * 500, b"", b"\0" * 300, (), (1, (2.5,)), [1, [2]], {1: {2: 3}}, {3, 1, 2},
    frozenset({"a", "b"}), deque([1, 2], maxlen=3), OrderedDict(b=1, a=2), defaultdict(list, {1: [2]}),
    Counter("abca"), datetime(2020, 1, 1, 2, 3, 4, 5),  # noqa: DTZ001 -- naive on purpose
    datetime(2020, 1, 1, tzinfo=UTC),
    date(2020, 2, 29),
    datetime(2020, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1),
    time(1, 2, 3), timedelta(-1, 2, 3),

    datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2), "here")), Decimal("1.10"), Decimal("-Infinity"),
    Fraction(1, 3), 1j, range(3, 9, 2), Mood.CALM, Rights.READ | Rights.WRITE, bytearray(b"q"),
    np.float64(0.1),
    np.int8(-4), int, len, math.sqrt,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_the_same_to_the_last_bit(value):
    found = there_and_back(value)
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_nan_payloads_arrays_generators_and_circles():
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000123))[0]
    assert struct.pack("<d", there_and_back(nan)) == struct.pack("<d", nan)
    array = np.arange(6, dtype="float32").reshape(2, 3).T
    found = there_and_back(array)
    assert found.dtype == array.dtype
    assert (found == array).all()
    rng = random.Random(4)
    rng.random()
    assert there_and_back(rng).random() == rng.random()
    circle = [1]
    circle.append(circle)
    found = there_and_back((circle, circle))
    assert found[0] is found[1] is found[0][1]
    point = there_and_back(Point(1, [2]))
    assert (point.x, point.y) == (1, [2])


WORDS = random.Random(4).getstate()[1]


@pytest.mark.parametrize(
    "state",
    [
        Speaking(), (Speaking(), WORDS, None), (2, [Speaking()], None), (2, WORDS, None),
        (3, Speaking(), None), (3, (Speaking(), *WORDS[1:]), None), (3, WORDS[1:], None),
        (3, WORDS, Speaking()), (3, WORDS), [3, WORDS, None], None,
    ],
)  # fmt: skip
def test_what_is_no_state_of_a_random_generator_is_refused_unheard(state):
    writer = Writer({}, NAMES)
    writer.out.append(tags.RANDOM)
    writer.put(state)
    with pytest.raises((StateInvalid, *WRONG)):
        Reader(bytes(writer.out), lambda number: number, NAMES).get()


class Trader(bt.Strategy):
    params = (("period", 5),)

    def __init__(self):
        self.sma = bt.ind.SMA(period=self.p.period)
        self.order = None
        self.seen = {"bars": 0, "days": deque(maxlen=3)}

    def next(self):
        self.seen["bars"] += 1
        self.seen["days"].append(self.data.datetime.date())
        if self.position:
            self.close()
        elif self.data.close[0] > self.sma[0]:
            self.order = self.buy(size=2)


class Careful(Trader):
    def carry_over(self, old):
        self.seen = old["seen"]
        self.order = old.get("order")


def test_warm_cold_and_caught_up_give_the_same_bytes():
    given = bars(90)
    configure = configured(Trader, stdstats=True)
    _, moved = stepped(configure, given, engines=3)
    _, stayed = stepped(configure, given, engines=1)
    assert [step.state for step in moved] == [step.state for step in stayed]
    engine = Engine(configure, X)
    assert engine.catch_up(engine.initial(), [[bar] for bar in given])[-1].state == stayed[-1].state


def test_bytes_of_anybody_are_refused_and_execute_nothing():
    engine = Engine(configured(Trader), X)
    state = engine.catch_up(engine.initial(), [[bar] for bar in bars(60)])[-1].state
    plain = unseal(state, None)
    mark = bytes.fromhex(engine.fingerprint)
    rng = random.Random(7)
    tracemalloc.start()
    refused = 0
    for _ in range(3000):
        body = bytearray(plain)
        for _ in range(rng.randint(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        if rng.random() < 0.3:
            del body[rng.randrange(len(body)) :]
        try:
            engine._built.load(seal(bytes(body), mark))  # with a checksum that fits
        except (StateInvalid, CodeChanged):
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 1500
    assert peak < 50_000_000
    engine._held = None
    assert (
        engine.step(state, [bars(61)[60]]).state
        == Engine(configured(Trader), X).step(state, [bars(61)[60]]).state
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state[:-1], lambda state: state[: HEADER.size - 1], lambda _: b"", lambda _: None,
        lambda state: b"2BAR" + state[4:], lambda state: state[:4] + b"\x63" + state[5:],
        lambda state: state[:40] + bytes([state[40] ^ 1]) + state[41:],
    ],
)  # fmt: skip
def test_damage_is_named(damage):
    engine = Engine(configured(Trader), X)
    state = engine.initial()
    with pytest.raises(StateInvalid):
        engine.step(damage(state), [bars(1)[0]])
    with pytest.raises(StateInvalid):
        engine.check_state(damage(state))


def _longer(cerebro):
    cerebro.addstrategy(Trader, period=7)
    cerebro.broker.setcommission(0.001)
    cerebro.p.stdstats = False


@pytest.mark.parametrize("other", [configured(Careful), _longer], ids=["code", "parameters"])
def test_changed_code_is_noticed_and_rebuilt_with_its_account(other):
    given = bars(200)
    _, steps = stepped(configured(Trader), given)
    at = next(number for number, step in enumerate(steps) if number > 100 and step.positions)
    engine = Engine(other, X)
    with pytest.raises(CodeChanged):
        engine.step(steps[at].state, [given[at + 1]])
    state = engine.rebuild([[bar] for bar in given[: at + 1]], steps[at].state)
    following = engine.step(state, [given[at + 1]])
    assert following.positions == steps[at + 1].positions
    assert following.cash == steps[at + 1].cash
    assert following.trades == steps[at + 1].trades


class Holder(bt.Strategy):
    """Holds containers that are made from their content, from nothing, and numpy's."""

    def __init__(self):
        self.prices, self.notes, self.latest = array("d"), StringIO(), deque(maxlen=9)
        self.table, self.chance = np.zeros(3), np.random.default_rng(2)

    def next(self):
        self.prices.append(self.data.close[0])
        self.notes.write("x")
        self.latest.append(len(self))
        self.table[0] = self.chance.random()


class Heir(Holder):
    def carry_over(self, old):
        self.got = {name: old[name] for name in ("prices", "notes", "latest", "table", "chance")}


def test_containers_reach_changed_code_as_what_they_were():
    given = [[bar] for bar in bars(20)]
    engine, heir = Engine(configured(Holder), X), Engine(configured(Heir), X)
    heir.rebuild(given, engine.catch_up(engine.initial(), given)[-1].state)
    before, got = engine._built.machine.strategies[0], heir._built.machine.strategies[0].got
    assert got["prices"] == before.prices
    assert got["latest"] == before.latest
    assert got["latest"].maxlen == 9
    assert got["notes"].getvalue() == "x" * len(given)
    assert got["table"].tobytes() == before.table.tobytes()
    assert got["chance"].random() == before.chance.random()


def test_every_tag_is_read_in_one_place():
    homes = [tag for scalar in SCALARS for tag in scalar.read] + [
        kind.tag for kind in (*KINDS.values(), NUMPY)
    ]
    assert len(homes) == len(set(homes))
    assert set(READERS) == set(range(tags.NONE, tags.CLOCK + 1)) - {tags.MISSING}


CLASS_IN_A_METHOD = """
class Written(bt.Strategy):
    def next(self):
        class Local:
            {attribute}
            small, large = 1, 1_000

            def go(self):
                self.{name} = 1
        Local().go()
"""


def _written(lines_above, attribute="x = 2", name="one"):
    names = {"bt": bt, "__name__": __name__}
    exec("\n" * lines_above + CLASS_IN_A_METHOD.format(attribute=attribute, name=name), names)  # noqa: S102
    return Engine(configured(names["Written"]), X).fingerprint


def test_the_line_of_a_class_in_a_method_does_not_count_and_what_it_does_counts():
    # 996 lines above put the class on line 1,000: the same constant as one of its own.
    assert len({_written(lines) for lines in (0, 1, 300, 996, 70_000)}) == 1
    assert len({_written(0), _written(0, attribute="x = 3"), _written(0, name="other")}) == 3


def test_a_bot_gets_a_deeper_history_without_losing_anything():
    given = bars(200)
    engine = Engine(configured(Trader), X)
    late = engine.catch_up(engine.initial(), [[bar] for bar in given[100:150]])[-1].state
    deep = engine.rebuild([[bar] for bar in given[:150]], late)
    for bar in given[150:]:
        one, other = engine.step(late, [bar]), Engine(configured(Trader), X).step(deep, [bar])
        assert (one.cash, one.value, one.positions, one.orders) == (
            other.cash,
            other.value,
            other.positions,
            other.orders,
        )
        assert [event.bars for event in one.trades] == [event.bars for event in other.trades]
        late, deep = one.state, other.state


def a_line(live):
    return live.machine.strategies[0].data.close


def in_the_memory_of_trades(live):
    live.recorder = SimpleNamespace(memory=lambda: a_line(live))


def in_a_trade(live):
    live.recorder = SimpleNamespace(memory=lambda: ((a_line(live),) * 10,))


def as_a_time(live):
    live.counters.stamp = a_line(live)


def as_the_start_of_trading(live):
    live.counters.trade_from = a_line(live)


def among_numbers(live):
    live.volatile = (a_line(live),)


@pytest.mark.parametrize(
    "put", [in_the_memory_of_trades, in_a_trade, as_a_time, as_the_start_of_trading, among_numbers]
)
def test_a_line_where_a_number_belongs_is_not_asked_for_anything(put):
    """Lines compute when they are compared or looked into, and raise when there are no bars yet."""
    engine, forger = Engine(bt.Cerebro.getbroker, X), Engine(bt.Cerebro.getbroker, X)
    forger.initial()
    put(forger._built)
    with pytest.raises(StateInvalid):
        engine.step(forger._built.dump(), (bars(1)[0],))
