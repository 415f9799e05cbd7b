"""The state: hostile bytes, size and age, purity, and what a changed strategy means."""

import itertools
import os
import random
import resource
import sys
import tracemalloc
import zlib
from collections import Counter
from statistics import median

import backtrader as bt
import pytest
from exact_bars import random_bars
from exact_orders import Trader, trader_case
from exact_process import OtherProcess, step_text
from exact_record import recording
from exact_run import Case, assert_same, carry, check, plan, reference
from exact_strategies import strategy_case

from strategies.engine import CodeChanged, Feed, StateInvalid
from strategies.engine.bytes.state import seal, unseal

SLOW = pytest.mark.skipif(os.environ.get("ONEBAR_EXACT") != "1", reason="behind make exact")
SEED = int(os.environ.get("ONEBAR_SEED", "1"))
HOSTILE = ("import", "exec", "compile", "open", "os.system", "subprocess.Popen", "socket.connect")
_watch = {"on": False}
_heard = Counter()


def _hear(event, _):
    if _watch["on"] and event in HOSTILE:
        _heard[event] += 1


sys.addaudithook(_hear)


def _states(case, count):
    carried = carry(case, plan(1), rows=case.rows[:count])
    return carried.state, case.rows[count]


def _flipped(rng, state, place, _):
    return state[:place] + bytes([state[place] ^ (1 << rng.randrange(8))]) + state[place + 1 :]


def _spliced(rng, state, place, others):
    other = rng.choice(others)
    return state[:place] + other[rng.randrange(len(other)) :]


def _replaced(rng, state, place, _):
    return state[:place] + rng.randbytes(rng.randint(1, 40)) + state[place + rng.randint(0, 40) :]


def _believed(rng, state, place, _):
    """Put a huge length somewhere: that is where a decoder believes too much."""
    return state[:place] + rng.choice((b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7)) + state[place + 4 :]


MUTATIONS = (
    lambda _, state, place, __: state[:place],
    _flipped,
    _spliced,
    _replaced,
    lambda rng, *_: rng.randbytes(rng.randrange(300)),
    lambda rng, state, *_: state + rng.randbytes(rng.randint(1, 9)),
    _believed,
    lambda rng, state, *_: state[:4] + rng.randbytes(len(state) - 4),
)


def _mutated(rng, state, others):
    kind = rng.randrange(len(MUTATIONS))
    return kind, MUTATIONS[kind](rng, state, rng.randrange(len(state)), others)


def _attack(engine, row, states, count, seed):
    rng, results = random.Random(seed), Counter()
    modules = set(sys.modules)
    _heard.clear()
    with recording() as records:
        for _ in range(count):
            state = rng.choice(states)
            kind, hostile = _mutated(rng, state, states)
            if hostile in states:
                continue
            _watch["on"] = True
            try:
                engine.step(hostile, row)
            except (StateInvalid, CodeChanged) as error:
                results[type(error).__name__ if str(error) else "says nothing"] += 1
            else:
                raise AssertionError(f"a damaged state (kind {kind}) was stepped")
            finally:
                _watch["on"] = False
            results[f"kind {kind}"] += 1
    assert not records
    assert not results["says nothing"]
    assert set(sys.modules) == modules
    assert not _heard
    return results


def _attacked_cases():
    for case in (
        trader_case(seed=3, count=90, feeds=2),
        strategy_case("Containers", 60),
        strategy_case("References", 60),
    ):
        yield case, [_states(case, count)[0] for count in (0, 1, 30, 55)], case.rows[56]


@pytest.mark.parametrize("number", range(3))
def test_hostile_states_raise_and_do_nothing(number):
    case, states, row = list(_attacked_cases())[number]
    engine = case.engine()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = _attack(engine, row, states, 7_000, SEED * 10 + number)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sum(results[f"kind {kind}"] for kind in range(8)) > 6_900
    assert grown < 50_000, f"{grown} KB more memory"
    # The engine is as good as before.
    with recording():
        assert (
            engine.step(states[-2], case.rows[30]).state
            == case.engine().step(states[-2], case.rows[30]).state
        )


def test_hostile_states_take_no_memory():
    case, states, row = next(iter(_attacked_cases()))
    engine = case.engine()
    tracemalloc.start()
    try:
        _attack(engine, row, states, 300, SEED)
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        _attack(engine, row, states, 1_500, SEED + 1)
        peak = tracemalloc.get_traced_memory()[1] - start
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000


