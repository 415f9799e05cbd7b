"""Each trap of Backtrader, with the answer of the engine: the test fails where the answer is missing."""

import datetime as dt
import gc
import sys
import threading
from types import SimpleNamespace

import backtrader as bt
import pytest
from runs import HOUR_MS, START_MS, X, bars, configured, note, numbers_from_one, plain, seen_by, stepped

from strategies.engine import Engine, EngineError, HistoryTooShort, LooksAhead, NotCarriable


class Reader(bt.Strategy):
    params = (("indicator", "Accum"),)

    def __init__(self):
        self.ind = getattr(bt.ind, self.p.indicator)()

    def prenext(self):
        self.next()

    def next(self):
        note(*(line[0].hex() for line in self.ind.lines))


@pytest.mark.parametrize(
    "name", ["Accum", "ErrorCorrecting", "ExponentialSmoothing", "Ichimoku", "ZeroLagIndicator"]
)
def test_trap_1_indicators_that_exactbars_gets_wrong_are_exact(name):
    def configure(cerebro):
        cerebro.addstrategy(Reader, indicator=name)

    given = bars(160)
    assert stepped(configure, given)[0] == plain(configure, given)


class Bracketed(bt.Strategy):
    def __init__(self):
        self.sma = bt.ind.SMA(period=5)
        self.sets = []

    def notify_order(self, order):
        note(order.ref, order.getstatusname(), order.executed.price, order.executed.size)

    def notify_trade(self, trade):
        note("trade", trade.ref, trade.pnlcomm, trade.isclosed)

    def next(self):
        if not self.position and len(self) % 4 == 0:
            price = self.data.close[0]
            self.sets = self.buy_bracket(size=3, price=price, stopprice=price * 0.98, limitprice=price * 1.02)
        elif len(self) % 11 == 0 and self.sets:
            self.cancel(self.sets[0])


def test_trap_3_a_used_engine_forgets_what_the_state_does_not_have():
    given = bars(200)
    configure = configured(Bracketed)
    moved, steps = stepped(configure, given, engines=3)
    assert moved == plain(configure, given)
    used, other = Engine(configure, X), Engine(configure, X)
    used.catch_up(used.initial(), [[bar] for bar in bars(120, seed=9)])
    for number in range(60, 190, 7):
        state = steps[number - 1].state
        assert used.step(state, [given[number]]).state == other.step(state, [given[number]]).state


def test_trap_4_lines_that_write_into_the_past_of_their_buffer():
    class Cloud(bt.Strategy):
        def __init__(self):
            self.cloud = bt.ind.Ichimoku(tenkan=3, kijun=5, senkou=8, senkou_lead=5, chikou=6)

        def next(self):
            note(*(line[0].hex() for line in self.cloud.lines), self.cloud.chikou_span[-6].hex())

    configure = configured(Cloud)
    given = bars(120)
    assert stepped(configure, given)[0] == plain(configure, given)


def test_trap_6_building_again_and_again_leaves_nothing_in_the_modules_of_backtrader():
    class Coupled(bt.Strategy):
        def __init__(self):
            self.pivot = self.data()

    configure = configured(Coupled, stdstats=True)
    Engine(configure, X)
    modules = [module for name, module in sys.modules.items() if name.startswith("backtrader")]
    before = [len(vars(module)) for module in modules]
    for _ in range(5):
        Engine(configure, X)
    assert [len(vars(module)) for module in modules] == before


def test_trap_8_unbounded_history_raises_and_never_answers():
    class Whole(bt.Strategy):
        def next(self):
            note(sum(self.data.close.get(size=len(self))))

    configure = configured(Whole)
    with pytest.raises(HistoryTooShort):
        stepped(configure, bars(60))


class Clockless(dt.datetime):
    @classmethod
    def utcnow(cls):
        raise RuntimeError("the clock was asked")

    now = today = utcnow


def test_trap_9_nothing_asks_the_clock_of_the_computer(monkeypatch):
    stopped = SimpleNamespace(**(vars(dt) | {"datetime": Clockless}))
    monkeypatch.setattr("backtrader.cerebro.datetime", stopped)
    with pytest.raises(RuntimeError, match="the clock was asked"):
        plain(configured(Reader), bars(5))
    stepped(configured(Reader), bars(5))


def test_trap_11_annual_return_can_be_read_at_any_bar():
    def configure(cerebro):
        cerebro.addstrategy(Bracketed)
        cerebro.addanalyzer(bt.analyzers.AnnualReturn, _name="annual")

    given = bars(300, seed=4)
    _, steps = stepped(configure, given)
    cerebro = bt.Cerebro()
    from runs import PlainFeed

    cerebro.adddata(PlainFeed(bars=given, timeframe=bt.TimeFrame.Minutes, compression=60), name="X")
    configure(cerebro)
    expected = seen_by(lambda: cerebro.run(runonce=False))[1][0].analyzers.annual.get_analysis()
    assert Engine(configure, X).analysis(steps[-1].state)["annual"] == dict(expected)


@pytest.mark.parametrize("read", ["self.data.close[-1]", "self.data.close[1]", "self.data.buflen()"])
def test_the_future_is_refused_by_name(read):
    class Ahead(bt.Strategy):
        def next(self):
            if "buflen" in read:
                self.data.buflen()
            else:
                self.data.close[-1 if "-" in read else 1]

    with pytest.raises(LooksAhead, match="future"):
        stepped(configured(Ahead), bars(2))


