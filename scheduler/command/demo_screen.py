"""What the demo shows: a table that is drawn again and again on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from jobs.command.listing import cents, held
from jobs.command.moments import bar_name
from jobs.command.table import put
from jobs.desk.actor import Actor
from jobs.desk.glance import glance
from jobs.desk.looking import state_of
from jobs.desk.outline import outline
from persistence.console import Console
from persistence.rows import Overview
from strategies.plain_text import visible

LINE_EVERY_S: Final = 2.0
NEWS: Final = 8
TITLES: Final = (
    "ID",
    "BOT",
    "SYMBOL",
    "TF",
    "STATE",
    "LAST BAR",
    "BARS",
    "TRADES",
    "POSITION",
    "PNL",
    "EQUITY",
)
LEFT: Final = 6  # the columns from here on are numbers, but for the position
STATE_STYLES: Final = {"running": "green", "error": "red", "paused": "yellow"}


@dataclass(frozen=True, slots=True)
class Scene:
    """All bots at one moment (ms); `news` are the newest alerts, (key, text), oldest first."""

    now: int
    bots: tuple[Overview, ...]
    trades_of: Mapping[int, int]
    news: tuple[tuple[str, str], ...]

    @property
    def bars(self) -> int:
        return sum(overview.version for overview in self.bots)

    @property
    def trades(self) -> int:
        return sum(self.trades_of.values())


Screen = Callable[[Scene], None]


def read_scene(url: str) -> Scene:
    """Read what is committed. Raises DatabaseUnavailable."""
    with Console(url) as database:
        seen = glance(database, Actor("demo"), NEWS)
    told = tuple((alert.key, alert.body) for alert in reversed(seen.news))
    return Scene(time.time_ns() // 1_000_000, seen.bots, seen.trades_of, told)


@contextmanager
def screen() -> Iterator[Screen]:
    if sys.stdout.isatty():
        with _drawn() as shown:
            yield shown
    else:
        yield _Lines()


@contextmanager
def _drawn() -> Iterator[Screen]:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield lambda scene: live.update(_picture(scene), refresh=True)


def _picture(scene: Scene) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(TITLES):
        right = number >= LEFT and title != "POSITION"
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for row in _rows(scene):
        cells = [Text(cell) for cell in row]
        cells[4].stylize(STATE_STYLES.get(row[4], ""))
        table.add_row(*cells)
    news = [Text(visible(text), style="dim") for _, text in scene.news]
    return Group(table, Text(), *news)


def _rows(scene: Scene) -> list[list[str]]:
    rows = []
    for overview in scene.bots:
        seen = outline(overview.bot.config)
        rows.append(
            [
                str(overview.bot.id),
                visible(seen.name),
                visible(seen.symbol),
                visible(seen.interval),
                state_of(overview.bot),
                bar_name(overview.last_bar, scene.now, "relative"),
                str(overview.version),
                str(scene.trades_of.get(overview.bot.id, 0)),
                held(overview.positions),
                cents(overview.bot.total_pnl),
                cents(overview.bot.current_balance),
            ]
        )
    return rows


@dataclass(slots=True)
class _Lines:
    """One line every two seconds, and one for an alert, once."""

    last: float = 0.0
    told: set[str] = field(default_factory=set)

    def __call__(self, scene: Scene) -> None:
        for key, text in scene.news:
            if key not in self.told:
                put(text)
        self.told = {key for key, _ in scene.news} | self.told
        if time.monotonic() - self.last < LINE_EVERY_S:
            return
        self.last = time.monotonic()
        running = sum(state_of(overview.bot) == "running" for overview in scene.bots)
        put(f"{running} of {len(scene.bots)} bots running, {scene.bars} bars, {scene.trades} trades")
        sys.stdout.flush()
