"""What a field allows, in words: the same words in a fault's message and in the generated document."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel

from strategies.faults import Fault, choice_of, shown

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
    for each in error.errors(include_url=False):
        loc = tuple(map(str, each["loc"]))
        path = ".".join((names or {}).get(part, part) for part in loc)
        found = "nothing" if each["type"] == "missing" else shown(each["input"])
        context = each.get("ctx", {})
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
        kinds = [each for each in get_args(annotation) if each is not type(None)]
        return kinds[0], len(kinds) < len(get_args(annotation))
    return annotation, False


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of: " + ", ".join(shown(each) for each in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "an object with " + ", ".join(kind.model_fields)
    if get_origin(kind) is tuple:
        return f"an array, each {_named(get_args(kind)[0])}"
    return NAMES.get(get_origin(kind) or kind, "a value")


def _range_of(field: FieldInfo) -> str:
    low, high = "", ""
    lengths = [each for each in field.metadata if isinstance(each, annotated_types.MaxLen)]
    if lengths:
        return f" of at most {_number(lengths[0].max_length)} characters"
    for each in field.metadata:
        if isinstance(each, annotated_types.Ge):
            low = f"from {_number(each.ge)}"
        elif isinstance(each, annotated_types.Gt):
            low = f"above {_number(each.gt)}"
        elif isinstance(each, annotated_types.Le):
            high = f"to {_number(each.le)}" if low.startswith("from") else f"up to {_number(each.le)}"
        elif isinstance(each, annotated_types.Lt):
            high = f"below {_number(each.lt)}"
    if low and high.startswith(("up", "below")):
        return f" {low} and {high}"
    return "".join(f" {each}" for each in (low, high) if each)


def _number(value: Any) -> str:
    return f"{int(value):,}" if value == int(value) else str(value)
