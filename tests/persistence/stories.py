"""Hand-written steps: what an engine could have said, small enough to read."""

import json
from typing import Any

from persistence.bots import add_bot
from persistence.database import Database
from persistence.ledger.advance import Advance, Stepped
from persistence.ledger.steps import load, save_steps
from persistence.schema.tables import TIMING_COLUMNS, metadata
from strategies.values import OrderEvent, Position, Step, TradeEvent

MINUTE = 60_000
NOW = 1_700_000_000_123
FEED = "BTCUSDT"


def order(ref: int = 1, **fields: Any) -> OrderEvent:
    standard: dict[str, Any] = {
        "feed": FEED, "status": "Accepted", "side": "buy", "exectype": "Limit", "size": 0.5,
        "price": 43_000.1, "pricelimit": None, "created_at": MINUTE, "executed_size": 0.0,
        "executed_price": 0.0,
        "executed_at": None, "commission": 0.0, "pnl": 0.0, "tradeid": 0,
    }  # fmt: skip
    return OrderEvent(ref=ref, **standard | fields)


def filled(ref: int = 1, **fields: Any) -> OrderEvent:
    executed = {
        "status": "Completed",
        "executed_size": 0.5,
        "executed_price": 43_000.1,
        "executed_at": 2 * MINUTE,
    }
    return order(ref, **executed | fields)


def trade(ref: int = 1, **fields: Any) -> TradeEvent:
    standard: dict[str, Any] = {
        "feed": FEED, "tradeid": 0, "is_open": True, "is_long": True, "size": 0.5, "entry_size": 0.5,
        "entry_price": 43_000.1, "exit_price": None, "opened_at": 2 * MINUTE, "closed_at": None, "bars": 0,
        "commission": 0.1, "pnl": 0.0, "pnlcomm": -0.1, "entry_order": 1, "exit_order": None,
        "entry_info": {"logic": "RSIBBVolumeEntryMixin"},
    }  # fmt: skip
    return TradeEvent(ref=ref, **standard | fields)


def closed(ref: int = 1, **fields: Any) -> TradeEvent:
    ending: dict[str, Any] = {
        "is_open": False, "size": 0.0, "exit_price": 43_100.3, "closed_at": 4 * MINUTE, "bars": 2,
        "commission": 0.2, "pnl": 50.1, "pnlcomm": 49.9, "exit_order": 2,
        "exit_info": {"logic": "ATRExitMixin", "reason": "stop"},
    }  # fmt: skip
    return trade(ref, **ending | fields)


def step(state: bytes = b"state", **fields: Any) -> Step:
    standard: dict[str, Any] = {
        "orders": (),
        "trades": (),
        "cash": 10_000.0,
        "value": 10_000.25,
        "positions": (),
    }
    return Step(state=state, **standard | fields)


HELD = (Position(FEED, 0.5, 43_000.1),)

SOLD = filled(2, side="sell", size=-0.5, executed_size=-0.5)

# Five bars of a life: an order, its fill and a position, nothing, its end, nothing.
LIFE: tuple[tuple[int, Step], ...] = (
    (1 * MINUTE, step(b"s1", orders=(order(),))),
    (2 * MINUTE, step(b"s2", orders=(filled(),), trades=(trade(),), positions=HELD, cash=-11_500.05)),
    (3 * MINUTE, step(b"s3", positions=HELD, cash=-11_500.05, value=10_020.125)),
    (4 * MINUTE, step(b"s4", orders=(SOLD,), trades=(closed(),))),
    (5 * MINUTE, step(b"s5", value=10_050.15)),
)  # fmt: skip


def advance(bot_id: int, steps: tuple[tuple[Any, ...], ...] = LIFE, **fields: Any) -> Advance:
    """Steps are (open time, step) or (open time, step, orders allowed)."""
    standard: dict[str, Any] = {
        "from_version": 0,
        "symbol": "BTC/USDT",
        "fingerprint": "code",
        "took_ms": 2.5,
    }
    return Advance(bot_id=bot_id, steps=tuple(Stepped(*done) for done in steps), **standard | fields)


def add_bots(database: Database, count: int = 1) -> list[int]:
    with database.write() as connection:
        return [
            add_bot(connection, config=json.dumps({"name": f"bot {n}"}), now_ms=NOW) for n in range(count)
        ]


def save(database: Database, *advances: Advance, **options: Any) -> frozenset[int]:
    with database.write() as connection:
        return save_steps(connection, advances, now_ms=NOW, **options)


def version_of(database: Database, bot_id: int) -> int:
    with database.read() as connection:
        return load(connection, (bot_id,))[0].version


def everything(database: Database, *, timing: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    """Return every table's rows, without the columns that say when."""
    tables = {}
    with database.read() as connection:
        for table in metadata.sorted_tables:
            left_out = frozenset() if timing else TIMING_COLUMNS.get(table.name, frozenset())
            columns = [column for column in table.columns if column.name not in left_out]
            rows = connection.execute(table.select().with_only_columns(*columns))
            tables[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return tables
