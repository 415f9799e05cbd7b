"""R1.2, R8.1, R8.3: a configuration is valid as a whole or every fault is named."""

import contextlib
import copy
import json
import subprocess
import sys

import pytest
from broken_configs import BROKEN, REFERENCE, Broken, put, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.config import BotConfig, parse_bot_config
from strategies.faults import InvalidConfig
from strategies.registry import Registry


def test_the_reference_configuration_is_valid_unchanged():
    config = parse_bot_config(json.dumps(REFERENCE), Registry())
    assert isinstance(config, BotConfig)
    assert config.model_dump(exclude_unset=True) == REFERENCE
    assert config.share == 0.1
    assert (config.broker.commission, config.broker.slippage) == (0.001, 0.0)


def test_a_mapping_and_its_text_are_the_same_configuration():
    assert parse_bot_config(REFERENCE) == parse_bot_config(json.dumps(REFERENCE))


def test_there_are_at_least_sixty_broken_configurations():
    assert len(BROKEN) >= 60
    assert len({case.name for case in BROKEN}) == len(BROKEN)


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_bad_input_each_fault_has_path_found_and_allowed(case: Broken):
    with pytest.raises(InvalidConfig) as raised:
        parse_bot_config(text_of(case), Registry())
    faults = raised.value.faults
    for path, found, allowed in case.faults:
        at_path = [each for each in faults if each.path.startswith(path)]
        assert at_path, f"no fault at {path}, only {raised.value}"
        assert any(found in each.found and allowed in each.allowed for each in at_path), str(raised.value)
    # The change broke these things only, so nothing else may be called wrong.
    assert {
        each.path for each in faults if not each.path.startswith(tuple(f[0] for f in case.faults))
    } == set()
    for each in faults:
        assert each.found
        assert each.allowed
        assert "Input should" not in each.allowed, "the words of a library"
        assert str(each).isprintable()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("symbol", "BTC/USDT"),
        ("symbol", "1000PEPE/USDT"),
        ("broker.cash", 1),
        ("broker", {}),
        ("broker.commission", 0),
        ("data.interval", "1s"),
        ("data.interval", "4w"),
        ("data.lookback_bars", 0),
        ("trading", {}),
        ("trading.max_positions", None),
        ("risk_management", {}),
        ("risk_management.max_position_size", 10.0),
        ("risk_management.stop_loss_pct", None),
        ("notifications.performance_summaries", "off"),
        ("name", "Über-Bot 1 (测试)"),
        ("strategy.parameters.exit_logic.params", {}),
        ("strategy.parameters.exit_logic.params", {"atr_period": 7, "sl_multiplier": 2}),
    ],
)
def test_what_is_allowed_is_accepted(path: str, value: object):
    config = copy.deepcopy(REFERENCE)
    put(path, value)(config)
    parse_bot_config(json.dumps(config), Registry())


def test_csv_and_generated_sources_take_their_own_keys():
    for data in (
        {"data_source": "csv", "interval": "5m", "file": "btc/5m.csv"},
        {"data_source": "generated", "interval": "1s", "seed": 7},
        {"data_source": "generated", "interval": "1s"},
    ):
        parse_bot_config({**REFERENCE, "data": data})


def test_a_configuration_cannot_be_changed_once_it_is_parsed():
    config = parse_bot_config(REFERENCE)
    with pytest.raises(ValueError, match="frozen"):
        config.symbol = "ETHUSDT"


def test_what_a_size_is_for_another_strategy_is_its_own_affair():
    config = copy.deepcopy(REFERENCE)
    config["strategy"] = {"type": "mine:Mine", "parameters": {"position_size": 3}}
    assert parse_bot_config(config).share == 0.1


def test_parsing_alone_needs_no_backtrader():
    code = "import sys; import strategies.config; print('backtrader' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**30), 2**63])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["csv", "CustomStrategy", "a:B", "live"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "params", "type", "file"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)
PATHS = [
    "id", "enabled", "symbol", "broker", "broker.cash", "strategy", "strategy.type", "strategy.parameters",
    "strategy.parameters.entry_logic", "strategy.parameters.exit_logic.name", "data", "data.file",
    "data.seed",
    "strategy.parameters.exit_logic.params", "strategy.parameters.position_size", "data.interval", "trading",
    "trading.position_size", "risk_management", "risk_management.max_position_size", "notifications", "new",
]  # fmt: skip


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(PATHS), JSON_VALUES)
def test_any_value_anywhere_is_valid_or_invalid_and_nothing_else(path: str, value: object):
    config = copy.deepcopy(REFERENCE)
    put(path, value)(config)
    for given_config in (config, json.dumps(config)):
        with contextlib.suppress(InvalidConfig):
            parse_bot_config(given_config, REGISTRY)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text() | JSON_VALUES | st.binary())
def test_any_text_or_object_is_valid_or_invalid_and_nothing_else(anything: object):
    with pytest.raises(InvalidConfig):
        parse_bot_config(anything, REGISTRY)


REGISTRY = Registry()
