"""A server gets what it needs and nothing else; tests and checks run with the versions that it gets."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEVELOPMENT = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]


def locked(file):
    """Return the pinned lines (name, version, marker) of a lock."""
    lines = (ROOT / file).read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")}


def names(lines):
    return {re.split(r"[\[<>=!~ ;]", line)[0].lower() for line in lines}


def test_a_server_gets_no_tool_of_developers():
    assert names(PROJECT["dependencies"]) <= names(locked("requirements.txt"))
    assert names(DEVELOPMENT)
    assert names(DEVELOPMENT) & names(locked("requirements.txt")) == set()


def test_developers_have_all_of_a_server_in_the_same_versions():
    assert locked("requirements.txt") < locked("requirements-dev.txt")
    assert names(DEVELOPMENT) <= names(locked("requirements-dev.txt"))


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_a_lock_pins_one_version_for_each_machine_and_names_no_registry(file):
    lines = locked(file)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line) for line in lines), "a pin or a place"
    without_marker = [line.partition("==")[0] for line in lines if ";" not in line]
    assert len(without_marker) == len(set(without_marker))
    # Universal: what only one system needs is there, with its marker.
    assert any("sys_platform == 'win32'" in line for line in lines)


@pytest.mark.parametrize("file", ["ops/install.sh", "ops/windows/install.ps1", "ops/container/Containerfile"])
def test_what_installs_a_server_installs_the_lock_of_servers(file):
    text = (ROOT / file).read_text()
    assert "requirements.txt" in text
    assert "requirements-dev" not in text
