"""The import contracts of pyproject.toml fail the build: in a copy of the sources each is broken once."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("scheduler", "ops", "jobs", "persistence", "strategies")

PLANTED = {
    "Imports point down": ("persistence/money.py", "import jobs.clock"),
    "No circles, down to the file": ("persistence/text.py", "import persistence.bots"),
    "Values reach everybody": ("strategies/values.py", "from strategies import crossing, custom"),
    "Strategies decide": ("strategies/crossing.py", "import structlog"),
    "Only strategies know Backtrader": ("jobs/clock.py", "import backtrader"),
    "Only markets talk to exchanges": ("jobs/clock.py", "import ccxt"),
    "Only the service schedules": ("scheduler/crew/__init__.py", "import apscheduler.events"),
    "Only two files know the driver": ("persistence/money.py", "import psycopg"),
    "Only those write a log": ("jobs/clock.py", "import structlog"),
    "The engine: the walk knows": ("strategies/engine/bytes/zones.py", "import strategies.engine.walk.reach"),
    "A door holds no row's SQL": ("scheduler/command/progress.py", "import persistence.bots"),
}


@pytest.fixture
def sources(tmp_path):
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def verdict(folder):
    """Return what import-linter says of the sources in `folder`."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("contract", PLANTED)
def test_a_planted_import_breaks_its_contract(sources, contract):
    file, line = PLANTED[contract]
    with (sources / file).open("a") as text:
        text.write(f"\n{line}\n")
    said = verdict(sources)
    broken = said.partition("Broken contracts")[2]
    assert contract in broken, said


def test_the_sources_as_they_are_keep_all(sources):
    said = verdict(sources)
    assert f"Contracts: {len(PLANTED)} kept, 0 broken." in said, "is a contract new? plant an import for it"


def test_only_the_engine_builds_a_cerebro():
    """No import says so: a Cerebro is an attribute of the package that all strategies import."""
    builders = {
        file.relative_to(ROOT).parent.as_posix()
        for room in ROOMS
        for file in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call | ast.ClassDef) and "Cerebro" in _names(node)
    }
    assert builders == {"strategies/engine/machine"}


def _names(node):
    """Return the last names of what is called, or of what a class is derived from."""
    used = [node.func] if isinstance(node, ast.Call) else node.bases
    return {getattr(name, "attr", getattr(name, "id", "")) for name in used}
