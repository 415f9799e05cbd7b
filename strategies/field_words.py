"""What a field allows, in words: the same words in a fault's message and in the generated document."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel

from strategies.faults import Fault, choice_of, found_in, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

NAMES: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "an object",
    Path: "a path",
}


def allowed_by(field: FieldInfo) -> str:
    """Return the type, range and unit of a field: `a number above 0 and at most 1 (share of equity)`."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    kind, nullable = _kind_of(field.annotation)
    words = str(extra["allowed"]) if "allowed" in extra else f"{_named(kind)}{_range_of(field)}"
    unit = f" ({extra['unit']})" if "unit" in extra else ""
    return f"{words}{unit}{', or null' if nullable else ''}"


def faults_in(
    model: type[BaseModel], error: ValidationError, prefix: str = "", names: Mapping[str, str] | None = None
) -> tuple[Fault, ...]:
    """Translate pydantic's errors on `model` into faults under `prefix`.

    `names` gives a field's name as the owner wrote it, where that is another than the model's.
    """
    faults = []
    for fault in error.errors(include_url=False):
        loc = tuple(map(str, fault["loc"]))
        path = ".".join((names or {}).get(part, part) for part in loc)
        found = found_in(fault["type"], fault["input"])
        context = fault.get("ctx", {})
        allowed = str(context["error"]) if "error" in context else _allowed_at(model, loc)
        faults.append(Fault(prefix + path, found, allowed))
    return tuple(faults)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, if it holds one."""
    kind, _ = _kind_of(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _allowed_at(model: type[BaseModel], loc: tuple[str, ...]) -> str:
    *parents, name = loc
    for parent in parents:
        field = model.model_fields.get(parent)
        inner = model_of(field.annotation) if field else None
        if inner is None:
            # Inside a free object there is nothing to look up.
            return allowed_by(field) if field else "nothing here"
        model = inner
    if name in model.model_fields:
        return allowed_by(model.model_fields[name])
    return choice_of(model.model_fields, name)


def _kind_of(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in {Union, types.UnionType}:
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0], len(kinds) < len(get_args(annotation))
    return annotation, False


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of: " + ", ".join(shown(choice) for choice in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "an object with " + ", ".join(kind.model_fields)
    if get_origin(kind) is tuple:
        return f"an array, each {_named(get_args(kind)[0])}"
    return NAMES.get(get_origin(kind) or kind, "a value")


def _range_of(field: FieldInfo) -> str:
    low, high = "", ""
    lengths = [limit for limit in field.metadata if isinstance(limit, annotated_types.MaxLen)]
    if lengths:
        return f" of at most {_number(lengths[0].max_length)} characters"
    for limit in field.metadata:
        if isinstance(limit, annotated_types.Ge):
            low = f"from {_number(limit.ge)}"
        elif isinstance(limit, annotated_types.Gt):
            low = f"above {_number(limit.gt)}"
        elif isinstance(limit, annotated_types.Le):
            high = f"to {_number(limit.le)}" if low.startswith("from") else f"up to {_number(limit.le)}"
        elif isinstance(limit, annotated_types.Lt):
            high = f"below {_number(limit.lt)}"
    if low and high.startswith(("up", "below")):
        return f" {low} and {high}"
    return "".join(f" {end}" for end in (low, high) if end)


def _number(value: Any) -> str:
    return f"{int(value):,}" if value == int(value) else str(value)
