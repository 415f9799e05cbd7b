"""What the doctor looks at before any database: interpreter, packages, clock, memory, the unit."""

import importlib.metadata
import os
import platform
import re
import shutil
import stat
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jobs.settings import WorkerSettings
from ops.doctor.check import Check, fail, ok, warn

ROOT: Final = Path(__file__).parents[2]
OLDEST: Final = (3, 11)
NEWEST_TRIED: Final = (3, 13)
# No clock can be right that shows a time before this version was written.
WRITTEN: Final = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK_LOOK_S: Final = 0.2
CLOCK_SLACK_S: Final = 0.1
UNIT_PLACES: Final = (
    Path("/etc/systemd/system"),
    Path("/usr/lib/systemd/system"),
    Path("/lib/systemd/system"),
)
UNIT_NAME: Final = "onebar.service"
SECRETS: Final = Path("/etc/onebar/environment")  # as ops/install.sh makes it


def python() -> Check:
    found = f"Python {platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] < OLDEST:
        return fail("python", found, "install Python 3.11 or newer and make the virtual environment with it")
    if sys.version_info[:2] > NEWEST_TRIED:
        return warn("python", found, "3.11 to 3.13 are what this version was tried with")
    return ok("python", found)


def packages(lock: Path = ROOT / "requirements.txt") -> Check:
    """Compare what is installed with the lock file, for what the service itself needs."""
    mend = f"run: {sys.executable} -m pip install -r {lock}"
    if not lock.is_file():
        return warn("packages", f"{lock} is not there", "compare with the versions of the release by hand")
    wanted = locked_versions(lock.read_text(encoding="utf-8"))
    off = sorted(_differences(wanted))
    if any("not installed" in difference for difference in off):
        return fail("packages", "; ".join(off), mend)
    if off:
        return warn("packages", "; ".join(off), mend)
    return ok("packages", f"{len(_needed() & set(wanted))} packages at their locked versions")


def locked_versions(text: str) -> Mapping[str, str]:
    """Read `name==version` of the lines without a marker; one with a marker may not be for this machine."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;]+)\s*$", text, re.MULTILINE)
    return {_canonical(name): version for name, version in found}


def _differences(wanted: Mapping[str, str]) -> Iterator[str]:
    for name in _needed():
        version = wanted.get(name)
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} is not installed"
            continue
        if version is not None and installed != version:
            yield f"{name} {installed} instead of {version}"


def _needed() -> set[str]:
    """Names of what the service imports itself, not of what those need or what tests need."""
    try:
        required = importlib.metadata.requires("onebar") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        required = project["dependencies"]
    return {_canonical(re.split(r"[\[<>=!~ ;]", line)[0]) for line in required if "extra ==" not in line}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def clock() -> Check:
    """Compare the wall clock with the monotonic one for a moment, and with a date that has passed."""
    now = datetime.now(UTC)
    if now < WRITTEN:
        return fail("clock", f"it shows {now:%Y-%m-%d %H:%M} UTC", "set the clock, turn on NTP")
    wall, monotonic = time.time(), time.monotonic()
    time.sleep(CLOCK_LOOK_S)
    drift = (time.time() - wall) - (time.monotonic() - monotonic)
    if abs(drift) > CLOCK_SLACK_S:
        return warn("clock", f"it jumped {drift:+.2f} s within {CLOCK_LOOK_S} s", "turn on NTP")
    return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, steady; the time zone does not matter")


def memory(workers: WorkerSettings) -> Check:
    import psutil

    count = workers.count or os.cpu_count() or 1
    total = psutil.virtual_memory().total // 2**20
    finding = f"{count} workers of at most {workers.memory_limit_mb} MB on a machine with {total} MB"
    if count * workers.memory_limit_mb > total:
        return warn(
            "memory", finding, "lower [workers] count or memory_limit_mb: together they may need more"
        )
    return ok("memory", finding)


def unit() -> Check:
    """Say whether the service starts at boot, where systemd is what starts services."""
    if sys.platform == "win32":
        return ok("start at boot", "not looked at; ops/windows registers the service")
    if shutil.which("systemctl") is None:
        return ok("start at boot", "no systemd here: something else must start `scheduler run`")
    for place in UNIT_PLACES:
        if (place / UNIT_NAME).is_file():
            return ok("start at boot", str(place / UNIT_NAME))
    return warn(
        "start at boot", f"no {UNIT_NAME}", "run: sudo ops/install.sh (or start it by hand each time)"
    )


def secrets(path: Path = SECRETS) -> Iterator[Check]:
    """Look at who may read the file with the service's passwords, where there is one."""
    if sys.platform == "win32" or not path.is_file():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield fail("secrets", f"{path} has mode {mode:o}: everybody may look", f"run: sudo chmod o= {path}")
    else:
        yield ok("secrets", f"{path} has mode {mode:o}")
