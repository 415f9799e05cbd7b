"""Commands that only look: list, show, trades, history."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command.documents import (
    Timing,
    bot_document,
    document,
    state_of,
    step_document,
    trade_document,
    whole_bot_document,
)
from jobs.command.endings import CommandFailed, Ending
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
from jobs.command.outline import outline
from jobs.command.table import Column, aligned, as_csv, as_json, as_json_lines, colored, put, say
from persistence.rows import Overview


def list_bots(arguments: argparse.Namespace) -> int:
    with opened(arguments) as console:
        found, planned = console.list(arguments.user_id), console.next_runs()
    wanted = arguments.state
    bots = [each for each in found if wanted in {None, state_of(each.bot)}]
    timing = Timing(now_ms(), settle_ms(arguments.config), planned)
    if arguments.format in {"table", "wide"}:
        _bot_table(bots, arguments, timing)
        if not bots:
            say("no bots" if not found else f"no bot is in state {wanted}")
        return Ending.DONE
    if arguments.format == "name":
        put("\n".join(str(each.bot.id) for each in bots))
        return Ending.DONE
    documents = [bot_document(each, timing) for each in bots]
    _put_documents(arguments, documents, "list", bots=documents)
    return Ending.DONE


def show(arguments: argparse.Namespace) -> int:
    with opened(arguments) as console:
        overview, planned = console.show(arguments.id), console.next_runs()
    if overview is None:
        raise no_such_bot(arguments.id)
    timing = Timing(now_ms(), settle_ms(arguments.config), planned)
    whole = whole_bot_document(overview, timing)
    if arguments.format in {"table", "wide"}:
        put(_page(whole, timing.now, arguments.style))
    elif arguments.format == "name":
        put(str(arguments.id))
    else:
        _put_documents(arguments, [whole], "bot", bot=whole)
    return Ending.DONE


def trades(arguments: argparse.Namespace) -> int:
    with opened(arguments) as console:
        _expect(console.show(arguments.id), arguments.id)
        rows = console.trades(arguments.id, arguments.limit or None)[::-1]
    now = now_ms()
    if arguments.format in {"table", "wide"}:
        cells = [trade_cells(row, now, arguments.style) for row in rows]
        _put_table(arguments, TRADE_COLUMNS, cells)
        if not rows:
            say(f"bot {arguments.id} has closed no trade yet")
        return Ending.DONE
    documents = [trade_document(row) for row in rows]
    _put_documents(arguments, documents, "trades", "number", bot_id=arguments.id, trades=documents)
    return Ending.DONE


def history(arguments: argparse.Namespace) -> int:
    with opened(arguments) as console:
        _expect(console.show(arguments.id), arguments.id)
        rows = console.history(arguments.id, arguments.limit or None)[::-1]
    now = now_ms()
    if arguments.format in {"table", "wide"}:
        cells = [step_cells(row, now, arguments.style) for row in rows]
        _put_table(arguments, STEP_COLUMNS, cells)
        if not rows:
            say(f"bot {arguments.id} has stepped no bar yet")
        return Ending.DONE
    documents = [step_document(row) for row in rows]
    _put_documents(arguments, documents, "history", "bar", bot_id=arguments.id, steps=documents)
    return Ending.DONE


def no_such_bot(bot_id: int) -> CommandFailed:
    return CommandFailed(Ending.NO_SUCH_BOT, f"no bot {bot_id}", "jobs list shows those that there are")


def _expect(overview: Overview | None, bot_id: int) -> None:
    if overview is None:
        raise no_such_bot(bot_id)


def _bot_table(bots: Sequence[Overview], arguments: argparse.Namespace, timing: Timing) -> None:
    wide = arguments.format == "wide"
    columns = (*BOT_COLUMNS, *MORE_BOT_COLUMNS) if wide else BOT_COLUMNS
    rows = []
    for each in bots:
        seen = outline(each.bot.config)
        cells = bot_cells(each, seen, timing, arguments.style)
        rows.append([*cells, *more_bot_cells(each, seen, timing)] if wide else cells)
    _put_table(arguments, columns, rows)


def _put_table(
    arguments: argparse.Namespace, columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> None:
    put(aligned(columns, rows, headers=arguments.headers, color=colored(sys.stdout)))


def _put_documents(
    arguments: argparse.Namespace,
    documents: Sequence[Mapping[str, Any]],
    kind: str,
    name: str = "id",
    **content: Any,
) -> None:
    """Write rows in the format asked for; `name` is the field that names a row."""
    if arguments.format == "json":
        put(as_json(document(kind, **content)))
    elif arguments.format == "jsonl":
        put(as_json_lines(documents))
    elif arguments.format == "name":
        put("\n".join(str(each[name]) for each in documents))
    else:
        fields = list(documents[0]) if documents else []
        put(
            as_csv(
                fields,
                [[_cell(each[key]) for key in fields] for each in documents],
                headers=arguments.headers,
            )
        )


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (bool, dict, list)) else value


def _page(whole: Mapping[str, Any], now: int, style: Style) -> str:
    """Write one bot as lines of `name  value`, its configuration last."""
    lines = [
        [key.replace("_", " "), _plain(key, value, now, style)]
        for key, value in whole.items()
        if key not in {"config", "positions"}
    ]
    lines += [["position", " ".join(map(str, each.values()))] for each in whole["positions"]]
    config = whole["config"]
    text = config if isinstance(config, str) else json.dumps(config, indent=2, ensure_ascii=False)
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
