"""The grammar of `jobs`: every command and option with its help."""

import argparse
from typing import Final

from jobs.command.grammar import Add, Grammar, where
from jobs.command.table import FORMATS

_DIGITS: Final = 18  # of the largest number that both databases keep
_EXAMPLES: Final = """examples:
  jobs add bot.json              check a configuration and put it into the table
  jobs list -o wide              all bots, all columns
  jobs pause 3 --reason "news"   no new bars for bot 3 until: jobs resume 3
  jobs edit 3 data.interval=15m schedule='0 9 * * mon-fri'
  jobs trades 3 --json | jq '.trades[].net_pnl'

exit codes: 0 done, 1 failed, 2 usage, 4 no such bot, 5 database not reachable,
6 refused for safety, 75 try again, 130 interrupted
"""


def grammar() -> Grammar:
    parser = Grammar(prog="jobs", description="Bots in the database: add, look at, edit, move, remove.")
    parser.epilog = _EXAMPLES
    parser.set_defaults(db=None, config=None, format="table", style="relative", headers=True)
    add = parser.verbs(dest="verb")
    _adding(add, [where(), _output()])
    _looking(add, [where(), _output()])
    _changing(add, [where(), _output()])
    return parser


def _adding(add: Add, parents: list[Grammar]) -> None:
    verb = add("add", help="check configurations and insert them as bots; prints their ids", parents=parents)
    verb.add_argument("files", nargs="+", metavar="FILE", help="a bot's JSON; - reads standard input")
    verb.add_argument("--user-id", type=_positive, default=1, help="whose bot it is (default: 1)")
    verb.add_argument("--schedule", metavar="CRON", help="cron expression instead of the bar's boundary")
    verb.add_argument("--description", default="", help="a remark for people")
    verb.add_argument("--disabled", action="store_true", help="insert it without starting it")
    verb = add("validate", help="check configurations; needs no database", parents=parents)
    verb.add_argument("files", nargs="+", metavar="FILE", help="a bot's JSON; - reads standard input")
    verb = add("edit", help="change a bot's configuration or row, checked as by add", parents=parents)
    verb.add_argument("id", type=_positive, metavar="ID")
    verb.add_argument(
        "wishes",
        nargs="+",
        metavar="KEY=VALUE",
        help="schedule, description, enabled, or a field of the configuration, such as data.interval=15m",
    )
    verb.add_argument("--reason", metavar="TEXT", help="kept in the audit log")


def _looking(add: Add, parents: list[Grammar]) -> None:
    verb = add("list", help="one line a bot", parents=parents)
    verb.add_argument("--user-id", type=_positive, help="only this user's bots")
    verb.add_argument("--state", help="only bots in this state, such as error")
    verb = add("show", help="everything about one bot", parents=parents)
    verb.add_argument("id", type=_positive, metavar="ID")
    for name, text in (
        ("trades", "a bot's closed trades, newest last"),
        ("history", "a bot's bars: when each was decided, equity, orders"),
    ):
        verb = add(name, help=text, parents=parents)
        verb.add_argument("id", type=_positive, metavar="ID")
        verb.add_argument("-n", "--limit", type=_limit, default=50, help="newest N; 0 for all (default: 50)")


def _changing(add: Add, parents: list[Grammar]) -> None:
    for name, text in (
        ("start", "enable bots; also takes one out of state error"),
        ("stop", "disable bots; cursor and state stay"),
        ("restart", "stop and start, in one transaction; errors are forgotten"),
        ("pause", "no new bars from the next boundary on; a row, so it outlives restarts"),
        ("resume", "go on from the cursor; also takes a bot out of state error"),
    ):
        verb = add(name, help=text, parents=parents)
        verb.add_argument("ids", type=_positive, nargs="*", metavar="ID")
        verb.add_argument("--all", action="store_true", help="every bot")
        verb.add_argument("--reason", metavar="TEXT", help="kept in the audit log")
    verb = add("remove", help="delete bots with their state (trades stay); asks first", parents=parents)
    verb.add_argument("ids", type=_positive, nargs="+", metavar="ID")
    verb.add_argument("-y", "--yes", action="store_true", help="do not ask")
    verb.add_argument("--force", action="store_true", help="even with an open position")


def _output() -> Grammar:
    output = Grammar(add_help=False, argument_default=argparse.SUPPRESS)
    output.add_argument("-o", "--output", dest="format", choices=FORMATS, help="default: table")
    output.add_argument("--json", dest="format", action="store_const", const="json", help="same as -o json")
    output.add_argument("--utc", dest="style", action="store_const", const="utc", help="exact times, UTC")
    output.add_argument(
        "--iso", dest="style", action="store_const", const="iso", help="exact times, ISO 8601"
    )
    output.add_argument("--no-headers", dest="headers", action="store_false", help="rows only")
    return output


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) == 0 or len(text) > _DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a bot's number, such as 3 (see: jobs list)")
    return int(text)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows")
    return int(text)
