"""Real candles and an exchange on this machine for the tests of this folder."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "emulator"))

from candle_server import CandleServer, candles_of  # noqa: E402  # found by the line above

from jobs.markets.csv_file import CsvMarket  # noqa: E402
from strategies.values import Bar  # noqa: E402

HOUR = 3_600_000


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real candles: ONEBAR_DATA, or `shared/data` beside the checkout."""
    folder = Path(os.environ.get("ONEBAR_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real candles in {folder}; ONEBAR_DATA names their folder")
    return folder


@pytest.fixture(scope="session")
def hourly(data_folder) -> list[tuple]:
    """Return BTCUSDT 1h 2017 to 2022, with its 27 gaps, as the exchange writes it."""
    return candles_of(data_folder / "btc_usdt_1h_2017-2022.csv")


@pytest.fixture(scope="session")
def bars(data_folder) -> tuple[Bar, ...]:
    """Return the same candles as the CSV file has them."""
    return CsvMarket(data_folder / "btc_usdt_1h_2017-2022.csv").closed_bars("X", "1h", None, 10**14)


@pytest.fixture
def server(hourly) -> Iterator[CandleServer]:
    """Yield an exchange that knows BTCUSDT 1h and whose time is the end of its last candle."""
    with CandleServer({("BTCUSDT", "1h"): hourly}, now_ms=hourly[-1][0] + HOUR) as running:
        yield running
