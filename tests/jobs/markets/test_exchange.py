"""ccxt's binance against an exchange on this machine. F13, F15, F18; no test leaves the machine."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import candle_server
import pytest
import requests
from candle_server import CandleServer, Fault, candles_of
from structlog.testing import capture_logs

from jobs.clock import SimulatedClock
from jobs.markets import MarketRefused, MarketUnavailable
from jobs.markets.ccxt_border import connect, page_size, timeframe_of
from jobs.markets.csv_file import CsvMarket
from jobs.markets.exchange import MOST_PAGES, ExchangeMarket
from strategies.values import interval_ms

HOUR = 3_600_000
FOREVER = 10**14


@pytest.fixture
def market(server) -> ExchangeMarket:
    # Long enough for a busy machine; tests of what does not answer set their own.
    return ExchangeMarket("binance", timeout_ms=10_000, base_url=server.url, clock=SimulatedClock(0))


def last(market: ExchangeMarket, bars, count: int):
    """Ask for the last `count` bars."""
    return market.closed_bars("BTCUSDT", "1h", bars[-count - 1].open_time, bars[-1].open_time + HOUR)


def in_turn(*tampers):
    """Return what treats the first answers one after the other, and leaves the later ones alone."""
    rest = list(tampers)
    return lambda rows: rest.pop(0)(rows) if rest else rows


def test_years_of_real_candles_arrive_page_by_page_to_the_last_digit(server, market, bars):
    """How we know 1: 45,024 bars and 27 gaps; a page with a gap is asked for once more, no bar twice."""
    got = []
    after, until = bars[0].open_time - 1, bars[-1].open_time + HOUR
    while part := market.closed_bars("BTC/USDT", "1h", after, until):
        got += part
        after = part[-1].open_time
    assert tuple(got) == bars
    pages = [int(request.query["startTime"]) for request in server.asked()]
    assert len(set(pages)) <= len(bars) // 1_000 + 4
    assert len(pages) - len(set(pages)) <= 27


def test_a_long_answer_ends_after_some_pages(market, bars):
    got = market.closed_bars("BTCUSDT", "1h", bars[0].open_time - 1, bars[-1].open_time + HOUR)
    assert got == bars[: len(got)]
    assert len(got) == MOST_PAGES * 1_000


def test_prices_with_seventeen_digits_survive(data_folder):
    file = data_folder / "ada_btc_5m_ft.csv"
    expected = CsvMarket(file).closed_bars("X", "5m", None, FOREVER)
    end = expected[-1].open_time + 300_000
    with CandleServer({("ADABTC", "5m"): candles_of(file)}, now_ms=end) as server:
        market = ExchangeMarket("binance", base_url=server.url)
        assert market.closed_bars("ADABTC", "5m", expected[0].open_time - 1, end) == expected


def test_the_candle_under_way_is_never_shown(server, market, bars):
    """Incident 16, freqtrade#1715: an incomplete last candle was traded on."""
    half = bars[-1].open_time + HOUR // 2
    server.venue.now_ms = half
    assert server.venue.klines({"symbol": "BTCUSDT", "interval": "1h"})[1][-1][0] == bars[-1].open_time
    assert market.closed_bars("BTCUSDT", "1h", bars[-4].open_time, half) == bars[-3:-1]
    # Our clock is an hour ahead and believes that the bar is over; the venue knows better.
    assert market.closed_bars("BTCUSDT", "1h", bars[-4].open_time, half + HOUR) == bars[-3:-1]
    server.venue.now_ms = bars[-1].open_time + HOUR
    assert market.closed_bars("BTCUSDT", "1h", bars[-4].open_time, half + HOUR) == bars[-3:]


def test_without_a_date_our_own_clock_counts(server, market, bars):
    server.venue.shows_date = False
    assert last(market, bars, 3) == bars[-3:]


def test_a_late_candle_is_not_there_yet(server, market, bars):
    """Incident 16, ccxt#12855: the last candle is sometimes absent."""
    server.venue.tamper = lambda rows: rows[:-1]
    assert last(market, bars, 3) == bars[-3:-1]
    server.venue.tamper = None
    assert last(market, bars, 3) == bars[-3:]


