"""A trader that gives every kind of order Backtrader knows, by seed, and the brokers it meets."""

import datetime as dt
import random

import backtrader as bt
from exact_bars import random_bars
from exact_record import note
from exact_run import Case

from strategies.engine import Feed


def _limits(strategy, data):
    price = data.close[0]
    return price, price * (1 + strategy.rng.uniform(-0.02, 0.02))


def market(strategy, data):
    return strategy.buy(data) if strategy.rng.random() < 0.5 else strategy.sell(data)


def sized(strategy, data):
    give = strategy.buy if strategy.rng.random() < 0.5 else strategy.sell
    return give(data, size=strategy.rng.choice((1, 3, 0.25, 7)), exectype=bt.Order.Market)


def close_order(strategy, data):
    return strategy.buy(data, size=2, exectype=bt.Order.Close)


def limit(strategy, data):
    give = strategy.buy if strategy.rng.random() < 0.5 else strategy.sell
    return give(data, size=1, exectype=bt.Order.Limit, price=_limits(strategy, data)[1])


def stop(strategy, data):
    give = strategy.buy if strategy.rng.random() < 0.5 else strategy.sell
    return give(data, size=1, exectype=bt.Order.Stop, price=_limits(strategy, data)[1])


def stop_limit(strategy, data):
    price, near = _limits(strategy, data)
    return strategy.buy(data, size=1, exectype=bt.Order.StopLimit, price=near, plimit=price)


def stop_trail(strategy, data):
    return strategy.sell(data, size=1, exectype=bt.Order.StopTrail, trailamount=strategy.rng.uniform(0.3, 4))


def stop_trail_percent(strategy, data):
    return strategy.buy(
        data, size=1, exectype=bt.Order.StopTrail, trailpercent=strategy.rng.uniform(0.004, 0.05)
    )


def stop_trail_limit(strategy, data):
    price, _ = _limits(strategy, data)
    return strategy.sell(
        data, size=1, exectype=bt.Order.StopTrailLimit, price=price, plimit=price - 1, trailamount=1.5
    )


def valid_date(strategy, data):
    until = data.datetime.datetime(0) + dt.timedelta(hours=strategy.rng.randint(1, 12))
    return strategy.buy(data, size=1, exectype=bt.Order.Limit, price=data.close[0] * 0.985, valid=until)


def valid_delta(strategy, data):
    until = dt.timedelta(hours=strategy.rng.randint(1, 9))
    return strategy.buy(data, size=1, exectype=bt.Order.Limit, price=data.close[0] * 0.985, valid=until)


def valid_day(strategy, data):
    return strategy.buy(data, size=1, exectype=bt.Order.Stop, price=data.close[0] * 1.012, valid=bt.Order.DAY)


def oco(strategy, data):
    price = data.close[0]
    first = strategy.buy(data, size=1, exectype=bt.Order.Limit, price=price * 0.99)
    second = strategy.buy(data, size=1, exectype=bt.Order.Stop, price=price * 1.01, oco=first)
    return strategy.buy(data, size=1, exectype=bt.Order.Limit, price=price * 0.97, oco=second or first)


def bracket(strategy, data):
    price = data.close[0]
    buys = strategy.rng.random() < 0.5
    give = strategy.buy_bracket if buys else strategy.sell_bracket
    sign = 1 if buys else -1
    orders = give(
        data=data,
        size=2,
        price=price * (1 - 0.003 * sign),
        stopprice=price * (1 - 0.02 * sign),
        limitprice=price * (1 + 0.02 * sign),
        exectype=strategy.rng.choice((bt.Order.Limit, bt.Order.Market)),
        valid=dt.timedelta(hours=8),
    )
    strategy.brackets.append(orders)
    del strategy.brackets[:-3]
    return orders[0]


def trailing_bracket(strategy, data):
    if not strategy.getsizing(data):
        return None  # Backtrader's bracket of no size raises
    return strategy.buy_bracket(
        data=data, exectype=bt.Order.Market, limitexec=None, stopexec=bt.Order.StopTrail,
        stopargs={"trailamount": 2.0},
    )[0]  # fmt: skip


def nested(strategy, data):
    price = data.close[0]
    top = strategy.buy(data, size=1, transmit=False)
    middle = strategy.sell(
        data, size=1, exectype=bt.Order.Stop, price=price * 0.99, parent=top, transmit=False
    )
    last = strategy.sell(
        data, size=1, exectype=bt.Order.Limit, price=price * 1.01, parent=middle, transmit=True
    )
    return last or top


