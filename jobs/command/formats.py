"""What a command answers to programs: documents of schema `jobs/v1` in the format asked for."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command.documents import document
from jobs.command.endings import Ending
from jobs.command.table import as_csv, as_json, as_json_lines, put
from strategies.plain_text import visible


def put_documents(
    arguments: argparse.Namespace,
    documents: Sequence[Mapping[str, Any]],
    kind: str,
    name: str = "id",
    **content: Any,
) -> int:
    """Write rows; `name` is the field that names one, `content` the whole document of `json`."""
    if arguments.format == "json":
        put(as_json(document(kind, **content)))
    elif arguments.format == "jsonl":
        put(as_json_lines(documents))
    elif arguments.format == "name":
        put("\n".join(visible(str(row[name])) for row in documents))
    else:
        fields = list(documents[0]) if documents else []
        cells = [[_cell(row[field]) for field in fields] for row in documents]
        put(as_csv(fields, cells, headers=arguments.headers))
    return Ending.DONE


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (bool, dict, list)) else value
