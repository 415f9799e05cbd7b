"""Processes that die, or freeze, at the n-th call that leaves them, for every n. Run as a script.

Each life is a forked child that replays a small world and kills itself with SIGKILL before or
after its n-th call of the database driver or of a market's source. A second child, which does not
die, then goes on; what the two of them left behind must be what one undisturbed life leaves.
Forking from this single-threaded script saves the imports of each life.

Prints one JSON object: how many lives died, which kinds of calls they died at, what differed.
"""

import argparse
import functools
import gc
import json
import os
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

sys.path.insert(0, str(Path(__file__).parent))

from mutants import MUTANTS
from snapshots import Snapshot, differences, snapshot
from worlds import BEGIN, BUSY_CONFIGS, PLUGINS, World

import jobs.bar.firing
from jobs.bar.engines import EngineCache
from jobs.command.moments import parse_moment
from jobs.markets.csv_file import CsvMarket
from jobs.settings import load_settings
from scheduler.command.replaying import print_replay
from strategies.registry import Registry

BORDERS = [
    (dialect, name)
    for dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg)
    for name in ("do_begin", "do_execute", "do_executemany", "do_commit")
] + [(CsvMarket, "closed_bars")]


def die_at(death: int, note: Callable[[str], None]) -> None:
    """Install the countdown: odd moments are before a call, even ones after it."""
    moments = iter(range(1, sys.maxsize))

    def pass_by(call: str) -> None:
        if next(moments) == death:
            note(call)
            os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in BORDERS:
        setattr(owner, name, _bordered(getattr(owner, name), name, pass_by))


def _bordered(call: Callable, name: str, pass_by: Callable[[str], None]) -> Callable:
    @functools.wraps(call)
    def bordered(*args: object, **kwargs: object) -> object:
        pass_by(f"before {name}")
        answer = call(*args, **kwargs)
        pass_by(f"after {name}")
        return answer

    return bordered


def freeze_before_commit(nth: int) -> None:
    """Install a stop (SIGSTOP) before the n-th commit of a batch: read and decided, but not written."""
    moments = iter(range(1, sys.maxsize))
    commit = jobs.bar.firing._commit

    def frozen(*args: object) -> object:
        if next(moments) == nth:
            os.kill(os.getpid(), signal.SIGSTOP)
        return commit(*args)

    jobs.bar.firing._commit = frozen


@dataclass(frozen=True)
class Child:
    pid: int
    notes: int

    def wait(self) -> tuple[int, str]:
        """Return how it ended, or that it stopped, and the call at which it died."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return status, ""
        with os.fdopen(self.notes, "rb") as pipe:
            return status, pipe.read().decode()


def live(world: World, url: str, *, death: int = 0, freeze: int = 0, mutant: str = "") -> Child:
    """Replay in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ["ONEBAR_DATABASE_URL"] = url
        if mutant:
            MUTANTS[mutant]()
        if death:
            die_at(death, lambda call: os.write(writer, call.encode()))
        if freeze:
            freeze_before_commit(freeze)
        os._exit(_replayed(world))
    os.close(writer)
    return Child(child, reader)


def _replayed(world: World) -> int:
    try:
        settings = load_settings(world.settings_file)
        return print_replay(settings, parse_moment(BEGIN), parse_moment(world.end), None)
    except Exception:  # noqa: BLE001 - a mutant may break anything; the parent has to hear of it
        traceback.print_exc()
        return 70


class SqliteCopies:
    """`pristine` is the world as it was made; each life gets a copy."""

    def __init__(self, pristine: str) -> None:
        self._pristine = Path(pristine.removeprefix("sqlite:///"))

    def copies(self) -> Iterator[str]:
        while True:
            copy = self._pristine.with_name("life.db")
            for leftover in copy.parent.glob("life.db*"):
                leftover.unlink()
            shutil.copyfile(self._pristine, copy)
            yield f"sqlite:///{copy}"


