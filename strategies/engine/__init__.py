"""The engine: any Backtrader strategy, stopped after any bar and resumed, bit for bit."""

from strategies.engine.engine import Engine
from strategies.engine.engine_errors import (
    CodeChanged,
    EngineError,
    HistoryTooShort,
    LooksAhead,
    NotCarriable,
    StateInvalid,
)
from strategies.values import Bar, Feed, OrderEvent, Position, Step, TradeEvent

__all__ = [
    "Bar",
    "CodeChanged",
    "Engine",
    "EngineError",
    "Feed",
    "HistoryTooShort",
    "LooksAhead",
    "NotCarriable",
    "OrderEvent",
    "Position",
    "StateInvalid",
    "Step",
    "TradeEvent",
]
