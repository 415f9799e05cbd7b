"""R3.2, R3.12: CustomStrategy and its mixins decide what their documents say, computed without Backtrader."""

import copy
import itertools
import json
import math
import random
from dataclasses import dataclass, field

import backtrader as bt
import pytest
from broken_configs import REFERENCE, put
from handmade import OHLC, ListFeed

from strategies.assembly import check_bot, configure_for, feeds_for, reads_observers
from strategies.config import parse_bot_config
from strategies.registry import Registry
from strategies.risk import RiskBroker


def falling_market(seed: int, count: int = 600) -> list[OHLC]:
    """Calm bars with sudden falls on high volume, so that the entry rule has something to find."""
    rng = random.Random(seed)
    price, bars = 1000.0, []
    for _ in range(count):
        crash = rng.random() < 0.03
        opens = price
        price = opens * (rng.uniform(0.95, 0.98) if crash else rng.uniform(0.995, 1.0063))
        high, low = max(opens, price) * rng.uniform(1, 1.003), min(opens, price) * rng.uniform(0.997, 1)
        bars.append(OHLC(opens, high, low, price, rng.uniform(20, 40) if crash else rng.uniform(8, 12)))
    return bars


def configured(**changes: object) -> dict:
    config = copy.deepcopy(REFERENCE)
    config["risk_management"] = {}
    config["trading"] = {}
    for path, value in changes.items():
        put(path.replace("__", "."), value)(config)
    return config


class Heard(bt.Analyzer):
    def __init__(self):
        self.fills = []

    def notify_order(self, order):
        if order.status == order.Completed:
            info = (order.info["logic"], order.info["reason"])
            self.fills.append((len(self.strategy) - 1, order.executed.size, order.executed.price, *info))


def fills_of(config: dict, bars: list[OHLC]) -> tuple[list[tuple], float]:
    cerebro = bt.Cerebro()
    cerebro.adddata(ListFeed(bars=tuple(bars)), name=config["symbol"])
    configure_for(parse_bot_config(json.dumps(config), Registry()), Registry())(cerebro)
    cerebro.addanalyzer(Heard)
    strategy = cerebro.run(runonce=False)[0]
    return strategy.analyzers.heard.fills, cerebro.broker.getvalue()


def smoothed(values: list[float | None], period: int) -> list[float | None]:
    """Wilder's average: the mean of the first values, then (previous x (period - 1) + value) / period."""
    result: list[float | None] = [None] * len(values)
    first = next(i for i, value in enumerate(values) if value is not None)
    start = first + period - 1
    for i in range(start, len(values)):
        if i == start:
            result[i] = math.fsum(values[first : start + 1]) / period
        else:
            result[i] = (result[i - 1] * (period - 1) + values[i]) / period
    return result


def rsi(closes: list[float], period: int) -> list[float | None]:
    steps = [None, *(b - a for a, b in itertools.pairwise(closes))]
    up = smoothed([None if each is None else max(each, 0.0) for each in steps], period)
    down = smoothed([None if each is None else max(-each, 0.0) for each in steps], period)
    return [None if u is None else 100.0 - 100.0 / (1.0 + u / d) for u, d in zip(up, down, strict=True)]


def mean(values: list[float], at: int, period: int) -> float:
    return math.fsum(values[at - period + 1 : at + 1]) / period


def true_ranges(bars: list[OHLC]) -> list[float | None]:
    return [
        None,
        *(max(b.high, a.close) - min(b.low, a.close) for a, b in itertools.pairwise(bars)),
    ]


@dataclass
class Rules:
    """The documented rules, once more and in the simplest way."""

    bars: list[OHLC]
    touch: bool
    oversold: float = 30.0
    ratio: float = 1.1
    multiplier: float = 1.5
    share: float = 0.1
    commission: float = 0.001
    cash: float = 100.0
    fills: list[tuple] = field(default_factory=list)

    def __post_init__(self):
        self.closes = [bar.close for bar in self.bars]
        self.rsi = rsi(self.closes, 14)
        self.atr = smoothed(true_ranges(self.bars), 14)

    def enters(self, at: int) -> bool:
        bar = self.bars[at]
        middle = mean(self.closes, at, 20)
        spread = math.sqrt(math.fsum((each - middle) ** 2 for each in self.closes[at - 19 : at + 1]) / 20)
        lower = middle - 2.0 * spread
        at_band = bar.low <= lower if self.touch else bar.close < lower
        loud = bar.volume >= self.ratio * mean([each.volume for each in self.bars], at, 20)
        return at_band and loud and self.rsi[at] <= self.oversold

    def trade(self) -> list[tuple]:
        size, stop, pending = 0.0, None, None
        for at, bar in enumerate(self.bars):
            if pending:
                change, logic, reason = pending
                self.cash -= change * bar.open + abs(change) * bar.open * self.commission
                size += change
                stop = bar.open - self.multiplier * self.atr[at] if size else None
                self.fills.append((at, change, bar.open, logic, reason))
                pending = None
            if at < 19:
                continue
            if size:
                if bar.close <= stop:
                    pending = (-size, "ATRExitMixin", "atr_stop")
                stop = max(stop, bar.close - self.multiplier * self.atr[at])
            elif self.enters(at):
                bought = self.share * self.cash / bar.close
                pending = (bought, "RSIBBVolumeEntryMixin", "oversold_at_band")
        self.cash += size * self.bars[-1].close
        return self.fills


