"""scheduler.toml names every setting with its default, so that it cannot rot."""

import re
import tomllib
from pathlib import Path

from jobs.settings import Settings, load_settings

FILE = Path(__file__).parents[3] / "scheduler.toml"
NO_DEFAULT = {("service", "user_id")}  # None cannot be written in TOML; any value shows the form
CHOSEN = {("strategies", "plugins"): ["ops/demo/strategies"]}  # what the checkout sets


def _with_comments_taken_off() -> dict[str, dict[str, object]]:
    active = {line.split(" = ")[0] for line in FILE.read_text().splitlines() if re.match(r"\w+ = ", line)}
    lines = []
    for line in FILE.read_text().splitlines():
        setting = re.match(r"# (\w+) = ", line)
        if setting:
            lines.append(line[2:])
        elif line.split(" = ")[0] not in active:
            lines.append(line)
    return tomllib.loads("\n".join(lines))


def test_every_setting_stands_in_the_file_with_its_default() -> None:
    shown = _with_comments_taken_off()
    defaults = Settings().model_dump(mode="json")
    for section, keys in defaults.items():
        for key, default in keys.items():
            assert key in shown[section], f"[{section}] {key} is missing in scheduler.toml"
            if (section, key) not in NO_DEFAULT:
                assert shown[section][key] == default, f"[{section}] {key}"


def test_the_file_names_no_setting_that_does_not_exist() -> None:
    shown = _with_comments_taken_off()
    defaults = Settings().model_dump()
    assert {section: set(keys) for section, keys in shown.items()} == {
        section: set(keys) for section, keys in defaults.items()
    }


def test_only_the_chosen_lines_are_active_and_the_file_loads() -> None:
    active = tomllib.loads(FILE.read_text())
    found = {(section, key): value for section, keys in active.items() for key, value in keys.items()}
    assert found == CHOSEN
    assert load_settings(FILE).strategies.plugins == (FILE.parent / "ops/demo/strategies",)


def test_every_setting_is_explained_above_its_line() -> None:
    lines = FILE.read_text().splitlines()
    settings = [at for at, line in enumerate(lines) if re.match(r"# \w+ = ", line)]
    assert len(settings) > 15
    for at in settings:
        assert lines[at - 1].startswith("# "), lines[at]