def test_a_read_behind_the_history_is_mended_by_a_replay():
    class Deep(bt.Strategy):
        def next(self):
            note(self.data.close[-40] if len(self) % 50 == 0 else self.data.close[0])

    configure = configured(Deep)
    given = bars(120)
    with pytest.raises(HistoryTooShort, match="40 bars back"):
        stepped(configure, given)
    engine = Engine(configure, X)
    seen, steps = seen_by(lambda: engine.replay([[bar] for bar in given]))
    expected = plain(configure, given)
    assert seen[-len(expected) :] == expected
    assert len(steps) == len(given)
    state = steps[-1].state
    for bar in bars(160)[120:]:
        state = Engine(configure, X).step(state, [bar]).state


def test_order_numbers_are_the_bots_own():
    given = bars(80)
    refs = [
        {event.ref for step in stepped(configured(Bracketed), given)[1] for event in step.orders}
        for _ in (1, 2)
    ]
    assert refs[0] == refs[1]
    assert min(refs[0]) == 1


def test_plain_backtrader_counts_on_beside_a_bot():
    """And a step sets no attribute of a class: that would empty Python's caches of its methods."""
    stepped(configured(Bracketed), bars(2))
    counters = bt.order.OrderBase.refbasis, bt.Trade.refbasis
    before = [next(counter) for counter in counters]
    stepped(configured(Bracketed), bars(80))
    assert [next(counter) for counter in counters] == [number + 1 for number in before]
    assert (bt.order.OrderBase.refbasis, bt.Trade.refbasis) == counters


def test_a_bot_counts_for_itself_where_others_replaced_the_counters():
    engine, given = Engine(configured(Bracketed), X), bars(80)
    with numbers_from_one():
        steps = [*engine.catch_up(engine.initial(), [[bar] for bar in given])]
        assert [next(bt.order.OrderBase.refbasis), next(bt.Trade.refbasis)] == [1, 1]
    assert min(event.ref for step in steps for event in step.orders) == 1


def test_the_size_does_not_grow_with_the_age():
    engine = Engine(configured(Bracketed), X)
    state, sizes = engine.initial(), []
    for part in range(4):
        given = [[bar] for bar in bars(4000)[part * 1000 : (part + 1) * 1000]]
        steps = engine.catch_up(state, given)
        state = steps[-1].state
        sizes.append(max(len(engine.step(state, [bar]).state) for bar in bars(4001)[(part + 1) * 1000 :][:1]))
    assert max(sizes) - min(sizes) < 900, sizes  # a bracket more or less, not thousands of orders


def test_after_an_exception_the_engine_is_as_if_cold():
    class Stumbles(Bracketed):
        stumble = False

        def next(self):
            super().next()
            if self.data.volume[0] > 10_000:
                raise RuntimeError("half way")

    configure = configured(Stumbles)
    given = bars(60)
    engine = Engine(configure, X)
    state = engine.catch_up(engine.initial(), [[bar] for bar in given[:50]])[-1].state
    wrong = given[50].__class__(given[50].open_time, 1.0, 1.0, 1.0, 1.0, 20_000.0)
    for broken in (lambda: engine.step(state, [wrong]), lambda: engine.catch_up(state, [[wrong]])):
        with pytest.raises(RuntimeError):
            broken()
        assert engine.step(state, [given[50]]).state == Engine(configure, X).step(state, [given[50]]).state


def test_orders_before_trade_from_are_rejected():
    given = bars(60)
    engine = Engine(configured(Bracketed), X)
    steps = engine.catch_up(engine.initial(trade_from=START_MS + 30 * HOUR_MS), [[bar] for bar in given])
    statuses = [(event.status, event.created_at) for step in steps for event in step.orders]
    early = {status for status, at in statuses if at < START_MS + 30 * HOUR_MS}
    assert early == {"Rejected"}
    assert {"Submitted", "Accepted", "Completed"} <= {status for status, _ in statuses}


class Holder(bt.Strategy):
    params = (("what", None),)

    def __init__(self):
        self.held = {"book": [self.p.what()]}


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (threading.Lock, "lock"),
        (lambda: open(__file__), "open file"),  # noqa: PTH123, SIM115 -- that is what is refused
        (lambda: (number for number in ()), "generator"),
        (threading.Thread, "thread"),
        (lambda: iter([1]), "iterator"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_cannot_be_carried_is_refused_with_its_path(what, kind):
    def configure(cerebro):
        cerebro.addstrategy(Holder, what=what)

    with pytest.raises(NotCarriable, match=kind) as refusal:
        Engine(configure, X)
    assert refusal.value.path == "strategy.held['book'][0]"
    del refusal
    gc.collect()


_TOTAL = []


def test_globals_and_class_attributes_are_refused():
    class Global(bt.Strategy):
        def next(self):
            _TOTAL.append(1)

    class Shared(bt.Strategy):
        trades = []  # noqa: RUF012 -- that is what is refused

        def next(self):
            self.trades.append(1)

    class Sliced(bt.Strategy):
        def next(self):
            _TOTAL[:] = [1]

    for cls in (Global, Sliced):
        with pytest.raises(NotCarriable, match="_TOTAL"):
            Engine(configured(cls), X)
    with pytest.raises(NotCarriable, match=r"Shared\.trades"):
        stepped(configured(Shared), bars(2))


def test_bars_out_of_order_are_refused():
    engine = Engine(configured(Reader), X)
    state = engine.step(engine.initial(), [bars(1)[0]]).state
    with pytest.raises(EngineError, match="not after"):
        engine.step(state, [bars(1)[0]])
