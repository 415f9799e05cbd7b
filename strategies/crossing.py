"""Faults that take two fields to see.

They are looked for in the raw object, so that they are reported together with the faults of single fields; a
value of the wrong type is left to its own field's fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strategies.faults import Fault, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# From here on every field refuses a number; a whole number of hundreds of digits cannot even be multiplied.
TOO_LARGE: Final = 10**15


def crossing_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _source_faults(raw)
    yield from _share_faults(raw)
    yield from _first_entry_faults(raw)


def _source_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    source, file, seed = (_at(raw, "data", key) for key in ("data_source", "file", "seed"))
    if source == "csv" and file is None:
        yield Fault("data.file", "nothing", "the name of a file, as data.data_source is csv")
    if source != "csv" and file is not None:
        yield Fault("data.file", shown(file), f"nothing, as data.data_source is {shown(source)} and not csv")
    if source != "generated" and seed is not None:
        allowed = f"nothing, as data.data_source is {shown(source)} and not generated"
        yield Fault("data.seed", shown(seed), allowed)


def _share_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    general, own = _at(raw, "trading", "position_size"), _own_share(raw)
    if all(_is_number(share) and 0 < share <= 1 for share in (general, own)) and general != own:
        # One of them would have to be ignored, and its owner would never know which.
        allowed = f"the same as trading.position_size ({general}), or only one of the two"
        yield Fault("strategy.parameters.position_size", shown(own), allowed)


def _first_entry_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    cash, limit = _at(raw, "broker", "cash"), _at(raw, "risk_management", "max_position_size")
    share = _own_share(raw) or _at(raw, "trading", "position_size")
    if not all(map(_is_number, (cash, limit, share))) or not 0 < limit < cash * share:
        return
    allowed = f"at least broker.cash x position_size = {cash * share:g}, or every entry would be refused"
    yield Fault("risk_management.max_position_size", shown(limit), allowed)


def _own_share(raw: Mapping[str, Any]) -> Any:
    # Other strategy types may give a parameter of this name a meaning of their own.
    if _at(raw, "strategy", "type") != "CustomStrategy":
        return None
    return _at(raw, "strategy", "parameters", "position_size")


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < TOO_LARGE
