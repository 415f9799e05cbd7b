"""R3.7, R4.3, R8.5: an edit of a living bot, whatever it holds: applied, or refused and said, never fatal."""

import json
import os

import pytest
from test_bar import INTERVAL, START, add, advance, config_text, row_of, rows

from jobs.bar.firing import Outcome, run_bars
from jobs.bar.runtime import open_runtime
from jobs.clock import SimulatedClock
from jobs.settings import Settings
from persistence.schema.tables import bot_steps, notifications, orders, trading_bots, trading_positions

ATTACK = bool(os.environ.get("ONEBAR_ATTACK"))
PLUGIN = '''
from dataclasses import dataclass

import backtrader as bt


@dataclass
class Seen:
    count: int = 0


class Holds(bt.Strategy):
    """Buys once and keeps; counts in an object of its own class."""

    params = (("size", 1.0), ("wait", 1))

    def __init__(self):
        self.seen = Seen()

    def next(self):
        self.seen = Seen(self.seen.count + 1)
        if self.seen.count == self.p.wait:
            self.buy(size=self.p.size)


class Waits(bt.Strategy):
    """Has an order that never fills."""

    params = (("size", 1.0),)

    def __init__(self):
        self.order = None

    def next(self):
        if self.order is None:
            self.order = self.buy(size=self.p.size, exectype=bt.Order.Limit, price=0.001)


class Adds(bt.Strategy):
    params = (("size", 1.0), ("wait", 1))

    def next(self):
        self.buy(size=self.p.size)


class Flat(bt.Strategy):
    params = (("size", 1.0),)

    def __init__(self):
        self.mean = bt.ind.SMA(period=3)

    def next(self):
        pass


class Crosses(bt.Strategy):
    """Decides from prices and its position alone."""

    params = (("size", 1.0),)

    def __init__(self):
        self.mean = bt.ind.SMA(period=5)

    def next(self):
        if not self.position and self.data.close[0] > self.mean[0]:
            self.buy(size=self.p.size)
        elif self.position and self.data.close[0] < self.mean[0]:
            self.close()
'''


@pytest.fixture
def opened(database_url, tmp_path):
    """Give a runtime whose plug-in folder has the strategies above."""
    (tmp_path / "kept.py").write_text(PLUGIN)
    settings = Settings(
        database={"url": database_url}, strategies={"plugins": (tmp_path,)}, markets={"settle_ms": 0}
    )
    rt = open_runtime(settings, clock=SimulatedClock(START))
    yield rt, tmp_path / "kept.py"
    rt.database.close()


def edited(rt, bot, change):
    config = json.loads(row_of(rt, bot).config)
    change(config)
    with rt.database.write() as connection:
        connection.execute(
            trading_bots.update().where(trading_bots.c.id == bot).values(config=json.dumps(config))
        )


def told(rt, word):
    return [body for (body,) in rows(rt, notifications, "body") if word in body]


def last_position(rt):
    return json.loads(rows(rt, bot_steps, "bar", "positions")[-1][1])


def until(rt, so):
    for _ in range(100):
        advance(rt, 1)
        if so():
            return
    raise AssertionError("100 bars went by")


def symbol(config):
    config["symbol"] = "ETHUSDT"


def seed(config):
    config["data"]["seed"] = 4


def interval(config):
    config["data"]["interval"] = "10s"


def size(config):
    config["strategy"]["parameters"]["size"] = 2.0


def risk(config):
    config["risk_management"] = {"stop_loss_pct": 50.0}


def no_risk(config):
    config["risk_management"] = {}


def cash(config):
    config["broker"]["cash"] = 2_000_000.0


def commission(config):
    config["broker"]["commission"] = 0.01


def name(config):
    config["name"] = "Another"


def lookback(config):
    config["data"]["lookback_bars"] = 7


def strategy(config):
    config["strategy"]["type"] = "kept:Flat"


EDITS = [symbol, seed, interval, size, risk, cash, commission, name, lookback, strategy]
CHOSEN = [
    ("Holds", 0, symbol), ("Holds", 0, seed), ("Holds", 0, interval), ("Holds", 0, size), ("Holds", 0, risk),
    ("Holds", 1, strategy), ("Waits", 0, symbol), ("Waits", 0, size), ("Waits", 1, risk), ("Flat", 0, symbol),
    ("Flat", 0, interval), ("Flat", 0, size), ("Flat", 0, seed), ("Crosses", 0, symbol),
    ("Crosses", 0, risk), ("Waits", 0, risk),
]  # fmt: skip
ALL = [
    (kind, back, edit)
    for kind in ("Holds", "Waits", "Flat", "Crosses")
    for back in (0, 1, 500)
    for edit in EDITS
]