def untransmitted(strategy, data):
    """Give the parent on one bar and let it go with a child on a later one."""
    if strategy.waiting is None:
        strategy.waiting = strategy.buy(data, size=1, transmit=False)
        return None
    parent, strategy.waiting = strategy.waiting, None
    return strategy.sell(data, size=1, exectype=bt.Order.Limit, price=data.close[0] * 1.01, parent=parent)


def cancel(strategy, _):
    if strategy.given:
        strategy.cancel(strategy.rng.choice(strategy.given))


def numbered(strategy, data):
    return strategy.buy(data, size=strategy.rng.choice((-1, 1)) * 0.5, tradeid=strategy.rng.randint(1, 3))


def target_size(strategy, data):
    return strategy.order_target_size(data, target=strategy.rng.randint(-5, 5))


def target_value(strategy, data):
    return strategy.order_target_value(data, target=strategy.rng.uniform(-900, 2500))


def target_percent(strategy, data):
    return strategy.order_target_percent(data, target=strategy.rng.uniform(-0.3, 0.9))


def close_position(strategy, data):
    return strategy.close(data)


def add_cash(strategy, _):
    strategy.broker.add_cash(strategy.rng.choice((100.0, -50.5)))


def too_large(strategy, data):
    return strategy.buy(data, size=1e6)


def described(strategy, data):
    order = strategy.buy(data, size=1, exectype=bt.Order.Limit, price=data.close[0] * 0.99, why="cheap")
    if order is not None:
        order.addinfo(bars=len(strategy), nested={"list": [1, 2.5, None]})
    return order


ACTIONS = {
    action.__name__: action
    for action in (
        *(market, sized, close_order, limit, stop, stop_limit, stop_trail, stop_trail_percent),
        *(stop_trail_limit, valid_date, valid_delta, valid_day, oco, bracket, trailing_bracket, nested),
        *(untransmitted, cancel, numbered, target_size, target_value, target_percent, close_position),
        *(add_cash, too_large, described),
    )
}


class Trader(bt.Strategy):
    """Acts by seed. Its random.Random is an attribute like any other and has to be carried."""

    params = (("actions", tuple(ACTIONS)), ("seed", 1), ("often", 0.35), ("at_open", False))

    def __init__(self):
        self.rng = random.Random(self.p.seed)
        self.given = []
        self.brackets = []
        self.waiting = None
        self.by_status = {}
        self.last_trade = None

    def notify_order(self, order):
        self.by_status[order.getstatusname()] = order
        if not order.alive() and order in self.given:
            self.given.remove(order)
        note(order.ref, {name: each.ref for name, each in self.by_status.items()})

    def notify_trade(self, trade):
        self.last_trade = trade

    def _act(self):
        if self.rng.random() >= self.p.often:
            return
        data = self.rng.choice(self.datas)
        order = ACTIONS[self.rng.choice(self.p.actions)](self, data)
        if order is not None:
            self.given.append(order)
            del self.given[:-6]

    def next(self):
        if self.last_trade is not None:
            note(self.last_trade.ref, self.last_trade.pnl, self.last_trade.isclosed)
        if not self.p.at_open:
            self._act()

    def next_open(self):
        if self.p.at_open:
            self._act()


class Growing(bt.Sizer):
    """A sizer with state and a parameter of its own."""

    params = (("step", 0.5),)

    def __init__(self):
        self.asked = 0

    def _getsizing(self, comminfo, cash, data, isbuy):  # noqa: ARG002  (Backtrader's signature)
        self.asked += 1
        return 1 + self.p.step * (self.asked % 4)


