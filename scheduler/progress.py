"""How far a replay is: a bar on a terminal, a line every few seconds for a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from jobs.command.moments import iso
from jobs.command.table import say

LINE_EVERY_S: Final = 5.0
DRAW_EVERY_S: Final = 0.1


Share = Callable[[], float]  # 0 to 1


class Progress(Protocol):
    def __call__(self, done: Share, moment: int, bars: int) -> None:
        """Show that `done()` of the way is behind us at `moment` (ms), with `bars` committed.

        Asked at each boundary and shown now and then, so `done` is called only then.
        """


@contextmanager
def progress() -> Iterator[Progress]:
    if sys.stderr.isatty():
        with _drawn() as shown:
            yield shown
    else:
        yield _Lines(time.monotonic())


@dataclass(slots=True)
class _Lines:
    last: float

    def __call__(self, done: Share, moment: int, bars: int) -> None:
        if time.monotonic() - self.last >= LINE_EVERY_S:
            self.last = time.monotonic()
            say(f"replay: {done():6.1%}  {iso(moment)}  {bars} bars")


@contextmanager
def _drawn() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[bars]} bars"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), auto_refresh=False) as drawn:
        task = drawn.add_task("replay", total=1.0, bars=0)
        last = 0.0

        latest: tuple[Share, int, int] | None = None

        def draw(done: Share, moment: int, bars: int) -> None:
            drawn.update(task, completed=done(), description=iso(moment), bars=bars, refresh=True)

        def show(done: Share, moment: int, bars: int) -> None:
            nonlocal last, latest
            latest = (done, moment, bars)
            if time.monotonic() - last >= DRAW_EVERY_S:
                last = time.monotonic()
                draw(done, moment, bars)

        yield show
        if latest is not None:
            draw(*latest)
