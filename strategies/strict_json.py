"""JSON as its standard has it: no NaN, no key twice, nothing that a database could not keep as text."""

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from strategies.faults import Fault, InvalidConfig, shown

MAX_CHARACTERS: Final = 262_144
MAX_DEPTH: Final = 32
WHOLE: Final = "(all)"


def read_object(text_or_mapping: object) -> dict[str, Any]:
    """Return the object that a text spells, or a checked copy of a mapping that a database has read already.

    Raises InvalidConfig for anything else; the values found are only those that JSON has.
    """
    value = _parsed(text_or_mapping) if isinstance(text_or_mapping, str) else text_or_mapping
    if not isinstance(value, Mapping):
        raise InvalidConfig((Fault(WHOLE, shown(value), "an object, such as {...}"),))
    faults: list[Fault] = []
    copy = _copied(value, "", 0, faults)
    if faults:
        raise InvalidConfig(tuple(faults))
    return dict(copy)


def _parsed(text: str) -> object:
    if len(text) > MAX_CHARACTERS:
        found, allowed = f"{len(text)} characters", f"at most {MAX_CHARACTERS} characters"
        raise InvalidConfig((Fault(WHOLE, found, allowed),))
    try:
        return json.loads(text, object_pairs_hook=_once_each, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        found = f"{exc.msg} at line {exc.lineno} column {exc.colno}"
        raise InvalidConfig((Fault(WHOLE, found, "JSON text"),)) from exc
    except RecursionError as exc:
        raise InvalidConfig((_too_deep(WHOLE),)) from exc
    except ValueError as exc:
        if isinstance(exc, InvalidConfig):
            raise
        # Python refuses to read whole numbers of more than 4300 digits.
        raise InvalidConfig((Fault(WHOLE, "a number of too many digits", "shorter numbers"),)) from exc


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise InvalidConfig(tuple(Fault(key, "the key twice", "each key once") for key in twice))
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidConfig((Fault(WHOLE, name, "finite numbers; JSON has no NaN and no Infinity"),))


def _too_deep(path: str) -> Fault:
    return Fault(path, "deeper nesting", f"at most {MAX_DEPTH} levels")


def _copied(value: Any, path: str, depth: int, faults: list[Fault]) -> Any:
    if depth > MAX_DEPTH:
        faults.append(_too_deep(path))
        return None
    if isinstance(value, Mapping):
        for key in value:
            _check_text(key, path or WHOLE, faults)
        return {key: _copied(item, _join(path, key), depth + 1, faults) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item, _join(path, index), depth + 1, faults) for index, item in enumerate(value)]
    if isinstance(value, str):
        _check_text(value, path, faults)
    elif isinstance(value, float) and value - value != 0:
        faults.append(Fault(path, repr(value), "a finite number"))
    elif value is not None and not isinstance(value, bool | int | float):
        faults.append(Fault(path, f"a {type(value).__name__}", "a value that JSON has"))
    return value


def _join(path: str, part: object) -> str:
    return f"{path}.{part}" if path else str(part)


def _check_text(text: object, path: str, faults: list[Fault]) -> None:
    if not isinstance(text, str):
        faults.append(Fault(path, f"the key {text!r}", "keys that are text"))
    elif (
        "\0" in text or not text.isprintable() or any("\ud800" <= character <= "\udfff" for character in text)
    ):
        # PostgreSQL keeps no NUL, UTF-8 no half surrogate, and a log line no line break.
        faults.append(Fault(path, shown(text), "printable characters"))
