"""Edits of a bot: columns of its row, and fields of its configuration by dotted path.

A row is read, changed as a value, checked as a whole as if it were added, and written by one UPDATE onto
the revision that was read. The check is not made inside the transaction, since it may take seconds; so if
somebody else has edited the row meanwhile, nothing is written and the caller is told to look again. To
merge both edits would write a configuration that nobody has checked.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from jobs.desk.actor import Actor, OpenDatabase, bot_for
from jobs.desk.checking import Installation, check
from jobs.desk.outline import at_path
from jobs.schedule import cron_of
from persistence import bots
from persistence.rows import Bot
from strategies.config import BotConfig
from strategies.faults import Fault, InvalidConfig, shown
from strategies.field_words import model_of
from strategies.strict_json import MAX_DEPTH, read_object

COLUMNS: Final[Mapping[str, tuple[type | tuple[type, ...], str]]] = {
    "schedule": ((str, type(None)), "a cron expression, or nothing"),
    "description": (str, "text"),
    "enabled": (bool, "true or false"),
}


class EditedMeanwhile(Exception):
    """Somebody else edited the row while this edit was checked. Nothing was written; look again."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field; `old` is None where there was nothing."""

    path: str
    old: object
    new: object


@dataclass(frozen=True, slots=True)
class Edited:
    """`changes` has only what is different now; none if everything was so already, and nothing written."""

    bot_id: int
    changes: tuple[Change, ...]


def edit(
    database: OpenDatabase,
    actor: Actor,
    bot_id: int,
    wishes: Mapping[str, object],
    installation: Installation,
    *,
    reason: str | None = None,
) -> Edited:
    """Edit a bot. `wishes` are JSON values by column (`COLUMNS`) or by path (`data.interval`).

    Raises NoSuchBot, InvalidConfig with every fault, EditedMeanwhile.
    """
    with database.read() as transaction:
        bot = bot_for(transaction, actor, bot_id)
    columns, changes = _edited(bot, wishes)
    if not columns:
        return Edited(bot_id, ())
    if columns.keys() & {"config", "schedule"} or columns.get("enabled"):
        # What neither decides anything nor starts anything is also for a bot whose configuration is broken.
        schedule = columns.get("schedule", cron_of(bot.schedule))
        checked = check(columns.get("config", bot.config), installation, schedule)
        if checked.faults:
            raise InvalidConfig(checked.faults)
    with database.write() as transaction:
        if not bots.edit_bot(
            transaction, bot_id, columns, revision=bot.revision, actor=actor.name, reason=reason
        ):
            raise EditedMeanwhile(f"bot {bot_id} was edited or removed by somebody else meanwhile")
    return Edited(bot_id, changes)


def _edited(bot: Bot, wishes: Mapping[str, object]) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """Return the columns to write, and what changes field by field. Raises InvalidConfig."""
    columns: dict[str, Any] = {}
    changes: list[Change] = []
    faults: list[Fault] = []
    config = read_object(bot.config) if wishes.keys() - COLUMNS.keys() else {}
    edited = deepcopy(config)
    for path, new in wishes.items():
        if path not in COLUMNS and path.partition(".")[0] not in BotConfig.model_fields:
            faults.append(_unknown(path))
            continue
        old = getattr(bot, path) if path in COLUMNS else at_path(config, path.split("."))
        if json.dumps(old) == json.dumps(new):  # not ==, to which 1, 1.0 and true are the same
            continue
        changes.append(Change(path, old, new))
        if path not in COLUMNS:
            faults += _put(edited, path, new)
            columns["config"] = json.dumps(edited, ensure_ascii=False)
        elif isinstance(new, COLUMNS[path][0]):
            columns[path] = new
        else:
            faults.append(Fault(path, shown(new), COLUMNS[path][1]))
    if faults:
        raise InvalidConfig(tuple(faults))
    return columns, tuple(changes)


def _unknown(path: str) -> Fault:
    """Say what may be edited, and the fields that end as this path does: people write interval=1h."""
    known = [
        f"{section}.{name}"
        for section, field in BotConfig.model_fields.items()
        if (inner := model_of(field.annotation))
        for name in inner.model_fields
    ]
    meant = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]]
    allowed = f"{', '.join(COLUMNS)}, or a path into the configuration such as data.interval"
    return Fault(
        path, "no such field", f"{allowed}; did you mean {' or '.join(meant)}?" if meant else allowed
    )


def _put(config: dict[str, Any], path: str, new: object) -> tuple[Fault, ...]:
    """Set a field; sections on the way that are not there are made, and the check says if they may be."""
    *sections, last = path.split(".")
    if len(sections) >= MAX_DEPTH:
        return (Fault(f"{path[:40]}...", f"{len(sections) + 1} levels", f"at most {MAX_DEPTH} levels"),)
    for depth, key in enumerate(sections, start=1):
        inner = config.setdefault(key, {})
        if not isinstance(inner, dict):
            return (Fault(".".join(sections[:depth]), shown(inner), f"a section that has {last}"),)
        config = inner
    config[last] = new
    return ()
