"""Time zones that a state names: looked up without importing anything because a state says so.

Zones of pytz are there only for a strategy that has imported it.

`ZoneInfo` imports packages of tzdata for a key that the system's own database does not have. A hostile
state could make it do so; where there is a system database, only its zones are taken.
"""

import re
import sys
import zoneinfo
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from strategies.engine.engine_errors import StateInvalid

PYTZ: Final = "pytz/"  # stands before the name of a zone of that library
KEY: Final = re.compile(r"[A-Za-z0-9_+-]{1,64}(/[A-Za-z0-9_+-]{1,64}){0,3}")


def zone_named(key: str) -> Any:
    """Return a zone by its IANA key. Raises StateInvalid for one that is not there."""
    if key.startswith(PYTZ):
        pytz, name = sys.modules.get("pytz"), key.removeprefix(PYTZ)
        if pytz is None or name not in pytz.all_timezones_set:
            raise StateInvalid("an unknown time zone")
        return pytz.timezone(name)
    if not KEY.fullmatch(key):
        raise StateInvalid(f"{key[:80]!r} is no time zone")
    folders = [Path(folder) for folder in zoneinfo.TZPATH if Path(folder).is_dir()]
    if folders and not any((folder / key).is_file() for folder in folders):
        raise StateInvalid(f"time zone {key!r} is not known here")
    return ZoneInfo(key)
