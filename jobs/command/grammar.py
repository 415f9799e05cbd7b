"""What both commands share in reading their arguments. argparse, because typer costs 0.1 s to import."""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from jobs.command.endings import Ending
from strategies.plain_text import visible
from strategies.secrecy import without_secrets


class Grammar(argparse.ArgumentParser):
    """An argument parser that proposes what was probably meant. Ends with 2 for wrong usage."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # An abbreviation that is unique today is another option's tomorrow.
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)
        self.known: list[str] = []

    def verbs(self, **options: Any) -> "Add":
        """Return a function that adds one subcommand: `add(name, help=..., parents=...)`."""
        subparsers = self.add_subparsers(required=True, metavar="COMMAND", parser_class=Grammar, **options)

        def add(name: str, **of_verb: Any) -> Grammar:
            verb: Grammar = subparsers.add_parser(name, description=of_verb.get("help"), **of_verb)
            self.known.append(name)
            return verb

        return add

    def error(self, message: str) -> NoReturn:
        self.print_usage()
        said = visible(without_secrets(message))
        self.exit(Ending.USAGE, f"{self.prog}: {said}{self._proposal(message)}\n")

    def print_usage(self, file: Any = None) -> None:
        """Usage is talk: to stderr unless somebody asked for it."""
        super().print_usage(file or sys.stderr)

    def _proposal(self, message: str) -> str:
        words = re.findall(r"invalid choice: '([^']*)'", message) or re.findall(r" (-[^\s=]+)", message)
        close = [match for word in words for match in difflib.get_close_matches(word, self._words(), n=1)]
        return f"\ndid you mean {close[0]}?" if close else ""

    def _words(self) -> Iterable[str]:
        yield from self.known
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action.choices, dict):
                for verb in action.choices.values():
                    yield from verb._words()  # noqa: SLF001 - the same class, one level down
            elif action.choices is not None:
                yield from map(str, action.choices)


Add = Callable[..., Grammar]


def where() -> Grammar:
    """Options that say which database and which settings, for `parents=`.

    Defaults are suppressed so that `jobs --db X list` and `jobs list --db X` both work.
    """
    options = Grammar(add_help=False, argument_default=argparse.SUPPRESS)
    options.add_argument(
        "--db", metavar="URL", help="database, instead of ONEBAR_DATABASE_URL or scheduler.toml's"
    )
    options.add_argument("--config", metavar="FILE", type=Path, help="settings (default: scheduler.toml)")
    return options
