"""R4.1, R4.2, R4.10: what an alert says, and that a bar decided twice owes it once."""

import json

import pytest

from jobs.alerts import alerts_of
from strategies.config import parse_bot_config
from strategies.values import OrderEvent, Step, TradeEvent

CONFIG = {
    "id": "b",
    "name": "Bot Name",
    "symbol": "BTCUSDT",
    "broker": {"type": "paper", "trading_mode": "paper", "cash": 100.0},
    "strategy": {
        "type": "CustomStrategy",
        "parameters": {
            "entry_logic": {"name": "RSIBBVolumeEntryMixin"},
            "exit_logic": {"name": "ATRExitMixin"},
        },
    },
    "data": {"data_source": "generated", "interval": "1m"},
}
EVERYTHING = {"position_opened": True, "position_closed": True, "risk_alerts": True}


def config_with(**notifications):
    return parse_bot_config(json.dumps(CONFIG | {"notifications": notifications}))


def order(**changes):
    plain = {
        "ref": 1, "feed": "BTCUSDT", "status": "Completed", "side": "buy", "exectype": "Market", "size": 0.01,
        "price": None, "pricelimit": None, "created_at": 0, "executed_size": 0.01,
        "executed_price": 45_000.5, "executed_at": 60_000, "commission": 0.0, "pnl": 0.0, "tradeid": 0,
    }  # fmt: skip
    return OrderEvent(**(plain | changes))


def trade(**changes):
    plain = {
        "ref": 1, "feed": "BTCUSDT", "tradeid": 0, "is_open": False, "is_long": True, "size": 0.0,
        "entry_size": 0.01, "entry_price": 45_000.5, "exit_price": 47_200.3, "opened_at": 0,
        "closed_at": 120_000, "bars": 2, "commission": 0.0, "pnl": 22.0, "pnlcomm": 21.998,
        "entry_order": 1, "exit_order": 2,
    }  # fmt: skip
    return TradeEvent(**(plain | changes))


def step(orders=(), trades=()):
    return Step(state=b"", orders=tuple(orders), trades=tuple(trades), cash=0.0, value=0.0, positions=())


def bodies(config, **events):
    return [alert.body for alert in alerts_of(7, config, 60_000, step(**events))]


def test_a_purchase_reads_as_users_know_it():
    opened = trade(is_open=True, exit_price=None, closed_at=None, exit_order=None)
    assert bodies(config_with(**EVERYTHING), orders=[order()], trades=[opened]) == [
        "[Bot Name] BUY 0.0100 BTCUSDT @ $45,000.50 (Paper Trading)"
    ]


def test_a_sale_names_gain_and_percent_of_what_was_invested():
    assert bodies(config_with(**EVERYTHING), trades=[trade()]) == [
        "[Bot Name] SELL 0.0100 BTCUSDT @ $47,200.30 (P&L: $22.00 / +4.89%) (Paper Trading)"
    ]


def test_closing_a_short_position_is_a_purchase():
    short = trade(is_long=False, entry_size=-0.01, pnlcomm=-5.0)
    assert bodies(config_with(**EVERYTHING), trades=[short])[0].startswith(
        "[Bot Name] BUY 0.0100 BTCUSDT @ $47,200.30 (P&L: -$5.00 / -1.11%)"
    )


@pytest.mark.parametrize(
    ("size", "price", "shown"),
    [(2.5, 0.00005288, "2.5000 BTCUSDT @ $0.00005288"), (0.00012345, 30_000.0, "0.00012345 BTCUSDT")],
)
def test_small_numbers_are_not_rounded_away(size, price, shown):
    opened = trade(is_open=True)
    bought = order(executed_size=size, executed_price=price)
    assert shown in bodies(config_with(**EVERYTHING), orders=[bought], trades=[opened])[0]


def test_a_refused_order_says_by_what_rule():
    refused = order(
        status="Rejected",
        executed_size=0.0,
        info={"refused_by": "risk_management", "reason": "max_daily_trades 5: 5 today, 0 waiting"},
    )
    assert bodies(config_with(**EVERYTHING), orders=[refused]) == [
        "[Bot Name] BUY 0.0100 BTCUSDT REFUSED: max_daily_trades 5: 5 today, 0 waiting (Paper Trading)"
    ]


def test_what_the_owner_does_not_want_is_not_sent():
    """R4.6: every kind has its own switch."""
    silent = config_with(position_opened=False, position_closed=False, risk_alerts=False)
    refused = order(status="Margin")
    assert not bodies(silent, orders=[order(), refused], trades=[trade(), trade(is_open=True)])


def test_the_same_bar_decided_again_owes_the_same_alerts():
    config = config_with(**EVERYTHING)
    events = {"orders": [order(ref=3, status="Margin")], "trades": [trade(), trade(ref=2)]}
    first = alerts_of(7, config, 60_000, step(**events))
    assert first == alerts_of(7, config, 60_000, step(**events))
    assert len({alert.key for alert in first}) == len(first) == 3
    assert not {alert.key for alert in alerts_of(7, config, 120_000, step(**events))} & {
        alert.key for alert in first
    }