class PostgresCopies:
    def __init__(self, pristine: str) -> None:
        self._pristine = pristine
        self._server, _, self._options = pristine.partition("?")
        self._server, _, self._name = self._server.rpartition("/")

    def copies(self) -> Iterator[str]:
        admin = f"{self._server}/postgres?{self._options}".replace("+psycopg", "")
        copy = f"{self._name}_life"
        with psycopg.connect(admin, autocommit=True) as connection:
            while True:
                connection.execute(f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')
                connection.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{self._name}"')
                yield f"{self._server}/{copy}?{self._options}"


def deaths(world: World, copies: Iterator[str], args: argparse.Namespace) -> tuple[Counter[str], dict]:
    """Die at the n-th call, go on in a second life; n rises until a life ends by itself."""
    undisturbed = undisturbed_run(world, copies, args.mutant)
    calls: Counter[str] = Counter()
    found: dict[int, list[str]] = {}
    for death in range(args.first, sys.maxsize, args.stride):
        url = next(copies)
        status, call = live(world, url, death=death, mutant=args.mutant).wait()
        if not os.WIFSIGNALED(status):
            return calls, found
        calls[call] += 1
        status, _ = live(world, url, mutant=args.mutant).wait()
        if differs := _differs(undisturbed, url, status):
            found[death] = differs
            if args.mutant:
                return calls, found
    raise AssertionError("unreachable: every life makes finitely many calls")


def freezes(world: World, copies: Iterator[str], args: argparse.Namespace) -> tuple[Counter[str], dict]:
    """Stop before the n-th commit, let another process do all the work, wake the first one up."""
    undisturbed = undisturbed_run(world, copies, args.mutant)
    calls: Counter[str] = Counter()
    found: dict[int, list[str]] = {}
    for nth in range(args.first, sys.maxsize, args.stride):
        url = next(copies)
        sleeper = live(world, url, freeze=nth, mutant=args.mutant)
        status, _ = sleeper.wait()
        if not os.WIFSTOPPED(status):
            return calls, found
        calls["before commit"] += 1
        other, _ = live(world, url, mutant=args.mutant).wait()
        os.kill(sleeper.pid, signal.SIGCONT)
        status, _ = sleeper.wait()
        if differs := _differs(undisturbed, url, status or other):
            found[nth] = differs
            if args.mutant:
                return calls, found
    raise AssertionError("unreachable: every life makes finitely many commits")


def undisturbed_run(world: World, copies: Iterator[str], mutant: str = "") -> Snapshot:
    url = next(copies)
    status, _ = live(world, url).wait()
    assert status == 0, f"the undisturbed life ended with {status}"
    undisturbed = snapshot(url)
    if mutant:  # must be wrong in its order only: one that breaks by itself would be "caught" by anything
        url = next(copies)
        status, _ = live(world, url, mutant=mutant).wait()
        assert not (differs := _differs(undisturbed, url, status)), f"{mutant}, undisturbed: {differs}"
    return undisturbed


def _differs(undisturbed: Snapshot, url: str, status: int) -> list[str]:
    differs = differences(undisturbed, snapshot(url))
    return [*differs, f"a life ended with {status}"] if status else differs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fault", choices=("deaths", "freezes"))
    parser.add_argument("url")
    parser.add_argument("settings_file", type=Path)
    parser.add_argument("end")
    parser.add_argument("--mutant", default="", choices=("", *MUTANTS))
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1)
    args = parser.parse_args()
    world = World(args.url, args.settings_file, args.end, 0)
    source = SqliteCopies(args.url) if args.url.startswith("sqlite") else PostgresCopies(args.url)
    for config in BUSY_CONFIGS:  # what is loaded once here is not loaded by each life
        EngineCache(Registry([PLUGINS])).built(config)
    gc.freeze()
    run = deaths if args.fault == "deaths" else freezes
    calls, found = run(world, source.copies(), args)
    print(json.dumps({"lives": sum(calls.values()), "calls": calls, "differences": found}))


if __name__ == "__main__":
    main()
