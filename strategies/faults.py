"""What is wrong with a configuration: every fault with its place, what was found and what is allowed."""

from dataclasses import dataclass
from typing import Any


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