def test_candles_that_a_venue_loses_for_a_moment_are_no_gap(server, market, bars):
    """Incident 16, ccxt#8068: an hour of candles is missing in one answer."""
    server.venue.tamper = in_turn(lambda rows: rows[:2] + rows[4:])
    assert last(market, bars, 8) == bars[-8:]
    assert len(server.asked()) == 2


def test_candles_that_stay_away_are_a_gap(server, market, bars):
    server.venue.tamper = lambda rows: rows[:2] + rows[4:]
    assert last(market, bars, 8) == bars[-8:-6] + bars[-4:]
    assert len(server.asked()) == 2


def test_an_empty_page_in_the_past_is_doubted_before_it_is_skipped(server, market, bars):
    """One empty answer must not become a gap of a thousand bars."""
    server.venue.tamper = in_turn(lambda rows: rows, lambda _: [])
    assert last(market, bars, 2_500) == bars[-2_500:]


def test_a_window_that_lies_in_a_gap_is_walked_through(server, market, bars):
    """A venue that answers by window of time shows nothing for some windows."""

    def by_window(rows):
        start = int(server.asked()[-1].query["startTime"])
        return [row for row in rows if start <= row[0] < start + 5 * HOUR]

    market.closed_bars("BTCUSDT", "1h", bars[-2].open_time, bars[-1].open_time + HOUR)
    market._exchange.features["spot"]["fetchOHLCV"]["limit"] = 5
    gap = next(i for i in range(1, len(bars)) if bars[i].open_time - bars[i - 1].open_time >= 20 * HOUR)
    server.venue.tamper = by_window
    got = market.closed_bars("BTCUSDT", "1h", bars[gap - 9].open_time, bars[gap + 9].open_time + HOUR)
    assert got == bars[gap - 8 : gap + 10]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda rows: rows[::-1],
        lambda rows: rows + rows[-2:] + rows[:1],
        lambda rows: [*rows, [rows[-1][0] + 50 * HOUR, *rows[-1][1:]]],
        lambda rows: [*rows, [rows[-1][0] + HOUR + 7, *rows[-1][1:]]],
        lambda rows: [[rows[0][0] - 30 * HOUR, *rows[0][1:]], *rows],
    ],
    ids=["backwards", "repeated", "from_the_future", "off_the_grid", "from_before"],
)
def test_odd_but_whole_answers_are_put_right(server, market, bars, tamper):
    server.venue.tamper = tamper
    assert last(market, bars, 5) == bars[-5:]


@pytest.mark.parametrize(
    "numbers",
    [
        [None] * 5,
        ["NaN", "12", "9", "11", "5"],
        ["0", "12", "9", "11", "5"],
        ["10", "9", "12", "11", "5"],
        ["10", "12", "9", "11", None],
        ["10", "12", "9", "11", "-5"],
        ["ten", "12", "9", "11", "5"],
    ],
    ids=["none", "nan", "zero", "high_below_low", "no_volume", "negative_volume", "words"],
)
def test_a_candle_that_is_no_bar_is_left_out_and_reported(server, market, bars, numbers):
    """Incident 16, ccxt#6888: open is None."""
    server.venue.tamper = lambda rows: [
        [row[0], *numbers, *row[6:]] if row[0] == bars[-2].open_time else row for row in rows
    ]
    with capture_logs() as logs:
        assert last(market, bars, 5) == bars[-5:-2] + bars[-1:]
    assert [log["event"] for log in logs] == ["candles left out"]
    assert {candle.open_time for candle in logs[0]["first"]} == {bars[-2].open_time}


STATUSES = (
    "400",
    "401",
    "403",
    "404",
    "408",
    "418",
    "422",
    "429",
    "451",
    "500",
    "502",
    "503",
    "504",
    "520",
    "524",
)
BODIES = ("html", "half_json", "empty", "null", "object", "text", "odd_rows", "nonsense", "bad_gzip")
WIRES = ("cut", "reset", "redirect", "slow", "drip")


