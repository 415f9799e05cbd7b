"""What the analyzers would report if the run ended now, as plain values."""

from typing import Any

from strategies.engine.engine_errors import HistoryTooShort
from strategies.engine.machine.cerebro import Machine


def analysis_of(machine: Machine) -> dict[str, Any]:
    """End the analyzers as a run's end would; the objects have to be loaded anew afterwards.

    One that walks over more history than is kept has HistoryTooShort for its result.
    """
    found: dict[str, Any] = {}
    for at, strategy in enumerate(machine.strategies):
        for name, analyzer in strategy.analyzers.getitems():
            try:
                analyzer._stop()
                result = _plain(analyzer.get_analysis())
            except HistoryTooShort as short:
                result = short  # the others have theirs
            found[name if not at else f"{at}.{name}"] = result
    return found


def _plain(value: Any) -> Any:
    """Return a copy in dicts and lists, detached from the engine's objects."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(_plain(item) for item in value)
    return list(value) if isinstance(value, list | tuple) else value