def _resealed(count, seed):
    """Load and dump states whose bodies were damaged and sealed again, with the right checksum."""
    results = Counter()
    for number, (case, states, _) in enumerate(_attacked_cases()):
        engine, rng = case.engine(), random.Random(seed + number)
        made_by = bytes.fromhex(engine.fingerprint)
        bodies = [unseal(state, made_by) for state in states]
        modules = set(sys.modules)
        _heard.clear()
        with recording():
            for _ in range(count):
                hostile = seal(_mutated(rng, rng.choice(bodies), bodies)[1], made_by)
                _watch["on"] = True
                try:
                    engine.trading_from(hostile, None)
                except (StateInvalid, CodeChanged) as error:
                    results[type(error).__name__] += 1
                else:
                    results["another state"] += 1
                finally:
                    _watch["on"] = False
        assert set(sys.modules) == modules
        assert not _heard
    return results


def test_resealed_states_are_refused_or_are_other_states():
    results = _resealed(2_500, SEED)
    assert sum(results.values()) == 7_500
    assert results["StateInvalid"] > 5_000


@SLOW
@pytest.mark.timeout(7200)
def test_many_resealed_states():
    print(dict(_resealed(100_000, SEED * 1_000)))


@SLOW
@pytest.mark.timeout(7200)
def test_a_million_mutations():
    total = Counter()
    for number, (case, states, row) in enumerate(_attacked_cases()):
        total += _attack(case.engine(), row, states, 340_000, SEED * 100 + number)
    print(dict(total))
    assert sum(total[f"kind {kind}"] for kind in range(8)) > 1_000_000


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\x00",
        b"x" * 10_000,
        b"\x80\x04\x95",
        zlib.compress(b"\0" * 50_000_000),
        None,
        "text",
        5,
        bytearray(b"a"),
    ],
)
def test_junk_is_no_state(junk):
    case = strategy_case("NoIndicators", 30)
    with recording(), pytest.raises(StateInvalid):
        case.engine().step(junk, case.rows[0])


def _busy_case(count):
    def configure(cerebro):
        cerebro.broker.setcommission(commission=0.0002)
        cerebro.addstrategy(Trader, actions=("market", "close_position", "bracket", "described"), often=0.5)

    return Case("busy", configure, (Feed("A", "1h"),), (random_bars(11, count),))


def _sizes(case, ends):
    """Return the median size of the 60 states that follow each of `ends`, and the order events."""
    engine = case.engine()
    state, sizes, last, orders = engine.initial(), {}, 0, 0
    with recording() as records:
        for end in ends:
            while last < end:
                steps = engine.catch_up(state, case.rows[last : min(end, last + 2_000)])
                orders += sum(len(step.orders) for step in steps)
                state, last = steps[-1].state, min(end, last + 2_000)
                records.clear()
            found = []
            for row in case.rows[last : last + 60]:
                step = engine.step(state, row)
                state, last = step.state, last + 1
                found.append(len(step.state))
            sizes[end] = median(found)
    return sizes, orders


def test_size_does_not_depend_on_age():
    sizes, orders = _sizes(_busy_case(10_060), (1_000, 10_000))
    assert orders > 10_000
    assert abs(sizes[10_000] / sizes[1_000] - 1) <= 0.05, sizes


@SLOW
@pytest.mark.timeout(3600)
def test_size_after_100_000_bars():
    sizes, _ = _sizes(_busy_case(100_060), (1_000, 10_000, 100_000))
    print(sizes)
    assert abs(sizes[100_000] / sizes[1_000] - 1) <= 0.05, sizes


def test_the_same_bytes_whatever_the_engine():
    """Warm, cold, used for another bot, after another branch, elsewhere: the step is a pure function."""
    case = trader_case(seed=6, count=100, feeds=2)
    other = trader_case(seed=6, count=100, feeds=2)
    warm, used = case.engine(), other.engine()
    state, foreign = warm.initial(), used.initial()
    assert state == foreign
    with recording(), OtherProcess(case) as process:
        for number, row in enumerate(case.rows):
            step = warm.step(state, row)
            # The used engine is another bot's now and then, one that saw only some of the bars.
            if number % 9 == 8:
                foreign = used.step(foreign, row).state
            results = [used.step(state, row), used.step(state, row)]
            if number % 10 == 0:
                results.append(case.engine().step(state, row))
            assert all(each == step for each in results)
            if number % 10 == 5:
                elsewhere = process.step(state, row, [])
                assert (elsewhere.state, elsewhere.text) == (step.state, step_text(step))
            state = step.state


def test_initial_states_are_equal_everywhere():
    case = strategy_case("Containers", 30)
    assert case.engine().initial() == case.engine().initial()
    assert case.engine().fingerprint == case.engine().fingerprint


@pytest.mark.parametrize("pieces", [(200,), (1, 3, 50, 146), (100, 100)])
def test_catch_up_is_the_same_as_step_by_step(pieces):
    case = trader_case(seed=9, count=190, feeds=2)
    carried = check(case, plan(1))
    engine = case.engine()
    state, steps, rows = engine.initial(), [], iter(case.rows)
    with recording() as records:
        for piece in (*pieces, 1_000):
            part = list(itertools.islice(rows, piece))
            if not part:
                break
            done = engine.catch_up(state, part)
            assert all(step.state == b"" for step in done[:-1])
            steps += done
            state = done[-1].state
    assert state == carried.state
    assert records == carried.records
    assert [step_text(step) for step in steps] == [step_text(step) for step in carried.steps]


