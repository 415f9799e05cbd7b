"""The `scheduler` command: run the service, look at it, replay, demo, doctor, the database's schema.

A command imports what it needs when it runs: `scheduler status` is called by health probes.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from jobs.command.endings import CommandFailed, Ending
from jobs.command.grammar import Add, Grammar, where
from jobs.command.judgement import ending_of
from jobs.command.location import expect_url
from jobs.command.moments import parse_moment
from jobs.command.table import put, say
from strategies.secrecy import shown_url

if TYPE_CHECKING:
    from jobs.settings import Settings

_EXAMPLES = """examples:
  scheduler run                                   the service, in the foreground
  scheduler demo --seconds 60                     paper bots on generated candles; no key, no network
  scheduler replay --from 2021-01-01 --to 2021-02-01
  scheduler doctor                                what is wrong here and how to mend it

exit codes: 0 done, 1 failed, 2 usage, 3 not running, 4 no such bot, 5 database not reachable,
6 refused for safety, 75 try again (another service runs), 130 interrupted
"""


class Verb(Protocol):
    def __call__(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage ends with SystemExit(2)."""
    arguments = grammar().parse_args(argv)
    return ending_of("scheduler", lambda: VERBS[arguments.verb](arguments))


def grammar() -> Grammar:
    parser = Grammar(prog="scheduler", description="Steps every bot when its bar closes.", epilog=_EXAMPLES)
    parser.set_defaults(db=None, config=None)
    add = parser.verbs(dest="verb")
    _running(add)
    _replaying(add)
    verb = add("db", help="create or check the database's tables", parents=[where()])
    verb.add_argument("action", choices=("upgrade", "check"))
    for name, text in (
        ("status", "whether the service runs, who leads, how far the bars are"),
        ("doctor", "check the installation; one line a finding, with how to mend it"),
    ):
        verb = add(name, help=text, parents=[where()])
        verb.add_argument("--json", action="store_true", help="for programs")
    return parser


def _running(add: Add) -> None:
    verb = add("run", help="the service, in the foreground", parents=[where()])
    verb.add_argument("--no-resume", action="store_true", help="start all enabled bots afresh")
    verb.add_argument("--user-id", type=int, metavar="N", help="serve this user's bots only")
    verb.add_argument("--poll-interval", type=float, metavar="S", help="seconds between looks at edited rows")
    verb.add_argument(
        "--demo-bots", action="store_true", help="while the table has no bots, add the demo's (make run)"
    )
    verb = add("demo", help="paper bots on generated one-second candles; no key, no network")
    verb.add_argument("--dir", type=Path, help="where to keep the database (default: a temporary folder)")
    verb.add_argument("--seconds", type=float, metavar="N", help="end by itself (default: Ctrl-C)")


def _replaying(add: Add) -> None:
    verb = add("replay", help="step the bots through recorded bars, as fast as it goes", parents=[where()])
    time = "ISO 8601 date or time, UTC"
    verb.add_argument("--from", dest="begin", required=True, type=_moment, metavar="T", help=time)
    verb.add_argument("--to", dest="end", required=True, type=_moment, metavar="T", help=time)
    verb.add_argument("--bot", type=int, action="append", metavar="ID", help="only this bot; repeatable")


def _moment(text: str) -> int:
    try:
        return parse_moment(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def settings_of(arguments: argparse.Namespace) -> "Settings":
    """Read the settings, with `--db` and the options of `run` over them. Raises InvalidConfig."""
    from jobs.settings import load_settings

    try:
        settings = load_settings(arguments.config)
    except FileNotFoundError as exc:
        raise CommandFailed(Ending.USAGE, f"{exc}: no such file") from exc
    if arguments.db:
        settings = changed(settings, "database", {"url": arguments.db})
    expect_url(settings.database.url)
    options = {"user_id": "user_id", "poll_interval": "poll_interval_s"}
    given = {key: getattr(arguments, option, None) for option, key in options.items()}
    service = {key: value for key, value in given.items() if value is not None}
    return changed(settings, "service", service) if service else settings


def changed(settings: "Settings", section: str, values: Mapping[str, object]) -> "Settings":
    """Return the settings with some of a section's values replaced, checked like the file's."""
    from pydantic import ValidationError

    from strategies.faults import InvalidConfig, faults_of

    old = getattr(settings, section)
    try:
        new = type(old)(**{**old.model_dump(), **values})
    except ValidationError as exc:
        raise InvalidConfig(faults_of(exc)) from exc
    return settings.model_copy(update={section: new})


def _run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.demo_bots:
        from scheduler.command.demo import add_bots_if_none

        add_bots_if_none(settings)
    from scheduler.service.daemon import run_service

    return run_service(settings, resume=not arguments.no_resume)


def _status(arguments: argparse.Namespace) -> int:
    from scheduler.command.status_page import print_status

    return print_status(settings_of(arguments), as_json=arguments.json)


def _db(arguments: argparse.Namespace) -> int:
    from persistence import schema

    url = settings_of(arguments).database.url
    if arguments.action == "check":
        from scheduler.command.status_page import expect_tables

        expect_tables(url)
        put(f"{shown_url(url)} has the tables of this version")
        return Ending.DONE
    try:
        schema.upgrade(url)
    except schema.SchemaTooNew as exc:
        raise CommandFailed(Ending.FAILED, str(exc), "install the later version again") from exc
    say(f"{shown_url(url)} has the tables of this version")
    return Ending.DONE


def _doctor(arguments: argparse.Namespace) -> int:
    from ops.doctor import examine, report

    return report(examine(arguments.config, arguments.db), as_json=arguments.json)


def _replay(arguments: argparse.Namespace) -> int:
    from scheduler.command.replaying import print_replay

    if arguments.end <= arguments.begin:
        raise CommandFailed(Ending.USAGE, "--to must be after --from")
    return print_replay(settings_of(arguments), arguments.begin, arguments.end, arguments.bot)


def _demo(arguments: argparse.Namespace) -> int:
    from scheduler.command.demo import demo

    return demo(arguments.dir, arguments.seconds)


VERBS: Final[Mapping[str, Verb]] = {
    "run": _run,
    "status": _status,
    "db": _db,
    "doctor": _doctor,
    "replay": _replay,
    "demo": _demo,
}
