"""What is wrong with a configuration: every fault with its place, what was found and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the commands that validate nothing start without pydantic
    from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Fault:
    """`path` as in JSON (`strategy.parameters.position_size`); `found` is the value as it stands there."""

    path: str
    found: str
    allowed: str

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
        Fault(".".join(map(str, each["loc"])) or "(all)", _shown(each), each["msg"])
        for each in error.errors(include_url=False, include_context=False)
    )


def _shown(error: object) -> str:
    if error["type"] == "missing":
        return "nothing"
    text = repr(error["input"])
    return text if len(text) <= 80 else text[:77] + "..."
