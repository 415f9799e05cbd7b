"""How far a replay is: a bar on a terminal, a line every few seconds for a log. Talk goes to stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from jobs.command.moments import iso
from jobs.command.table import say
from jobs.replay.journey import Onlooker, Share

LINE_EVERY_S: Final = 5.0
DRAW_EVERY_S: Final = 0.1


@contextmanager
def progress() -> Iterator[Onlooker]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[bars]} bars"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as drawn:
        bar = _Bar(drawn)
        yield bar
        bar.finish()


class _Lines:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def remark(self, text: str) -> None:
        say(f"replay: {text}")

    def progress(self, done: Share, moment: int, bars: int) -> None:
        if time.monotonic() - self._last >= LINE_EVERY_S:
            self._last = time.monotonic()
            self.remark(f"{done():6.1%}  {iso(moment)}  {bars} bars")


class _Bar:
    """Draws ten times a second at most, and the last word at the end, however soon after the one before."""

    def __init__(self, drawn: Any) -> None:
        self._drawn = drawn
        self._task = drawn.add_task("replay", total=1.0, bars=0)
        self._last = 0.0
        self._latest: tuple[Share, int, int] | None = None

    def remark(self, text: str) -> None:
        self._drawn.console.print(f"replay: {text}", markup=False, highlight=False)

    def progress(self, done: Share, moment: int, bars: int) -> None:
        self._latest = (done, moment, bars)
        if time.monotonic() - self._last >= DRAW_EVERY_S:
            self._last = time.monotonic()
            self.finish()

    def finish(self) -> None:
        if self._latest is not None:
            done, moment, bars = self._latest
            self._drawn.update(self._task, completed=done(), description=iso(moment), bars=bars, refresh=True)
