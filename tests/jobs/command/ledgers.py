"""Bots with a ledger, written by the functions that the service writes with."""

import json
import time

from persistence.bots import add_bot
from persistence.ledger.advance import Advance, Stepped
from persistence.ledger.steps import save_steps
from strategies.values import OrderEvent, Position, Step, TradeEvent
from tests.strategies.broken_configs import REFERENCE

HOUR = 3_600_000
BEGIN = 1_609_459_200_000  # 2021-01-01


def config_text(**changes):
    return json.dumps({**REFERENCE, **changes})


def insert_bot(database, **columns):
    text = columns.pop("config", config_text())
    with database.write() as connection:
        return add_bot(connection, config=text, now_ms=time.time_ns() // 1_000_000, **columns)


def insert_bar(database, bot_id, version, step, symbol="BTCUSDT"):
    advance = Advance(
        bot_id=bot_id,
        from_version=version,
        symbol=symbol,
        steps=(Stepped(BEGIN + version * HOUR, step),),
        fingerprint="f",
        took_ms=1.5,
    )
    with database.write() as connection:
        assert save_steps(connection, [advance], now_ms=time.time_ns() // 1_000_000) == {bot_id}


def quiet(cash=100.0):
    return Step(state=b"s", orders=(), trades=(), cash=cash, value=cash, positions=())


def buying():
    """The first order, executed: a position of 0.001 BTC is open."""
    return Step(
        state=b"s",
        orders=(_order("buy", 0.001, 30_000.0),),
        trades=(_trade(is_open=True),),
        cash=70.0,
        value=100.5,
        positions=(Position("BTCUSDT", 0.001, 30_000.0),),
    )


def selling():
    """Closed again at 31,000, with 0.94 left after commission."""
    return Step(
        state=b"s",
        orders=(_order("sell", -0.001, 31_000.0, ref=2),),
        trades=(_trade(is_open=False),),
        cash=100.94,
        value=100.94,
        positions=(),
    )


def _order(side, size, price, ref=1):
    return OrderEvent(
        ref=ref,
        feed="BTCUSDT",
        status="Completed",
        side=side,
        exectype="Market",
        size=size,
        price=None,
        pricelimit=None,
        created_at=BEGIN,
        executed_size=size,
        executed_price=price,
        executed_at=BEGIN + HOUR,
        commission=0.03,
        pnl=0.0,
        tradeid=0,
    )


def _trade(*, is_open):
    return TradeEvent(
        ref=1,
        feed="BTCUSDT",
        tradeid=0,
        is_open=is_open,
        is_long=True,
        size=0.001 if is_open else 0.0,
        entry_size=0.001,
        entry_price=30_000.0,
        exit_price=None if is_open else 31_000.0,
        opened_at=BEGIN,
        closed_at=None if is_open else BEGIN + HOUR,
        bars=1,
        commission=0.06,
        pnl=1.0,
        pnlcomm=0.94,
        entry_order=1,
        exit_order=None if is_open else 2,
        entry_info={"logic": "RSIBBVolumeEntryMixin"},
        exit_info={"logic": "ATRExitMixin", "reason": "take profit"},
    )
