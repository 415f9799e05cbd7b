"""What a list shows of a bot's configuration, read without validating it: the row may be broken."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from strategies import secrecy
from strategies.values import interval_ms


@dataclass(frozen=True, slots=True)
class Outline:
    """`-` stands for what the configuration does not say; `length` is the interval in ms or None."""

    name: str
    symbol: str
    interval: str
    length: int | None
    strategy: str
    cash: Decimal | None


def outline(config: str) -> Outline:
    found = _parsed(config)
    interval = _text(found, "data", "interval")
    try:
        length = interval_ms(interval)
    except ValueError:
        length = None
    return Outline(
        name=_text(found, "name") if _text(found, "name") != "-" else _text(found, "id"),
        symbol=_text(found, "symbol"),
        interval=interval,
        length=length,
        strategy=_text(found, "strategy", "type"),
        cash=_money(found),
    )


def masked(config: str) -> object:
    """Return the configuration as data, with the values of secrets hidden; text if it is no JSON."""
    try:
        return secrecy.masked(json.loads(config))
    except (ValueError, RecursionError):
        return secrecy.without_secrets(config)


def _parsed(config: str) -> Mapping[str, Any]:
    try:
        found = json.loads(config)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def at_path(found: object, path: Iterable[str]) -> object:
    """Return what parsed JSON holds at `path`; None where there is nothing."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _text(found: Mapping[str, Any], *path: str) -> str:
    value = at_path(found, path)
    return value if isinstance(value, str) and value else "-"


def _money(found: Mapping[str, Any]) -> Decimal | None:
    try:
        cash = Decimal(str(at_path(found, ("broker", "cash"))))
    except InvalidOperation:
        return None
    return cash if cash.is_finite() else None