@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_mixins_trade_by_their_documented_rules(seed: int, touch: bool):
    bars = falling_market(seed)
    config = configured(strategy__parameters__entry_logic__params={"use_bb_touch": touch})
    fills, value = fills_of(config, bars)
    rules = Rules(bars, touch)
    expected = rules.trade()
    assert len(expected) > 6
    assert [(each[0], *each[3:]) for each in fills] == [(each[0], *each[3:]) for each in expected]
    assert [each[1:3] for each in fills] == [pytest.approx(each[1:3], rel=1e-9) for each in expected]
    assert value == pytest.approx(rules.cash, rel=1e-12)


def test_a_stop_of_the_risk_rules_resets_the_exit_logic():
    bars = falling_market(1)
    wide = configured(
        strategy__parameters__exit_logic__params={"sl_multiplier": 50}, risk_management={"stop_loss_pct": 1.0}
    )
    fills, _ = fills_of(wide, bars)
    assert {each[4] for each in fills} == {"oversold_at_band", "stop_loss"}
    assert len(fills) > 6
    for bought, sold in zip(fills[::2], fills[1::2], strict=False):
        assert sold[1] == -bought[1]
        assert sold[2] <= bought[2] * 0.99 * (1 + 1e-12)


def test_prefixed_and_plain_names_are_the_same_parameters():
    bars = falling_market(2)
    plain = configured(
        strategy__parameters__entry_logic__params={"rsi_period": 10, "e_rsi_oversold": 35},
        strategy__parameters__exit_logic__params={"atr_period": 7, "x_sl_multiplier": 2},
    )
    prefixed = configured(
        strategy__parameters__entry_logic__params={"e_rsi_period": 10, "rsi_oversold": 35},
        strategy__parameters__exit_logic__params={"x_atr_period": 7, "sl_multiplier": 2},
    )
    assert fills_of(plain, bars) == fills_of(prefixed, bars)
    assert fills_of(plain, bars) != fills_of(configured(), bars)


def test_size_commission_and_slippage_come_from_the_configuration():
    bars = falling_market(1)
    config = configured(
        broker__slippage=0.01, broker__commission=0.02, broker__cash=5000.0, trading__position_size=0.5,
        strategy__parameters__position_size=0.5,
    )  # fmt: skip
    fills, _ = fills_of(config, bars)
    at, size, price, *_ = fills[0]
    assert size == 0.5 * 5000.0 / bars[at - 1].close
    assert price == min(bars[at].open * 1.01, bars[at].high)


def test_limits_make_a_broker_with_limits_and_no_limits_leave_backtraders():
    cerebro = bt.Cerebro()
    configure_for(parse_bot_config(configured()), Registry())(cerebro)
    assert type(cerebro.broker) is bt.brokers.BackBroker
    cerebro = bt.Cerebro()
    configure_for(parse_bot_config(REFERENCE), Registry())(cerebro)
    assert type(cerebro.broker) is RiskBroker
    assert (cerebro.broker.p.stop_loss_pct, cerebro.broker.p.max_positions) == (3.0, 1)
    assert [(each.name, each.interval) for each in feeds_for(parse_bot_config(REFERENCE))] == [
        ("BTCUSDT", "1h")
    ]


class Sloppy(bt.Strategy):
    """Buys and sells without a size, as most samples do."""

    def next(self):
        if len(self) % 4 == 1:
            self.buy()
        elif len(self) % 4 == 3:
            self.sell()


class Watcher(bt.Strategy):
    def next(self):
        if len(self) > 1:  # observers run after the strategy, so this is the value of the bar before
            assert self.stats.broker.value[0] > 0


class Targeter(bt.Strategy):
    def next(self):
        self.order_target_percent(target=0.05 * (len(self) % 3))


def ran(code: type[bt.Strategy]) -> bt.Strategy:
    registry = Registry()
    registry.register(code)
    config = configured(strategy={"type": code.__name__, "parameters": {}})
    cerebro = bt.Cerebro()
    cerebro.adddata(ListFeed(bars=tuple(falling_market(0, 80))), name="BTCUSDT")
    configure_for(parse_bot_config(config, registry), registry)(cerebro)
    cerebro.addanalyzer(bt.analyzers.Transactions, _name="fills")
    return cerebro.run(runonce=False)[0]


def test_a_plain_strategy_that_sells_without_a_size_leaves_no_remainder():
    fills = [each[0][0] for each in ran(Sloppy).analyzers.fills.get_analysis().values()]
    assert len(fills) > 10
    assert all(bought == -sold for bought, sold in zip(fills[::2], fills[1::2], strict=False))


def test_targets_are_fractions_of_a_coin():
    fills = [each[0][0] for each in ran(Targeter).analyzers.fills.get_analysis().values()]
    assert len(fills) > 10
    assert all(0 < abs(size) < 0.02 for size in fills)


def test_observers_are_there_for_code_that_reads_them():
    assert reads_observers(Watcher)
    assert not reads_observers(Sloppy)
    ran(Watcher)


def test_what_cannot_be_built_is_refused_when_it_is_added(tmp_path):
    (tmp_path / "bad.py").write_text(
        "import backtrader as bt\nclass Bad(bt.Strategy):\n    def __init__(self):\n        self.x = 1 / 0\n"
    )
    config = configured(strategy={"type": "bad:Bad", "parameters": {}})
    with pytest.raises(ValueError, match=r"strategy: found bad:Bad, which raises ZeroDivisionError"):
        check_bot(config, Registry([tmp_path]))
    check_bot(REFERENCE, Registry())
