"""A worker's answers, read with suspicion: its process also runs code that we have not written.

Anything that is not exactly an answer is the fault of the worker that said it, and raises `MalformedAnswer`;
`crew.py` replaces that worker and charges the bot that it names. Nothing is half believed: an answer with one
outcome that cannot be right tells nothing about the others either, and their cursors do.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from jobs.bar.firing import Outcome
from scheduler.crew.child import read_outcome

SHOWN: Final = 200  # characters of an answer that are quoted
MOST_BYTES: Final = 16 << 20  # of one answer; a thousand outcomes with their failures are 1 MiB


class MalformedAnswer(Exception):
    """What a worker said is no answer."""


@dataclass(frozen=True, slots=True)
class Ready:
    """It has imported everything."""


@dataclass(frozen=True, slots=True)
class Done:
    """`left` says which bots left something behind in the process, and what."""

    outcomes: tuple[Outcome, ...]
    left: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody is to blame. `held` says what a bot holds that may be why, if it is seen."""

    what: str
    why: str
    held: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """The last word of a worker: the exception that ends it."""

    why: str


Answer = Ready | Done | Lost | Ending


def read_answer(line: bytes, bot_ids: Collection[int] | None) -> Answer:
    """Read a line of a worker that works on `bot_ids`, or on nothing. Raises MalformedAnswer."""
    try:
        message = json.loads(line)
        if not isinstance(message, dict):
            raise MalformedAnswer("no object")
        return _answer(message, bot_ids)
    except MalformedAnswer as exc:
        raise MalformedAnswer(f"{exc}: {_quoted(line)}") from exc
    except KeyError as exc:
        raise MalformedAnswer(f"it lacks {exc}: {_quoted(line)}") from exc
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise MalformedAnswer(f"{type(exc).__name__}: {_quoted(line)}") from exc


def _answer(message: dict[str, Any], bot_ids: Collection[int] | None) -> Answer:
    if "ready" in message:
        return Ready()
    if "ending" in message:
        return Ending(_text(message["ending"]))
    if bot_ids is None:
        raise MalformedAnswer("nothing was asked")
    if "done" in message:
        outcomes = tuple(_outcome(written, bot_ids) for written in message["done"])
        if len({outcome.bot_id for outcome in outcomes}) != len(outcomes):
            raise MalformedAnswer("two outcomes of one bot")
        left = tuple((_member(bot_id, bot_ids), _text(what)) for bot_id, what in message.get("left", ()))
        return Done(outcomes, left)
    what = message["lost"]
    if what not in ("database", "lease"):
        raise MalformedAnswer("lost is neither database nor lease")
    return Lost(what, _text(message["message"]), _text(message.get("held", "")))


def _outcome(written: Any, bot_ids: Collection[int]) -> Outcome:
    outcome = read_outcome(written)
    _member(outcome.bot_id, bot_ids)
    moments = [outcome.retry_at_ms]
    if outcome.failure is not None:
        _text(outcome.failure.message)
        moments.append(outcome.failure.retry_at_ms)
    if type(outcome.bars) is not int or outcome.bars < 0 or type(outcome.behind) is not bool:
        raise MalformedAnswer("an outcome with values of another kind")
    named = all(name is None or isinstance(name, str) for name in (outcome.unbuilt, outcome.engine))
    if not named or not isinstance(outcome.took_ms, int | float):
        raise MalformedAnswer("an outcome with a name or a time that is none")
    if not all(moment is None or type(moment) is int for moment in moments):
        raise MalformedAnswer("an outcome with a moment that is none")
    return outcome


def _member(bot_id: Any, bot_ids: Collection[int]) -> int:
    if type(bot_id) is not int or bot_id not in bot_ids:
        raise MalformedAnswer(f"bot {bot_id!r} is not in its batch")
    return bot_id


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedAnswer("a text that is none")
    return value


def _quoted(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