@pytest.mark.parametrize("kind", [*STATUSES, *BODIES, *WIRES])
@pytest.mark.parametrize("path", ["klines", "exchangeInfo"])
def test_a_failed_answer_is_never_taken_for_no_candles(server, bars, kind, path):
    """F13, F15: every failure is MarketUnavailable in time, after one request; then all is well."""
    clock = SimulatedClock(1_700_000_000_000)
    market = ExchangeMarket("binance", timeout_ms=250, base_url=server.url, clock=clock)
    values = {"redirect": server.url + "/api/v3/ping", "drip": 0.02}
    server.fail(Fault(kind, path=path, value=values.get(kind)))
    started = time.monotonic()
    with pytest.raises(MarketUnavailable) as failure:
        last(market, bars, 3)
    assert time.monotonic() - started < 2
    assert len(server.asked(path)) == 1
    assert not server.asked("ping"), "a redirect was followed"
    clock.at_ms += failure.value.retry_after_ms or 0
    assert last(market, bars, 3) == bars[-3:]


def test_a_failing_page_does_not_cost_the_pages_before_it(server, market, bars):
    answers = iter([None, None, Fault("502")])

    def third_fails(rows):
        if fault := next(answers, None):
            server.fail(fault)
        return rows

    server.venue.tamper = third_fails
    assert last(market, bars, 4_000) == bars[-4_000:-2_000]


def test_a_short_answer_is_whole_or_none(server, market, bars):
    """Who asks for a page must know that what is not in it does not exist."""
    market.closed_bars("BTCUSDT", "1h", bars[-2].open_time, bars[-1].open_time + HOUR)
    market._exchange.features["spot"]["fetchOHLCV"]["limit"] = 10
    server.fail(Fault("slow", value=0.01), Fault("502"))
    with pytest.raises(MarketUnavailable):
        last(market, bars, 100)


@pytest.mark.parametrize(("kind", "retry_after", "pause_ms"), [("429", "7", 7_000), ("418", "90", 90_000)])
def test_nobody_asks_into_a_ban(server, market, bars, kind, retry_after, pause_ms):
    """F15: no request from the venue's no until the end that it named, by whatever bot."""
    last(market, bars, 1)
    server.fail(Fault(kind, value=retry_after))
    with pytest.raises(MarketUnavailable) as failure:
        last(market, bars, 2)
    assert failure.value.retry_after_ms == pause_ms
    before = len(server.venue.requests)
    for passed in (1, pause_ms // 2, pause_ms - 1):
        market.clock.at_ms = passed
        with pytest.raises(MarketUnavailable, match="left alone") as refused:
            last(market, bars, 3)
        assert refused.value.retry_after_ms == pause_ms - passed
    assert len(server.venue.requests) == before
    market.clock.at_ms = pause_ms
    assert last(market, bars, 3) == bars[-3:]


def test_a_venues_word_counts_for_the_answer_that_it_stood_in(server, market, bars):
    """A connection that breaks after a 429 names no time; that of the 429 is over."""
    last(market, bars, 1)
    server.fail(Fault("429", value="7"), Fault("cut"))
    with pytest.raises(MarketUnavailable):
        last(market, bars, 2)
    market.clock.at_ms = 7_000
    with pytest.raises(MarketUnavailable) as failure:
        last(market, bars, 2)
    assert failure.value.retry_after_ms is None


def test_an_exchange_that_is_down_costs_one_time_out_not_one_per_bot(server, bars):
    market = ExchangeMarket("binance", timeout_ms=200, base_url=server.url)
    last(market, bars, 1)
    server.fail(Fault("slow", times=100, value=0.5))
    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(MarketUnavailable):
            last(market, bars, 2)
    assert time.monotonic() - started < 1


def test_nothing_listens(bars):
    market = ExchangeMarket("binance", timeout_ms=500, base_url="http://127.0.0.1:9")
    with pytest.raises(MarketUnavailable, match="NetworkError"):
        last(market, bars, 1)


def test_a_clock_that_steps_back_does_not_put_the_rate_limit_to_sleep(market, bars, monkeypatch):
    """ccxt's own throttle would sleep for as long as the wall clock went back."""
    last(market, bars, 1)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 5_000_000_000)
    started = time.monotonic()
    last(market, bars, 2)
    assert time.monotonic() - started < 2