@pytest.mark.parametrize(("kind", "back", "edit"), ALL if ATTACK else CHOSEN)
def test_no_edit_stops_a_bot_or_loses_what_it_holds(opened, kind, back, edit):
    """R3.7, R8.5: every edit times what the bot holds times its lookback."""
    rt, _ = opened
    bot = add(rt, config_text(f"kept:{kind}", lookback=back))
    run_bars([bot], rt)
    advance(rt, 5)
    held = last_position(rt)
    edited(rt, bot, edit)
    advance(rt, 4)
    row = row_of(rt, bot)
    assert row.last_error is None
    assert (row.status, row.error_count) == ("running", 0)
    bars = [bar for (bar,) in rows(rt, bot_steps, "bar")]
    assert bars[-1] >= START + 6 * INTERVAL, "it goes on, in bars of whatever length"
    assert len(bars) == len(set(bars))
    if kind == "Holds":
        assert last_position(rt) == held
    refused_at_first = kind in {"Holds", "Waits"} and back > 0  # their one order came before the start
    if edit is symbol and kind != "Flat" and not refused_at_first:
        (body,) = told(rt, "CONFIG_REFUSED")  # said once
        assert "symbol" in body
        assert "order" in body or "long 1.0 BTCUSDT" in body
    else:
        assert told(rt, "CONFIG_REFUSED") == []


def test_a_symbol_that_waited_for_the_position_is_taken_once_the_bot_holds_nothing(opened):
    """R3.7: the edit stands in the row; nobody has to make it again."""
    rt, _ = opened
    bot = add(rt, config_text(lookback=0).replace("moves:BuyEveryOther", "kept:Crosses"))
    run_bars([bot], rt)
    until(rt, lambda: last_position(rt))
    edited(rt, bot, symbol)
    until(rt, lambda: not last_position(rt))
    advance(rt, 3)
    assert row_of(rt, bot).status == "running"
    assert rows(rt, trading_positions, "number", "symbol")[0] == (1, "BTCUSDT")
    assert len(told(rt, "CONFIG_REFUSED")) == 1
    assert len(told(rt, "CONFIG_APPLIED")) == 1


@pytest.mark.parametrize("back", [0, 3])
def test_a_comment_in_a_plugin_file_changes_nothing(opened, back):
    """R3.7: also where the state holds objects of the file's own classes."""
    rt, file = opened
    bot = add(rt, config_text("kept:Holds", lookback=back, wait=8))
    run_bars([bot], rt)
    advance(rt, 4)
    file.write_text(f"# {'a comment ' * 3}\n{PLUGIN}\n# and another\n")
    assert advance(rt, 6) == (Outcome(bot, 1),)
    assert row_of(rt, bot).error_count == 0
    assert told(rt, "CONFIG_APPLIED") == []
    bought_at = 8 - back if back else 8
    assert len(rows(rt, trading_positions, "number")) == 1, "it counted on from where it stood"
    assert [bar for (bar,) in rows(rt, trading_positions, "opened_bar")] == [START + bought_at * INTERVAL]


def test_a_limit_of_positions_counts_those_that_were_open_before_an_edit(opened):
    """R3.7, R3.8: max_positions 1 stays 1 after parameters have changed in position."""
    rt, _ = opened
    text = json.loads(config_text("kept:Holds", lookback=0))
    text["trading"] = {"max_positions": 1}
    bot = add(rt, json.dumps(text))
    run_bars([bot], rt)
    advance(rt, 4)
    edited(rt, bot, lambda config: config["strategy"]["parameters"].update(wait=1, size=5.0))
    edited(rt, bot, lambda config: config["strategy"].update(type="kept:Adds"))
    advance(rt, 3)
    assert last_position(rt)["BTCUSDT"][0] == "1.0"


def test_protection_that_an_edit_takes_away_leaves_no_order_behind(opened):
    """R3.7, R3.8: a stop that nobody withdraws any more would open a position of its own."""
    rt, _ = opened
    bot = add(rt, config_text("kept:Holds", lookback=0, risk={"stop_loss_pct": 90.0}))
    run_bars([bot], rt)
    advance(rt, 4)
    assert [status for _, status in rows(rt, orders, "number", "status")] == ["Completed", "Accepted"]
    edited(rt, bot, no_risk)
    advance(rt, 2)
    assert row_of(rt, bot).last_error is None
    assert [status for _, status in rows(rt, orders, "number", "status")] == ["Completed", "Canceled"]
