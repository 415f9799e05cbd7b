"""From a bot's `data` section to recorded bars, with the breakers that all workers share."""

from types import SimpleNamespace

import pytest
from candle_server import Fault

from jobs.markets import (
    MarketRefused,
    Markets,
    MarketUnavailable,
    Series,
    canonical_interval,
    canonical_symbol,
)
from jobs.settings import MarketSettings
from persistence.bars import recorded_range
from persistence.breakers import read_breaker
from persistence.database import open_database
from strategies.sections import DataConfig

HOUR = 3_600_000


def data(
    source: str, interval: str = "1h", file: str | None = None, seed: int | None = None
) -> SimpleNamespace:
    return SimpleNamespace(data_source=source, interval=interval, file=file, seed=seed)


@pytest.fixture
def markets(database, data_folder, server) -> Markets:
    settings = MarketSettings(csv_folder=data_folder, timeout_ms=500)
    return Markets(settings, database, {"binance": server.url})


def test_one_name_for_one_series(markets):
    """However a symbol and an interval are written, bots share bars, questions and records."""
    assert markets.series("BTC/USDT", data("binance", "60m")) == Series("binance", "BTCUSDT", "1h")
    assert markets.series("BTCUSDT", data("binance", "1h")) == Series("binance", "BTCUSDT", "1h")
    assert markets.series("BTCUSDT", data("generated")) == Series("generated:0", "BTCUSDT", "1h")
    assert markets.series("BTCUSDT", data("generated", seed=5)).source == "generated:5"
    assert markets.series("BTCUSDT", data("csv", file="a/b.csv")).source == "csv:a/b.csv"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("60s", "1m"),
        ("60m", "1h"),
        ("90m", "90m"),
        ("24h", "1d"),
        ("7d", "1w"),
        ("5s", "5s"),
        ("1440m", "1d"),
    ],
)
def test_one_spelling_for_one_length(written, canonical):
    assert canonical_interval(written) == canonical


@pytest.mark.parametrize("written", ["BTC/USDT", "btc-usdt", "BTC_USDT", " BTCUSDT "])
def test_one_spelling_for_one_symbol(written):
    assert canonical_symbol(written) == "BTCUSDT"


def test_a_perpetual_is_another_symbol_than_the_spot_market():
    assert canonical_symbol("BTC/USDT:USDT") == "BTCUSDT:USDT"


@pytest.mark.parametrize(
    "source",
    [data("csv", file="btc_usdt_1h_2017-2022.csv"), data("binance"), data("generated", seed=3)],
    ids=lambda source: source.data_source,
)
def test_bars_of_every_source_are_recorded_under_its_name(markets, database, bars, source):
    series = markets.series("BTC/USDT", source)
    after, until = bars[-50].open_time, bars[-1].open_time + HOUR
    got = markets.closed_bars(series, after, until)
    assert got[-1].open_time == bars[-1].open_time
    if source.data_source != "generated":
        assert got == bars[-49:]
    with database.read() as connection:
        recorded = recorded_range(connection, series.source, series.symbol, series.interval)
    assert recorded == (got[0].open_time, got[-1].open_time)


def test_the_configuration_of_a_bot_is_a_source(markets):
    """What the configuration parser returns has what is asked of it here."""
    config = DataConfig(data_source="generated", interval="60s", seed=4)
    assert markets.series("BTC/USDT", config) == Series("generated:4", "BTCUSDT", "1m")


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("../secret.csv", "allowed: a file inside"),
        ("/etc/passwd", "allowed: a file inside"),
        ("none.csv", "No such file"),
        ("nul\0.csv", "allowed: a file inside"),
        ("link.csv", "allowed: a file inside"),
    ],
)
def test_a_bot_reads_no_file_outside_the_folder(database, tmp_path, file, says):
    """D2: the owner of a bot may not read the disk through the messages of its errors."""
    folder = tmp_path / "csv"
    folder.mkdir()
    (tmp_path / "secret.csv").write_text("root:x:0:0\n")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    markets = Markets(MarketSettings(csv_folder=folder), database)
    with pytest.raises(MarketRefused) as refused:
        markets.closed_bars(markets.series("X", data("csv", file=file)), 0, 10**13)
    assert says in str(refused.value)
    assert "x:0:0" not in str(refused.value)


def test_wrong_sources_are_refused(markets):
    with pytest.raises(MarketRefused, match="found nothing, allowed: a file inside the csv folder"):
        markets.series("X", data("csv"))
    with pytest.raises(MarketRefused, match="'1M' is not"):
        markets.series("X", data("binance", "1M"))
    with pytest.raises(MarketRefused, match="did you mean binance"):
        markets.closed_bars(markets.series("X", data("binanc")), 0, 10**13)


def test_a_refusal_that_one_field_could_mend_names_it(markets):
    with pytest.raises(MarketRefused) as refused:
        markets.series("X", data("csv"))
    fault = refused.value.fault
    assert (fault.path, fault.found, fault.allowed) == (
        "data.file",
        "nothing",
        "a file inside the csv folder",
    )
    assert str(refused.value) == str(fault)
    with pytest.raises(MarketRefused) as refused:
        markets.closed_bars(markets.series("X", data("csv", file="none.csv")), 0, 10**13)
    assert refused.value.fault is None


def test_a_ban_is_known_to_every_worker_and_survives_a_restart(
    markets, database_url, data_folder, server, bars
):
    """R8.7: the breaker is a row. F15: no request inside the ban, from nobody."""
    series = markets.series("BTCUSDT", data("binance"))
    after, until = bars[-3].open_time, bars[-1].open_time + HOUR
    server.fail(Fault("418", path="/", value="3600"))
    with pytest.raises(MarketUnavailable):
        markets.closed_bars(series, after, until)
    requests = len(server.venue.requests)
    for _ in range(3):
        database = open_database(database_url)
        restarted = Markets(MarketSettings(csv_folder=data_folder), database, {"binance": server.url})
        with pytest.raises(MarketUnavailable, match="left alone") as refused:
            restarted.closed_bars(series, after, until)
        assert 3_500_000 < refused.value.retry_after_ms <= 3_600_000
        database.close()
    assert len(server.venue.requests) == requests


def test_a_breaker_closes_with_the_first_answer(markets, database, server, bars):
    series = markets.series("BTCUSDT", data("binance"))
    after, until = bars[-3].open_time, bars[-1].open_time + HOUR
    server.fail(Fault("502", path="/"))
    with pytest.raises(MarketUnavailable):
        markets.closed_bars(series, after, until)
    with database.read() as connection:
        assert read_breaker(connection, "binance").failures == 1
    assert markets.closed_bars(series, after, until) == bars[-2:]
    with database.read() as connection:
        assert read_breaker(connection, "binance").failures == 0


def test_what_is_recorded_needs_no_exchange(markets, server, bars):
    """R8.6 the other way round: a venue that is down does not take recorded bars away."""
    series = markets.series("BTCUSDT", data("binance"))
    after, until = bars[-30].open_time, bars[-1].open_time + HOUR
    assert markets.closed_bars(series, after, until) == bars[-29:]
    server.fail(Fault("502", times=100, path="/"))
    for count in (5, 10, 20):
        assert markets.closed_bars(series, bars[-count].open_time, until) == bars[1 - count :]