class Refusing(bt.brokers.BackBroker):
    """Plain Backtrader's broker that rejects every order until a moment, as it rejects an order itself."""

    params = (("until", 0.0),)

    def submit(self, order, check=True):
        if order.data.datetime[0] < self.p.until:
            order.reject(self)
            self.notify(order)
            return order
        return super().submit(order, check)


@pytest.mark.parametrize("late", [False, True])
def test_no_trading_before_a_moment(late):
    """Orders of earlier bars are rejected and nothing else changes, whether said at first or later."""
    case = trader_case(("market", "bracket", "limit"), seed=4, count=120)
    moment = case.rows[60][0].open_time

    def configure(cerebro):
        cerebro.broker = Refusing(until=bt.date2num(bt.num2date(_stamped(moment))))
        case.configure(cerebro)

    expected = reference(Case("refusing", configure, case.feeds, case.bars))
    engine = case.engine()
    state = engine.trading_from(engine.initial(), moment) if late else engine.initial(trade_from=moment)
    before = []
    with recording() as records:
        for number, row in enumerate(case.rows):
            step = engine.step(state, row)
            state = step.state
            if number < 60:
                before += step.orders
    statuses = {event.status for event in before}
    assert statuses == {"Rejected"}
    assert len(before) > 10
    assert _seen(records) == _seen(expected.records)


def _stamped(moment):
    return moment / 86_400_000 + 719_163


def _seen(records):
    return [record for record in records if record[0] in {"bar", "cash", "note"}]


def test_trading_stopped_and_taken_up_again():
    case = trader_case(("market",), seed=4, count=120)
    engine = case.engine()
    state = engine.initial()
    given = Counter()
    with recording():
        for number, row in enumerate(case.rows):
            if number == 40:
                state = engine.trading_from(state, case.rows[80][0].open_time)
            if number == 70:
                state = engine.trading_from(state, None)
            step = engine.step(state, row)
            state = step.state
            given.update((number // 10 * 10, event.status) for event in step.orders)
    assert all(given[each, "Submitted"] == 0 for each in (50, 60))
    assert given[50, "Rejected"] > 0
    assert given[80, "Completed"] > 0


def _sma_case(period=5, name="A", interval="1h", cash=10_000.0, made=None):
    class Averaging(bt.Strategy):
        params = (("period", 5),)

        def __init__(self):
            self.sma = bt.indicators.SMA(period=self.p.period)

        def next(self):
            if self.data.close[0] > self.sma[0]:
                self.buy()

    def configure(cerebro):
        cerebro.broker.setcash(cash)
        cerebro.addstrategy(made or Averaging, period=period)

    return Case("changed", configure, (Feed(name, interval),), (random_bars(1, 60, interval),))


class OtherCode(bt.Strategy):
    params = (("period", 5),)

    def __init__(self):
        self.sma = bt.indicators.SMA(period=self.p.period)

    def next(self):
        if self.data.close[0] < self.sma[0]:
            self.buy()


@pytest.mark.parametrize(
    "changed",
    [
        _sma_case(period=6),
        _sma_case(name="B"),
        _sma_case(interval="5m"),
        _sma_case(made=OtherCode),
        strategy_case("NoIndicators"),
    ],
)
def test_changed_code_or_parameters_are_told(changed):
    case = _sma_case()
    carried = carry(case, plan(1), rows=case.rows[:20])
    assert changed.engine().fingerprint != case.engine().fingerprint
    with recording(), pytest.raises(CodeChanged):
        changed.engine().step(carried.state, changed.rows[20])
    assert _sma_case().engine().fingerprint == case.engine().fingerprint


def test_a_step_says_what_the_notifications_said():
    case = trader_case(seed=12, count=150, feeds=2)
    expected = reference(case)
    carried = carry(case, plan(1))
    assert_same(case, expected, carried)
    orders = [record[1] for record in expected.records if record[0] == "order"]
    events = [event for step in carried.steps for event in step.orders]
    assert [(e.ref, e.feed, e.status, e.side.lower(), e.exectype, e.tradeid) for e in events] == [
        (o[0], o[1], o[2], o[3].lower(), o[4], o[6][2]) for o in orders
    ]
    trades = [record[1] for record in expected.records if record[0] == "trade"]
    told = [event for step in carried.steps for event in step.trades]
    assert [(e.ref, e.feed, e.tradeid, e.is_open) for e in told] == [
        (t[1], t[0], t[3], t[11]) for t in trades
    ]
    assert len(events) > 100