def test_wrong_questions_are_refused_with_what_is_allowed(server, market, bars):
    after, until = bars[-2].open_time, bars[-1].open_time + HOUR
    with pytest.raises(MarketRefused, match="'NOSUCH', allowed: one that binance lists"):
        market.closed_bars("NOSUCH", "1h", after, until)
    with pytest.raises(
        MarketRefused, match=r"found '7m', allowed: one that binance has: 1s, 1m, 3m, 5m, .*1w"
    ):
        market.closed_bars("BTCUSDT", "7m", after, until)
    with pytest.raises(MarketRefused, match="found no beginning"):
        market.closed_bars("BTCUSDT", "1h", None, until)
    with pytest.raises(MarketRefused, match=r"'binanse'.*did you mean binance"):
        ExchangeMarket("binanse").closed_bars("BTCUSDT", "1h", after, until)
    assert len(server.asked("exchangeInfo")) == 1, "an unknown symbol must not reload the list again"


def test_weeks_that_open_on_mondays_are_refused():
    monday = 1_620_000_000_000 // 604_800_000 * 604_800_000 + 4 * 86_400_000
    weeks = [(monday + i * 604_800_000, "10", "12", "9", "11", "5") for i in range(3)]
    with CandleServer({("BTCUSDT", "1w"): weeks}, now_ms=monday + 4 * 604_800_000) as server:
        market = ExchangeMarket("binance", base_url=server.url)
        with pytest.raises(MarketRefused, match="choose a shorter interval"):
            market.closed_bars("BTCUSDT", "1w", monday - 1, monday + 4 * 604_800_000)


def test_a_name_that_means_two_markets_is_refused(server, market, bars):
    server.venue.extra_symbols = (("AB", "CUSDT"), ("ABC", "USDT"))
    with pytest.raises(MarketRefused, match="several markets"):
        market.closed_bars("ABCUSDT", "1h", bars[-2].open_time, bars[-1].open_time + HOUR)


def test_threads_share_an_exchange(server, market, bars):
    got = []
    threads = [
        threading.Thread(target=lambda n=n: got.append((n, last(market, bars, n)))) for n in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(n for n, _ in got) == list(range(1, 9))
    assert all(answer == bars[-n:] for n, answer in got)
    assert len(server.asked("exchangeInfo")) == 1


def test_every_address_of_the_exchange_leads_to_the_loopback(market, server, bars):
    last(market, bars, 1)

    def addresses(value):
        return (
            [address for part in value.values() for address in addresses(part)]
            if isinstance(value, dict)
            else [value]
        )

    assert len(addresses(market._exchange.urls["api"])) > 10
    assert all(address.startswith(server.url) for address in addresses(market._exchange.urls["api"]))


@pytest.mark.parametrize(
    "exchange_id",
    ["bybit", "okx", "kraken", "coinbase", "kucoin", "gate", "bitget", "mexc", "htx", "bitvavo"],
)
def test_other_exchanges_open_without_a_question_and_know_hours(exchange_id):
    exchange = connect(exchange_id, 1_000, "http://127.0.0.1:9")
    assert interval_ms("1h") == 1_000 * exchange.parse_timeframe(timeframe_of(exchange, "60m"))
    assert 100 <= page_size(exchange) <= 1_000
    assert exchange.last_request_url is None


def test_an_exchange_without_candles_is_refused():
    import ccxt  # here, because it costs half a second

    without = next(name for name in ccxt.exchanges if getattr(ccxt, name)().has["fetchOHLCV"] is not True)
    with pytest.raises(MarketRefused, match="has no candles"):
        connect(without, 1_000)


def test_ccxt_is_imported_only_for_an_exchange():
    code = "import sys, jobs.markets; sys.exit(bool({'ccxt', 'requests', 'pandas'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_emulator_runs_as_a_process_of_its_own(data_folder, bars):
    """Steered over its own port: its time, its failures."""
    file = data_folder / "btc_usdt_1h_2017-2022.csv"
    command = [sys.executable, Path(candle_server.__file__), "--file", f"BTCUSDT=1h={file}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[0]
            order = {"now_ms": bars[-5].open_time, "faults": [{"kind": "502"}]}
            requests.post(url + "/control", json=order, timeout=5).raise_for_status()
            market = ExchangeMarket("binance", base_url=url)
            with pytest.raises(MarketUnavailable):
                last(market, bars, 8)
            assert last(market, bars, 8) == bars[-8:-5]
        finally:
            process.kill()


def test_faults_are_used_up():
    assert replace(Fault("502", 2), times=1) == Fault("502")
