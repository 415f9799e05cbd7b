"""Rows on a terminal or for the next program. rich's tables cost 0.1 s to import; these cost nothing."""

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO

from strategies.plain_text import for_spreadsheet, visible, visible_json

FORMATS: Final = ("table", "wide", "json", "jsonl", "csv", "name")

_RESET: Final = "\x1b[0m"
_COLORS: Final = {"running": "\x1b[32m", "paused": "\x1b[33m", "error": "\x1b[31m"}


@dataclass(frozen=True, slots=True)
class Column:
    """`right` for numbers, which people compare digit by digit."""

    title: str
    right: bool = False


def colored(stream: TextIO) -> bool:
    """Answer as no-color.org and clig.dev ask: only a terminal, and only if nobody objects."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def aligned(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, headers: bool = True, color: bool = False
) -> str:
    """Align cells with two spaces between them; a cell's line breaks and control characters are shown."""
    cells = [[visible(cell) for cell in row] for row in rows]
    lines = [[column.title for column in columns], *cells] if headers else cells
    widths = [max((len(line[at]) for line in lines), default=0) for at in range(len(columns))]
    text = []
    for line in lines:
        parts = [
            _tinted(cell, cell.rjust(width) if column.right else cell.ljust(width), color=color)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        text.append("  ".join(parts).rstrip())
    return "\n".join(text)


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[object]], *, headers: bool = True) -> str:
    """Write rows for programs and spreadsheets, which compute what a text may not make them compute."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if headers:
        writer.writerow(columns)
    writer.writerows(["" if cell is None else for_spreadsheet(cell) for cell in row] for row in rows)
    return out.getvalue().rstrip("\n")


def as_json(document: Mapping[str, Any]) -> str:
    return visible_json(json.dumps(document, ensure_ascii=False, indent=2))


def as_json_lines(documents: Sequence[Mapping[str, Any]]) -> str:
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in documents)
    return "\n".join(map(visible_json, lines))


def say(text: str) -> None:
    """Talk goes to stderr, so that stdout is data only."""
    print(visible(text, keep="\n"), file=sys.stderr)


def put(text: str, *, tinted: bool = False) -> None:
    """Write data to stdout. Text that is not `tinted` by us, cell by cell, can do nothing but show."""
    if text:
        print(text if tinted else visible(text, keep="\n"))


def _tinted(word: str, padded: str, *, color: bool) -> str:
    tint = _COLORS.get(word) if color else None
    return f"{tint}{padded}{_RESET}" if tint else padded
