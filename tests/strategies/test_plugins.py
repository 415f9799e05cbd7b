"""R3.1, R3.3, R3.4, R3.6, R3.9: which code a bot may run, with real files and real entry points."""

import inspect
import json
import os
import sys
from pathlib import Path

import backtrader as bt
import pytest
from broken_configs import REFERENCE

from strategies.config import parse_bot_config
from strategies.custom import CustomStrategy
from strategies.faults import InvalidConfig
from strategies.mixins import ATRExitMixin, RSIBBVolumeEntryMixin
from strategies.plugins import BrokenPlugin, UnknownPlugin, load_class
from strategies.registry import Kind, Registry
from strategies.sections import StrategyConfig

CROSS = """
import backtrader as bt

LOADED = []

class Cross(bt.Strategy):
    params = (("fast", 5), ("slow", 20), ("factor", 2), ("quiet", True), ("label", "x"), ("days", (1, 2)))
    params += (("any", None),)

    def __init__(self):
        self.signal = bt.ind.CrossOver(bt.ind.EMA(period=self.p.fast), bt.ind.EMA(period=self.p.slow))

    def next(self):
        if self.signal > 0:
            self.buy()
        elif self.signal < 0 and self.position:
            self.close()


class Helper:
    pass
"""

MIXIN = """
from pydantic import Field
from strategies.mixins import EntryMixin, MixinParameters


class EveryBarParameters(MixinParameters):
    skip: int = Field(default=0, ge=0, le=10, description="Bars to let pass.")


class EveryBar(EntryMixin):
    Parameters = EveryBarParameters

    def __init__(self, strategy, parameters):
        self.skip = parameters.skip

    def entry_reason(self):
        return "always"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "cross.py").write_text(CROSS)
    (tmp_path / "plugins" / "every_bar.py").write_text(MIXIN)
    return tmp_path / "plugins"


def strategy(type_: str, **parameters: object) -> StrategyConfig:
    return StrategyConfig(type=type_, parameters=parameters)


def faults(registry: Registry, type_: str, **parameters: object) -> str:
    return "; ".join(map(str, registry.faults(strategy(type_, **parameters))))


def test_what_is_built_in_is_registered_by_name():
    registry = Registry()
    assert registry.get(Kind.STRATEGY, "CustomStrategy").code is CustomStrategy
    assert registry.get(Kind.ENTRY, "RSIBBVolumeEntryMixin").code is RSIBBVolumeEntryMixin
    assert registry.get(Kind.EXIT, "ATRExitMixin").code is ATRExitMixin
    assert [each.name for each in registry.list()] == [
        "RSIBBVolumeEntryMixin",
        "ATRExitMixin",
        "CustomStrategy",
    ]


def test_a_name_that_is_taken_stays_with_its_owner():
    class CustomStrategy(bt.Strategy):
        pass

    registry = Registry()
    with pytest.raises(ValueError, match="registered already"):
        registry.register(CustomStrategy)
    with pytest.raises(ValueError, match="no subclass"):
        registry.register(dict)


def test_any_backtrader_strategy_of_a_file_runs_unmodified(folder: Path):
    resolved = Registry([folder]).resolve(strategy("cross:Cross", fast=3, factor=2.5, days=[3]))
    assert issubclass(resolved.code, bt.Strategy)
    assert resolved.parameters == {"fast": 3, "factor": 2.5, "days": (3,)}
    assert resolved.warnings == ()


def test_its_parameters_are_those_that_it_declares(folder: Path):
    registry = Registry([folder])
    assert faults(registry, "cross:Cross", fast=3, any={"a": 1}, quiet=False, label="y") == ""
    assert "strategy.parameters.fats: found 3, allowed: one of: any, days" in faults(
        registry, "cross:Cross", fats=3
    )
    assert "did you mean fast?" in faults(registry, "cross:Cross", fats=3)
    assert 'found "3", allowed: a number; the default is 5' in faults(registry, "cross:Cross", fast="3")
    assert "found true, allowed: a number" in faults(registry, "cross:Cross", fast=True)
    assert "found 1, allowed: true or false" in faults(registry, "cross:Cross", quiet=1)
    assert "found 1, allowed: text" in faults(registry, "cross:Cross", label=1)
    assert "found 1, allowed: an array" in faults(registry, "cross:Cross", days=1)


def test_every_fault_of_a_plugin_is_told_with_those_of_the_rest(folder: Path):
    config = {
        **REFERENCE,
        "symbol": "?",
        "strategy": {"type": "cross:Cross", "parameters": {"slwo": 1, "fast": "a"}},
    }
    with pytest.raises(InvalidConfig) as raised:
        parse_bot_config(json.dumps(config), Registry([folder]))
    assert [each.path for each in raised.value.faults] == [
        "symbol",
        "strategy.parameters.slwo",
        "strategy.parameters.fast",
    ]


def test_an_unknown_type_is_a_fault_to_add_and_a_warning_to_run(folder: Path):
    registry = Registry([folder])
    unknown = strategy("NoSuchStrategy", **REFERENCE["strategy"]["parameters"])
    assert 'strategy.type: found "NoSuchStrategy"' in str(registry.faults(unknown)[0])
    resolved = registry.resolve(unknown)
    assert resolved.code is CustomStrategy
    assert resolved.parameters["entry"] is RSIBBVolumeEntryMixin
    assert resolved.parameters["entry_params"]["rsi_period"] == 14
    assert "NoSuchStrategy" in resolved.warnings[0]
    assert "CustomStrategy with its entry and exit logic" in resolved.warnings[0]


def test_an_unknown_type_with_other_parameters_falls_back_to_taking_no_position(folder: Path):
    resolved = Registry([folder]).resolve(strategy("gone:Gone", period=3))
    assert (resolved.code, resolved.parameters) == (CustomStrategy, {})
    assert "takes no position" in resolved.warnings[0]


def test_a_broken_file_is_never_replaced_by_something_else(folder: Path):
    (folder / "broken.py").write_text("import backtrader as bt\nraise RuntimeError('no luck')\n")
    registry = Registry([folder])
    with pytest.raises(InvalidConfig, match="RuntimeError: no luck"):
        registry.resolve(strategy("broken:Mine"))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named"),
        ("def f(:\n", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = '\\0", "SyntaxError"),
        ("import sibling", "ModuleNotFoundError"),
        ("from . import sibling", "ImportError"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(folder: Path, source: str, found: str):
    (folder / "sibling.py").write_text("")
    (folder / "broken.py").write_text(source)
    before = set(sys.modules)
    assert found in faults(Registry([folder]), "broken:Mine")
    assert not [each for each in set(sys.modules) - before if "broken" in each]


def test_bytes_that_are_no_source_are_refused(folder: Path):
    (folder / "binary.py").write_bytes(b"\xff\xfe\x00\x01")
    assert "binary.py, which raises" in faults(Registry([folder]), "binary:Mine")


def test_a_class_that_is_missing_or_no_strategy_is_refused(folder: Path):
    registry = Registry([folder])
    assert "found Missing, allowed: a class of cross.py: Cross, Helper" in faults(registry, "cross:Missing")
    assert "is no strategy" in faults(registry, "cross:Helper")
    assert "found LOADED" in faults(registry, "cross:LOADED")
    assert "found __name__" in faults(registry, "cross:__name__")
    assert "is no strategy" in faults(registry, "every_bar:EveryBar")


HOSTILE = [
    "../evil:Evil",
    "..:Evil",
    "/etc/passwd:root",
    "sub/evil:Evil",
    "sub.evil:Evil",
    "sub\\evil:Evil",
    "os:system",
    "os.path:join",
    "builtins:eval",
    "evil.py:Evil",
    "evil:Evil.__init__",
    "evil:__class__",
    "evil:",
    ":Evil",
    ":",
    "evil::Evil",
    "evil:Evil:Evil",
    "evil :Evil",
    "evil\n:Evil",
    "evil\0:Evil",
    "\u0435vil:Evil",  # a Cyrillic letter
    "~root:Evil",
    "$HOME:Evil",
    "C:Evil",
    "con:Evil",
    "a" * 5000 + ":Evil",
    "__init__:Evil",
    "strategies:Evil",
]


@pytest.mark.parametrize("reference", HOSTILE)
def test_a_hostile_name_loads_nothing(tmp_path: Path, reference: str):
    allowed, mark = tmp_path / "allowed", tmp_path / "executed"
    evil = f"import backtrader as bt\nopen({str(mark)!r}, 'w')\nclass Evil(bt.Strategy):\n    pass\n"
    (allowed / "sub").mkdir(parents=True)
    for place in (tmp_path, allowed / "sub"):
        (place / "evil.py").write_text(evil)
    (allowed / "sub" / "__init__.py").write_text(evil)
    before = set(sys.modules)
    with pytest.raises(UnknownPlugin):
        load_class(reference, [allowed])
    assert not mark.exists()
    assert set(sys.modules) == before


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_a_link_that_leads_out_of_the_folder_is_not_followed(folder: Path):
    outside = folder.parent / "outside.py"
    outside.write_text(CROSS)
    (folder / "linked.py").symlink_to(outside)
    (folder / "inner.py").symlink_to(folder / "cross.py")
    with pytest.raises(UnknownPlugin, match=r"no file linked\.py"):
        load_class("linked:Cross", [folder])
    assert load_class("inner:Cross", [folder]).__name__ == "Cross"
    assert "linked:Cross" not in [each.name for each in Registry([folder]).discover()[0]]


def test_a_plugin_takes_no_module_name_and_leaves_nothing_beside_the_file(folder: Path):
    (folder / "json.py").write_text(CROSS)
    found = load_class("json:Cross", [folder])
    assert sys.modules["json"] is json
    assert found.__module__.startswith("onebar_plugin_json_")
    assert sorted(each.name for each in folder.iterdir()) == ["cross.py", "every_bar.py", "json.py"]
    assert str(folder) not in sys.path


def test_an_edited_file_is_new_code_and_the_same_file_is_loaded_once(folder: Path):
    old = load_class("cross:Cross", [folder])
    assert load_class("cross:Cross", [folder]) is old
    (folder / "cross.py").write_text(CROSS.replace("self.signal > 0", "self.signal > 0.5"))
    new = load_class("cross:Cross", [folder])
    assert new is not old
    # A fingerprint reads the source: each class must show its own, whatever the file has become.
    assert "> 0.5" in inspect.getsource(new)
    assert "> 0.5" not in inspect.getsource(old)
    assert "> 0.5" not in inspect.getsource(old.next)


def test_the_first_folder_that_has_the_file_wins(folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "cross.py").write_text(CROSS.replace('"fast", 5', '"fast", 7'))
    assert dict(load_class("cross:Cross", [other, folder]).params._getitems())["fast"] == 7
    assert dict(load_class("cross:Cross", [folder, other]).params._getitems())["fast"] == 5


def test_a_mixin_comes_from_a_file_too(folder: Path):
    registry = Registry([folder])
    logic = {
        "entry_logic": {"name": "every_bar:EveryBar", "params": {"e_skip": 2}},
        "exit_logic": {"name": "ATRExitMixin"},
    }
    resolved = registry.resolve(strategy("CustomStrategy", **logic))
    assert resolved.parameters["entry"].__name__ == "EveryBar"
    assert resolved.parameters["entry_params"] == {"skip": 2}
    logic["entry_logic"]["params"] = {"e_skip": 11}
    assert "entry_logic.params.e_skip: found 11, allowed: a whole number from 0 to 10" in faults(
        registry, "CustomStrategy", **logic
    )


def test_discovery_lists_what_can_run_and_what_is_broken(folder: Path):
    (folder / "broken.py").write_text("1 / 0")
    (folder / "not-a-name.py").write_text("1 / 0")
    found, broken = Registry([folder, folder.parent / "missing"]).discover()
    assert {each.name for each in found} >= {"cross:Cross", "every_bar:EveryBar", "CustomStrategy"}
    assert [each.path for each in broken] == ["broken"]
    assert "ZeroDivisionError" in broken[0].found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a package with entry points where pip would have put it."""
    site = tmp_path / "site"
    (site / "acme-1.0.dist-info").mkdir(parents=True)
    (site / "acme-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (site / "acme-1.0.dist-info" / "entry_points.txt").write_text(
        "[onebar.strategies]\nAcmeCross = acme_strategies:Cross\nAcmeBroken = acme_missing:Cross\n"
        "CustomStrategy = acme_strategies:Cross\nAcmeHelper = acme_strategies:Helper\n"
    )
    (site / "acme_strategies.py").write_text(CROSS)
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("acme_strategies", None)


def test_an_entry_point_is_a_type_by_its_name(installed: Path):
    del installed
    registry = Registry()
    assert registry.get(Kind.STRATEGY, "AcmeCross").code.__name__ == "Cross"
    assert registry.get(Kind.STRATEGY, "CustomStrategy").code is CustomStrategy
    with pytest.raises(BrokenPlugin, match="acme_missing"):
        registry.get(Kind.STRATEGY, "AcmeBroken")
    with pytest.raises(UnknownPlugin, match="is no strategy"):
        registry.get(Kind.STRATEGY, "AcmeHelper")
    found, broken = Registry().discover()
    assert "AcmeCross" in [each.name for each in found]
    assert sorted(each.path for each in broken) == [
        "entry point AcmeBroken",
        "entry point AcmeHelper",
        "entry point CustomStrategy",
    ]
