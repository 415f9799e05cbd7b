"""docs/configuration.md, written from the models that check what it describes.

`python -m jobs.configuration_document` prints it; a test compares it with the file.
"""

import inspect
import sys
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jobs.settings import Settings
from strategies.config import BotConfig
from strategies.faults import shown
from strategies.field_words import allowed_by, model_of
from strategies.mixins import BUILT_IN
from strategies.sections import CustomParameters

INTRODUCTION: Final = """\
# Configuration

This document is made by `python -m jobs.configuration_document` from the models that check configurations.

There are two: the service's, in `scheduler.toml`, and each bot's, in its row of `trading_bots`. In both a
key that nobody knows is a fault, and every fault is reported at once, with its path, what was found and
what is allowed.
"""

SERVICE: Final = """\
## The service: `scheduler.toml`

Each setting can be given by the environment as well, as `ONEBAR_<SECTION>__<KEY>`, which wins over the
file; the database also as `ONEBAR_DATABASE_URL`. Paths in the file are relative to the file.
"""

BOT: Final = """\
## A bot: the JSON of its row

Checked strictly: `"14"` is not `14`, `1` is not `true`, `NaN` and a key that stands twice are refused.
"""

CUSTOM: Final = """\
## `strategy.type`

- `CustomStrategy`: one long position at a time, entered and left by mixins.
- Another registered name: an installed package offers it under the entry point group `onebar.strategies`.
- `module:Class`: the class of the file `module.py` in a folder of `[strategies] plugins`. Any Backtrader
  strategy works unmodified; its parameters are those that it declares, each of its default's type (a number
  for a number). One file is one plug-in: it cannot import its neighbours. `CustomStrategy` takes mixins
  from such files too. An edited file is new code from the next time that it is loaded.

An unknown type is refused when a bot is added. If it becomes unknown later, the bot runs `CustomStrategy`
in its place, with the mixins of its own parameters if they are valid and otherwise without any, so that it
takes no position, and the owner is told. A file that is there and cannot be loaded stops the bot instead.

An order without a size invests `position_size` of the equity at the last close; no size is rounded. Against
an open position it closes exactly that position. A share close to 1 is refused for margin whenever the next
bar opens higher, as commission comes on top.

### `strategy.parameters` of CustomStrategy
"""

MIXINS: Final = """\
### Mixins

The prefix of a parameter may be left out: `e_rsi_period` and `rsi_period` are the same.
"""

RISK: Final = """\
## What `risk_management` and `trading.max_positions` do

They are part of the broker, so a backtest knows them too, for any strategy.

- **Entries and exits.** What opens or enlarges a position is an entry; what reduces one is an exit and is
  never refused. An entry beyond a limit is rejected, with the limit as the order's `reason`. An order that
  would reverse a position and may not open the other one is cut to the part that closes. An order is asked
  again when it fills, if the position has changed so that it would open more than before.
- **Values** are those at the order's own price, or at the close of the bar that decided a market order.
- **A day** is the UTC date of a bar's open time. An entry counts on the day of its first fill, and from its
  submission on while it waits. A day's loss is what was realised on it, with the commissions paid on it;
  the fill that reaches the limit also cancels the entries that wait.
- **Stop loss and take profit** are real orders for the whole position, from the end of the bar that filled
  the entry: the next bar is the first that can fill them. They follow the average entry price when a
  position grows. If one bar reaches both prices, the stop fills. If a bar opens beyond the stop, it fills
  at the open.
- **Never both.** A market order of the strategy that is due fills before a stop (at the open); a fill that
  changes the position replaces its protective orders; a protective fill cancels the strategy's waiting
  orders on its side. The strategy cannot cancel protective orders.
"""


def document() -> str:
    parts = [
        INTRODUCTION,
        SERVICE,
        *(
            f"### `[{name}]`\n\n{_table(inner)}"
            for name, field in Settings.model_fields.items()
            if (inner := model_of(field.annotation))
        ),
        BOT,
        _table(BotConfig),
        *(
            f"### `{name}`\n\n{_table(inner)}"
            for name, field in BotConfig.model_fields.items()
            if (inner := model_of(field.annotation))
        ),
        CUSTOM,
        _table(CustomParameters),
        MIXINS,
        *(_mixin(mixin) for mixin in BUILT_IN),
        RISK,
    ]
    return "\n".join(parts)


def _mixin(mixin: Any) -> str:
    words = inspect.cleandoc(mixin.__doc__)
    return f"#### {mixin.__name__}\n\n{words}\n\n{_table(mixin.Parameters, mixin.prefix)}"


def _table(model: type[BaseModel], prefix: str = "") -> str:
    return "\n".join(("| key | allowed | default | |", "|---|---|---|---|", *_rows(model, prefix), ""))


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        allowed = "an object, see below" if _is_section(field) else allowed_by(field)
        cells = (f"`{prefix}{name}`", allowed, _default_of(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _is_section(field: FieldInfo) -> bool:
    return model_of(field.annotation) is not None


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or _is_section(field):
        return ""
    if field.default is None:
        return "none"
    value = field.default
    return f"`{shown(value if isinstance(value, bool | int | float | str | tuple) else str(value))}`"


if __name__ == "__main__":
    sys.stdout.write(document())
