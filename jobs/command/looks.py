"""Commands that only look: list, show, trades, history."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command.account import actor
from jobs.command.documents import bot_document, step_document, trade_document, whole_bot_document
from jobs.command.endings import Ending
from jobs.command.formats import put_documents
from jobs.command.listing import (
    BOT_COLUMNS,
    MORE_BOT_COLUMNS,
    STEP_COLUMNS,
    TRADE_COLUMNS,
    bot_cells,
    more_bot_cells,
    step_cells,
    trade_cells,
)
from jobs.command.location import now_ms, opened, settle_ms
from jobs.command.moments import Style, exact, parse_moment, shown, span
from jobs.command.table import Column, aligned, as_json, colored, put, say
from jobs.desk import looking
from jobs.desk.looking import Timing, state_of
from jobs.desk.outline import outline
from persistence.rows import Overview
from strategies.plain_text import visible


def list_bots(arguments: argparse.Namespace) -> int:
    with opened(arguments) as database:
        found = looking.list_bots(database, actor(), arguments.user_id)
    wanted = arguments.state
    bots = [overview for overview in found if wanted in {None, state_of(overview.bot)}]
    timing = Timing(now_ms(), settle_ms(arguments.config))
    if _for_people(arguments):
        _bot_table(bots, arguments, timing)
        if not bots:
            say("no bots" if not found else f"no bot is in state {wanted}")
        return Ending.DONE
    documents = [bot_document(overview, timing) for overview in bots]
    return put_documents(arguments, documents, "list", bots=documents)


def show(arguments: argparse.Namespace) -> int:
    with opened(arguments) as database:
        overview = looking.show(database, actor(), arguments.id)
    timing = Timing(now_ms(), settle_ms(arguments.config))
    whole = whole_bot_document(overview, timing)
    if _for_people(arguments):
        put(_page(whole, timing.now, arguments.style))
        return Ending.DONE
    return put_documents(arguments, [whole], "bot", bot=whole)


def trades(arguments: argparse.Namespace) -> int:
    with opened(arguments) as database:
        rows = looking.trades(database, actor(), arguments.id, arguments.limit or None)
    if _for_people(arguments):
        now = now_ms()
        _put_table(arguments, TRADE_COLUMNS, [trade_cells(row, now, arguments.style) for row in rows])
        if not rows:
            say(f"bot {arguments.id} has closed no trade yet")
        return Ending.DONE
    documents = [trade_document(row) for row in rows]
    return put_documents(arguments, documents, "trades", "number", bot_id=arguments.id, trades=documents)


def history(arguments: argparse.Namespace) -> int:
    with opened(arguments) as database:
        rows = looking.history(database, actor(), arguments.id, arguments.limit or None)
    if _for_people(arguments):
        now = now_ms()
        _put_table(arguments, STEP_COLUMNS, [step_cells(row, now, arguments.style) for row in rows])
        if not rows:
            say(f"bot {arguments.id} has stepped no bar yet")
        return Ending.DONE
    documents = [step_document(row) for row in rows]
    return put_documents(arguments, documents, "history", "bar", bot_id=arguments.id, steps=documents)


def _for_people(arguments: argparse.Namespace) -> bool:
    return arguments.format in {"table", "wide"}


def _bot_table(bots: Sequence[Overview], arguments: argparse.Namespace, timing: Timing) -> None:
    wide = arguments.format == "wide"
    columns = (*BOT_COLUMNS, *MORE_BOT_COLUMNS) if wide else BOT_COLUMNS
    rows = []
    for overview in bots:
        seen = outline(overview.bot.config)
        cells = bot_cells(overview, seen, timing, arguments.style)
        rows.append([*cells, *more_bot_cells(overview, seen, timing)] if wide else cells)
    _put_table(arguments, columns, rows)


def _put_table(
    arguments: argparse.Namespace, columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> None:
    color = colored(sys.stdout)
    put(aligned(columns, rows, headers=arguments.headers, color=color), tinted=color)


def _page(whole: Mapping[str, Any], now: int, style: Style) -> str:
    """Write one bot as lines of `name  value`, its configuration last."""
    lines = [
        [key.replace("_", " "), _plain(key, value, now, style)]
        for key, value in whole.items()
        if key not in {"config", "positions"}
    ]
    lines += [["position", " ".join(map(str, position.values()))] for position in whole["positions"]]
    config = whole["config"]
    text = visible(config) if isinstance(config, str) else as_json(config)
    return f"{aligned((Column(''), Column('')), lines, headers=False)}\nconfig\n{text}"


def _plain(key: str, value: object, now: int, style: Style) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith(("_at", "_bar")):
        moment = parse_moment(str(value))
        passed = f" ({shown(moment, now, 'relative')})" if style == "relative" else ""
        return exact(moment, style) + passed
    if key == "lag_ms":
        return span(int(str(value)))
    return str(value)