class Metered(bt.CommInfoBase):
    """A commission that depends on what was charged before."""

    params = (("commission", 0.001), ("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC))

    def __init__(self):
        super().__init__()
        self.charged = 0

    def _getcommission(self, size, price, pseudoexec):
        if not pseudoexec:
            self.charged += 1
        return abs(size) * price * self.p.commission * (0.5 if self.charged > 10 else 1)


def _margin_broker(cerebro):
    cerebro.broker.setcash(3000)
    cerebro.broker.setcommission(commission=0.001)


def _futures(cerebro):
    cerebro.broker.setcommission(commission=2.0, margin=120.0, mult=5.0)


def _auto_margin(cerebro):
    cerebro.broker.setcommission(commission=1.5, automargin=0.5, mult=2.0, stocklike=False)


def _interest(cerebro):
    cerebro.broker.setcommission(commission=0.0005, interest=0.05, interest_long=True)


def _slippage(cerebro):
    cerebro.broker.set_slippage_perc(0.002, slip_open=True, slip_limit=True, slip_match=True, slip_out=False)


def _slippage_out(cerebro):
    cerebro.broker.set_slippage_fixed(0.5, slip_open=True, slip_match=False, slip_out=True)


def _cheat_on_close(cerebro):
    cerebro.broker.set_coc(True)


def _cheat_on_open(cerebro):
    cerebro.p.cheat_on_open = True
    cerebro.broker.set_coo(True)


def _broker_params(cerebro):
    cerebro.broker.set_checksubmit(False)
    cerebro.broker.set_shortcash(False)
    cerebro.broker.set_int2pnl(False)
    cerebro.broker.set_eosbar(True)


def _fund(cerebro):
    cerebro.broker.set_fundmode(True, fundstartval=50.0)
    cerebro.addobserver(bt.observers.FundValue)
    cerebro.addobserver(bt.observers.FundShares)


def _trade_history(cerebro):
    cerebro.p.tradehistory = True


def _history_of_orders(cerebro):
    day = dt.datetime(2021, 1, 2)  # noqa: DTZ001  (Backtrader's own times are naive UTC)
    orders = ((day + dt.timedelta(hours=7 * n), (-1) ** n * 3, 120.0 + n) for n in range(20))
    cerebro.add_order_history(tuple(orders), notify=True)


BROKERS = {
    "plain": lambda _: None,
    "margin": _margin_broker,
    "percent": lambda cerebro: cerebro.broker.setcommission(commission=0.001),
    "futures": _futures,
    "auto_margin": _auto_margin,
    "interest": _interest,
    "slippage": _slippage,
    "slippage_out": _slippage_out,
    "cheat_on_close": _cheat_on_close,
    "cheat_on_open": _cheat_on_open,
    "broker_params": _broker_params,
    "fund": _fund,
    "trade_history": _trade_history,
    "history_of_orders": _history_of_orders,
    "filler_size": lambda cerebro: cerebro.broker.set_filler(bt.fillers.FixedSize(size=1)),
    "filler_percent": lambda cerebro: cerebro.broker.set_filler(bt.fillers.FixedBarPerc(perc=0.4)),
    "filler_points": lambda cerebro: cerebro.broker.set_filler(bt.fillers.BarPointPerc(minmov=0.5, perc=20)),
    "metered": lambda cerebro: cerebro.broker.addcommissioninfo(Metered()),
    "per_feed": lambda cerebro: cerebro.broker.setcommission(commission=0.002, name="B"),
    "fixed_sizer": lambda cerebro: cerebro.addsizer(bt.sizers.FixedSize, stake=3, tranches=2),
    "reverser": lambda cerebro: cerebro.addsizer(bt.sizers.FixedReverser, stake=2),
    "percent_sizer": lambda cerebro: cerebro.addsizer(bt.sizers.PercentSizer, percents=35),
    "all_in": lambda cerebro: cerebro.addsizer(bt.sizers.AllInSizerInt),
    "growing": lambda cerebro: cerebro.addsizer(Growing, step=0.75),
}


def trader_case(actions=(), broker="plain", seed=1, count=200, feeds=1, often=0.35):
    """Return a case in which a trader gives the named orders (all if none is named) to the named broker."""
    chosen = tuple(actions) or tuple(ACTIONS)

    def configure(cerebro):
        BROKERS[broker](cerebro)
        at_open = broker == "cheat_on_open"
        cerebro.addstrategy(Trader, actions=chosen, seed=seed, often=often, at_open=at_open)

    bars = tuple(random_bars(seed * 100 + number, count, gaps=0.02) for number in range(feeds))
    named = tuple(Feed(name, "1h") for name in "ABC"[:feeds])
    origin = (__name__, "trader_case", (tuple(actions), broker, seed, count, feeds, often))
    return Case(
        f"{','.join(actions) or 'all orders'} at {broker} seed {seed}", configure, named, bars, origin
    )
