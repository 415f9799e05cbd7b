"""A state may name a time zone; it may not make Python import anything."""

import subprocess
import sys

import pytest

from strategies.engine import StateInvalid
from strategies.engine.bytes.zones import zone_named

NOT_THERE = [
    "Nowhere", "Europe/Nix", "America/../Europe/Berlin", "../zone.tab", "/etc/localtime", "tzdata", "a\0b",
    "",
]  # fmt: skip


def test_a_zone_is_found_by_its_key():
    assert str(zone_named("Europe/Berlin")) == "Europe/Berlin"


@pytest.mark.parametrize("key", NOT_THERE)
def test_what_is_no_zone_is_refused(key):
    with pytest.raises(StateInvalid):
        zone_named(key)


def test_looking_for_what_is_not_there_imports_nothing():
    script = f"""
import sys
from strategies.engine import StateInvalid
from strategies.engine.bytes.zones import zone_named
before = set(sys.modules)
for key in {NOT_THERE!r}:
    try:
        zone_named(key)
    except StateInvalid:
        pass
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
