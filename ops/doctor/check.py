"""One finding of the doctor: what was looked at, what was found, how to mend it."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    OK = "ok"
    WARN = "warn"  # works, but somebody should know
    FAIL = "fail"  # the service would not start, or not keep its promises


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    mark: Mark
    finding: str
    mend: str = ""


def ok(name: str, finding: str) -> Check:
    return Check(name, Mark.OK, finding)


def warn(name: str, finding: str, mend: str) -> Check:
    return Check(name, Mark.WARN, finding, mend)


def fail(name: str, finding: str, mend: str) -> Check:
    return Check(name, Mark.FAIL, finding, mend)
