"""B1, D8: a configured bot, stepped one bar at a time by fresh engines, is the bot of one continuous run."""

import copy
import json
import random

import backtrader as bt
import pytest
from broken_configs import REFERENCE, put
from handmade import HOUR, OHLC, START, ListFeed

from strategies.assembly import build_engine, configure_for
from strategies.config import parse_bot_config
from strategies.engine import Bar, Engine
from strategies.registry import Registry

START_MS = 1_704_067_200_000
HOUR_MS = 3_600_000


class Restless(bt.Strategy):
    """Places and cancels orders of every type at random."""

    params = (("seed", 0),)

    def next(self):
        rng = random.Random(f"{self.p.seed} {len(self)}")
        close = self.data.close[0]
        if rng.random() < 0.1:
            for order in self.broker.get_orders_open():
                self.cancel(order)
        if rng.random() < 0.5:
            return
        side = rng.choice((self.buy, self.sell))
        kind = rng.choice(
            (bt.Order.Market, bt.Order.Market, bt.Order.Limit, bt.Order.Stop, "bracket", "close")
        )
        if kind == "close":
            self.close()
        elif kind == "bracket":
            self.buy_bracket(exectype=bt.Order.Market, stopprice=close * 0.98, limitprice=close * 1.02)
        else:
            price = close * rng.uniform(0.98, 1.02)
            side(exectype=kind, price=price, size=rng.choice((None, None, 0.01)))


def market(seed: int, count: int) -> list[OHLC]:
    rng = random.Random(seed)
    price, bars = 1000.0, []
    for _ in range(count):
        opens = price
        price = opens * rng.choice(
            (rng.uniform(0.96, 0.99), rng.uniform(0.995, 1.02), rng.uniform(0.995, 1.02))
        )
        high, low = max(opens, price) * rng.uniform(1, 1.003), min(opens, price) * rng.uniform(0.997, 1)
        bars.append(OHLC(opens, high, low, price, rng.uniform(8, 40)))
    return bars


class Everything(bt.Analyzer):
    """What was said of each order, and the account, bar by bar."""

    def __init__(self):
        self.orders = []
        self.account = []

    def notify_order(self, order):
        self.orders.append(
            (order.ref, order.getstatusname(), order.executed.size, order.executed.price, dict(order.info))
        )

    def next(self):
        broker = self.strategy.broker
        self.account.append((broker.getcash(), broker.getvalue()))

    def prenext(self):
        self.next()


def continuous(config, registry, bars):
    cerebro = bt.Cerebro()
    cerebro.adddata(ListFeed(bars=tuple(bars)), name=config.symbol)
    configure_for(config, registry)(cerebro)
    cerebro.addanalyzer(Everything)
    found = cerebro.run(runonce=False)[0].analyzers.everything
    first = min((each[0] for each in found.orders), default=1) - 1
    return [(ref - first, *rest) for ref, *rest in found.orders], found.account


def bars_of(bars: list[OHLC]) -> list[Bar]:
    return [Bar(START_MS + at * HOUR_MS, *bar) for at, bar in enumerate(bars)]


def stepped(engines: list[Engine], bars: list[OHLC]):
    state, orders, account = engines[0].initial(), [], []
    for at, bar in enumerate(bars_of(bars)):
        step = engines[at % len(engines)].step(state, [bar])
        state = step.state
        orders += [
            (each.ref, each.status, each.executed_size, each.executed_price, dict(each.info))
            for each in step.orders
        ]
        account.append((step.cash, step.value))
    return orders, account, state


def bot(type_: str = "CustomStrategy", **changes: object) -> dict:
    config = copy.deepcopy(REFERENCE)
    put("strategy.parameters.entry_logic.params.e_rsi_oversold", 45)(config)
    if type_ != "CustomStrategy":
        config["strategy"] = {"type": type_, "parameters": {}}
    for path, value in changes.items():
        put(path.replace("__", "."), value)(config)
    return config


