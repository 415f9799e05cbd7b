"""What is wrong with a configuration: every fault with its place, what was found and what is allowed."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strategies.secrecy import HIDDEN, is_secret, masked, unknown

if TYPE_CHECKING:  # the commands that validate nothing start without pydantic
    from collections.abc import Iterable

    from pydantic import ValidationError

LONGEST_SHOWN: Final = 80
NOTHING: Final = "nothing"  # found where something has to stand


@dataclass(frozen=True, slots=True)
class Fault:
    """`path` as in JSON (`strategy.parameters.position_size`); `found` is the value as it stands there.

    A value below a secret key is hidden here, whoever makes the fault and wherever it is shown.
    """

    path: str
    found: str
    allowed: str

    def __post_init__(self) -> None:
        if self.found[:1] in tuple("\"'0123456789-{[") and any(map(is_secret, self.path.split("."))):
            object.__setattr__(self, "found", HIDDEN)

    def __str__(self) -> str:
        return f"{self.path}: found {self.found}, allowed: {self.allowed}"


class InvalidConfig(ValueError):
    """A configuration that must not run. Carries all of its faults, not only the first."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def faults_of(error: ValidationError) -> tuple[Fault, ...]:
    """Translate pydantic's errors. The value found is shown as JSON would, cut at 80 characters."""
    return tuple(
        Fault(
            ".".join(map(str, fault["loc"])) or "(all)",
            found_in(fault["type"], fault["input"]),
            fault["msg"],
        )
        for fault in error.errors(include_url=False, include_context=False)
    )


def found_in(kind: str, value: object) -> str:
    """Return what pydantic found: nothing, or the value as it may be shown."""
    if kind == "missing":
        return NOTHING
    return shown_unknown(value) if kind == "extra_forbidden" else shown(value)


def shown_unknown(value: object) -> str:
    """Return the value of a key that nobody knows: a secret may have been given a wrong name."""
    return unknown(value) or shown(value)


def shown(value: object) -> str:
    """Return the value as JSON writes it, without secrets, cut at 80 characters; of no JSON, the type."""
    try:
        text = json.dumps(masked(value))
    except RecursionError:
        text = "values nested too deeply"
    except (TypeError, ValueError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def choice_of(names: Iterable[str], found: str) -> str:
    """Return `one of: a, b; did you mean b?`: what is allowed, and the nearest name if one is near."""
    known = sorted(names)
    listed = "one of: " + ", ".join(known) if known else "nothing here"
    near = difflib.get_close_matches(found, known, n=1)
    return f"{listed}; did you mean {near[0]}?" if near else listed
