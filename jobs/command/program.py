"""`jobs`: reads its arguments and hands them to the function of the command.

`add`, `edit` and `validate` import what they check with (Backtrader, pydantic); the others must not, see
the package's docstring.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from jobs.command import changes, looks
from jobs.command.arguments import grammar
from jobs.command.judgement import ending_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage ends with SystemExit(2)."""
    arguments = grammar().parse_args(argv)
    return ending_of("jobs", lambda: VERBS[arguments.verb](arguments))


def _add(arguments: argparse.Namespace) -> int:
    from jobs.command.additions import add

    return add(arguments)


def _edit(arguments: argparse.Namespace) -> int:
    from jobs.command.additions import edit

    return edit(arguments)


def _validate(arguments: argparse.Namespace) -> int:
    from jobs.command.additions import validate

    return validate(arguments)


VERBS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "add": _add,
    "validate": _validate,
    "edit": _edit,
    "list": looks.list_bots,
    "show": looks.show,
    "trades": looks.trades,
    "history": looks.history,
    **dict.fromkeys(changes.MOVES, changes.move),
}

if __name__ == "__main__":
    sys.exit(main())