TIGHT = {
    "stop_loss_pct": 1.0,
    "take_profit_pct": 2.0,
    "max_daily_trades": 3,
    "max_daily_loss": 1.5,
    "max_position_size": 40.0,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("type_", ["CustomStrategy", "Restless"])
@pytest.mark.parametrize("limits", [{}, TIGHT], ids=["free", "limited"])
def test_bar_by_bar_in_changing_engines_is_one_continuous_run(type_: str, limits: dict, seed: int):
    registry = Registry()
    registry.register(Restless)
    config = parse_bot_config(json.dumps(bot(type_, risk_management=limits)), registry)
    bars = market(seed, 240)
    orders, account = continuous(config, registry, bars)
    found, accounts, _ = stepped([build_engine(config, registry) for _ in range(3)], bars)
    assert len(orders) > 30
    assert found == [tuple(each) for each in orders]
    assert accounts == account
    if limits and type_ == "Restless":
        assert {each[4].get("reason", "").split()[0] for each in found if each[4]} >= {
            "stop_loss",
            "take_profit",
            "max_daily_trades",
        }


def test_the_state_of_a_busy_bot_does_not_grow():
    registry = Registry()
    registry.register(Restless)
    config = parse_bot_config(json.dumps(bot("Restless", risk_management=TIGHT)), registry)
    engine = build_engine(config, registry)
    bars = bars_of(market(5, 1500))
    early = [engine.initial()]
    for bar in bars[:150]:
        early.append(engine.step(early[-1], [bar]).state)
    late = [engine.catch_up(early[-1], [[bar] for bar in bars[150:-150]])[-1].state]
    for bar in bars[-150:]:
        late.append(engine.step(late[-1], [bar]).state)
    assert max(map(len, late)) < 1.3 * max(map(len, early[50:]))


def test_a_position_is_protected_even_while_its_bot_may_not_trade():
    """D9: the entry waits when trading stops; it fills, and its stop is placed and fills all the same."""
    registry = Registry()
    registry.register(BuysOnce)
    config = parse_bot_config(json.dumps(bot("BuysOnce", risk_management={"stop_loss_pct": 3.0})), registry)
    engine = build_engine(config, registry)
    bars = bars_of([*[OHLC(100, 100, 100, 100)] * 4, OHLC(100, 100, 90, 91), *[OHLC(91, 91, 91, 91)] * 2])
    steps = [engine.step(engine.initial(), [bars[0]])]
    state = engine.trading_from(steps[0].state, bars[-1].open_time + HOUR_MS)
    said = []
    for bar in bars[1:]:
        step = engine.step(state, [bar])
        state = step.state
        said += [(each.side, each.status, each.info.get("reason")) for each in step.orders]
    assert said == [
        ("buy", "Submitted", None),
        ("buy", "Accepted", None),
        ("buy", "Completed", None),
        ("sell", "Accepted", "stop_loss"),
        ("sell", "Completed", "stop_loss"),
    ]
    assert step.positions == ()


class BuysOnce(bt.Strategy):
    def next(self):
        if len(self) == 1:
            self.buy()


def test_the_hours_agree():
    assert HOUR.total_seconds() * 1000 == HOUR_MS
    assert (START - START.replace(year=1970)).total_seconds() * 1000 == START_MS


def test_two_configurations_that_decide_alike_have_one_fingerprint():
    registry = Registry()

    def fingerprint(config: dict) -> str:
        return build_engine(parse_bot_config(config, registry), registry).fingerprint

    same = bot(notifications={}, id="other", name="Another")
    assert fingerprint(bot()) == fingerprint(same)
    for change in (
        {"risk_management": {}},
        {"risk_management__stop_loss_pct": 2.0},
        {"broker__commission": 0.002},
        {"broker__slippage": 0.002},
        {"strategy__parameters__exit_logic__params": {"sl_multiplier": 2}},
        {"trading": {"position_size": 0.1, "max_positions": 2}},
        {"data__interval": "2h"},
    ):
        assert fingerprint(bot()) != fingerprint(bot(**change)), change
