"""`scheduler demo`: the real service with paper bots on a made-up market, and a table of what they do.

A folder with a database, a scheduler.toml and a log is made; the service runs as a child process on
them, exactly as anybody would run it; this process only looks. If it is killed, nothing is lost: the
service goes on by itself until somebody stops it (its process id is in `scheduler status`).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from jobs.command.endings import CommandFailed, Ending
from jobs.command.table import put, say
from jobs.desk import Actor
from jobs.desk.adding import Columns, add, has_bots
from jobs.desk.checking import Installation, check
from jobs.settings import Settings, load_settings
from jobs.signals import signals_to
from persistence import schema
from persistence.console import Console
from persistence.sqlite_file import private
from scheduler.command.demo_screen import read_scene, screen

ROOT: Final = Path(__file__).parents[2]
BOTS: Final = ROOT / "ops" / "demo"
STRATEGIES: Final = BOTS / "strategies"
DATABASE: Final = "demo.db"
LOOK_EVERY_S: Final = 0.5
START_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 15.0
SHORT_SETTLE_MS: Final = 150  # the made-up market has its bars at once
SETTINGS: Final = """# Made by `scheduler demo`.
[database]
url = {url}

[strategies]
plugins = [{plugins}]

[markets]
settle_ms = {settle_ms}

[workers]
count = 2
"""


def demo(directory: Path | None, seconds: float | None) -> int:
    """Run until Ctrl-C, or for `seconds` from the first bar on; say at the end where everything is kept."""
    folder = directory or Path(tempfile.mkdtemp(prefix="onebar-demo-"))
    config = prepared(folder)
    settings = load_settings(config)
    added = add_bots_if_none(settings)
    say(f"demo: {len(added)} paper bots on a made-up market, in {folder}; Ctrl-C ends it")
    timer = Timer(seconds, time.monotonic())
    stop = Stop()
    with signals_set(stop), service(folder, config) as child, screen() as shown:
        while not (stop.asked or timer.over or child.poll() is not None):
            scene = read_scene(settings.database.url)
            timer.look(scene.bars)
            shown(scene)
            time.sleep(LOOK_EVERY_S)
        died = child.poll()
    _summary(settings, config)
    if died is not None and not stop.asked:
        say(_last_words(folder))
        advice = f"see {folder / 'service.log'}"
        raise CommandFailed(Ending.FAILED, f"the service ended by itself with {died}", advice)
    return Ending.DONE


@dataclass(slots=True)
class Timer:
    """`--seconds` count from the first bar on: how long a machine takes to start is no part of the show."""

    seconds: float | None
    launched: float
    began: float | None = None

    def look(self, bars: int) -> None:
        if self.began is None and bars:
            self.began = time.monotonic()

    @property
    def over(self) -> bool:
        if self.seconds is None:
            return False
        end = self.launched + START_WITHIN_S if self.began is None else self.began
        return time.monotonic() >= end + self.seconds


def prepared(folder: Path) -> Path:
    """Make the database and the settings of a demo; return the settings' file."""
    folder.mkdir(parents=True, exist_ok=True)
    database = folder.resolve() / DATABASE
    config = folder.resolve() / "scheduler.toml"
    for path in (database, config):
        if path.exists():
            advice = f"go on with it by: scheduler run --config {config}"
            raise CommandFailed(Ending.REFUSED, f"{path} is there already", advice)
    url = f"sqlite:///{database.as_posix()}"
    schema.upgrade(url)
    # A JSON string is a TOML string too.
    text = SETTINGS.format(
        url=json.dumps(url), plugins=json.dumps(STRATEGIES.as_posix()), settle_ms=SHORT_SETTLE_MS
    )
    config.write_text(text, encoding="utf-8")
    return config


def add_bots_if_none(settings: Settings) -> tuple[int, ...]:
    """Add the demo's bots to an empty table and say how to add others; does nothing if there are any.

    Raises InvalidConfig if the settings leave out the folder of the demo's strategies.
    """
    schema.upgrade(settings.database.url)
    with Console(settings.database.url) as database:
        # Looked at first too: to check the demo's configurations takes seconds.
        if has_bots(database):
            return ()
        installation = Installation.of(settings)
        texts = [path.read_text(encoding="utf-8") for path in sorted(BOTS.glob("*.json"))]
        checked = [check(text, installation) for text in texts]
        now = time.time_ns() // 1_000_000
        added = add(database, Actor("demo"), checked, Columns(), now_ms=now, to_empty=True)
    if added:
        say(f"the table had no bots: added the demo's {len(added)}, on paper; add your own by: jobs add FILE")
        say(f"a file to begin with: {BOTS / 'crossover_eth.json'}; take the demo's away by: jobs remove ID")
    return added


class Stop:
    """Whether somebody asked for the end."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.asked = True


@contextmanager
def signals_set(stop: Stop) -> Iterator[None]:
    with signals_to(stop, ("SIGINT", "SIGTERM", "SIGHUP")):
        yield


@contextmanager
def service(folder: Path, config: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Run `scheduler run` as a child, and end it the way a service manager does."""
    root = str(ROOT)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ONEBAR_")}
    path = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "scheduler.command", "run", "--config", str(config)]
    with open(folder / "service.log", "ab", opener=private) as log:
        # A session of its own: Ctrl-C is ours to pass on, once.
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            command,
            env={**kept, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _summary(settings: Settings, config: Path) -> None:
    scene = read_scene(settings.database.url)
    put(f"{len(scene.bots)} bots, {scene.bars} bars, {scene.trades} trades")
    put(f"kept in {config.parent}")
    put(f"look at it:   jobs list --config {config}")
    put(f"go on:        scheduler run --config {config}")


def _last_words(folder: Path, lines: int = 10) -> str:
    text = (folder / "service.log").read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])
