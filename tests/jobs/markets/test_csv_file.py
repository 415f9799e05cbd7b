import csv
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from broken_csv import BROKEN_CSV, GOOD, HEADER, NEXT

from jobs.markets import MOST_BARS, MarketRefused, MarketUnavailable
from jobs.markets.csv_file import CsvMarket
from strategies.values import Bar, interval_ms

HOUR = 3_600_000
MAY = 1_619_827_200_000  # 2021-05-01T00:00:00Z
FOREVER = 10**14
FIRST = Bar(MAY, 10.0, 12.0, 9.0, 11.0, 5.0)
SECOND = Bar(MAY + HOUR, 11.0, 12.5, 10.5, 12.0, 6.0)


def written(folder: Path, text: str) -> CsvMarket:
    file = folder / "bars.csv"
    file.write_bytes(text.encode())
    return CsvMarket(file)


@pytest.mark.parametrize("broken", BROKEN_CSV, ids=lambda broken: broken.name)
def test_a_broken_file_is_refused_with_line_finding_and_remedy(broken, tmp_path):
    file = tmp_path / "bars.csv"
    file.write_bytes(broken.content)
    with pytest.raises(MarketRefused) as refused:
        CsvMarket(file).closed_bars("BTCUSDT", "1h", None, FOREVER)
    message = str(refused.value)
    assert message.startswith(str(file))
    for part in broken.says:
        assert part in message


def test_the_table_of_broken_files_is_long_enough():
    assert len({broken.name for broken in BROKEN_CSV}) == len(BROKEN_CSV) >= 25


@pytest.mark.parametrize(
    ("name", "interval"),
    [
        ("btc_usdt_1h_2017-2022.csv", "1h"),
        ("eth_usdt_1h_2017-2022.csv", "1h"),
        ("ada_btc_5m_ft.csv", "5m"),
        ("btc_usdt_5m_2021.csv", "5m"),
        ("bt_2006-day-001.csv", "1d"),
    ],
)
def test_real_files_are_read_to_the_last_digit(data_folder, name, interval):
    """Every double is the one that Python reads from the text, gaps stay gaps."""
    with (data_folder / name).open(newline="") as stream:
        expected = [
            (
                int(datetime.fromisoformat(row["timestamp"]).timestamp()) * 1_000,
                *(row[column] for column in ("open", "high", "low", "close", "volume")),
            )
            for row in csv.DictReader(stream)
        ]
    bars = CsvMarket(data_folder / name).closed_bars("X", interval, None, FOREVER)
    shown = [
        (bar.open_time, *map(repr, (bar.open, bar.high, bar.low, bar.close, bar.volume))) for bar in bars
    ]
    assert shown == expected


def test_any_wish_is_a_slice_of_the_file(data_folder):
    market = CsvMarket(data_folder / "btc_usdt_1h_2017-2022.csv")
    everything = market.closed_bars("X", "1h", None, FOREVER)
    dice = random.Random(7)
    for _ in range(300):
        after = dice.choice(everything).open_time + dice.choice((-HOUR, -1, 0, 1, HOUR))
        until = after + dice.randrange(-2 * HOUR, 300 * HOUR)
        expected = tuple(bar for bar in everything if after < bar.open_time and bar.open_time + HOUR <= until)
        assert market.closed_bars("X", "1h", after, until) == expected


def test_a_bar_is_there_only_once_it_is_closed(tmp_path):
    market = written(tmp_path, f"{HEADER}\n{GOOD}\n{NEXT}\n")
    assert market.closed_bars("X", "1h", None, MAY + 2 * HOUR - 1) == (FIRST,)
    assert market.closed_bars("X", "1h", None, MAY + 2 * HOUR) == (FIRST, SECOND)
    assert market.closed_bars("X", "1h", MAY, FOREVER) == (SECOND,)


def test_a_growing_file_shows_only_finished_lines(tmp_path):
    """F18: a half-written last line is not there yet, whatever it looks like."""
    text = f"{HEADER}\n{GOOD}\n{NEXT}\n"
    market = written(tmp_path, f"{HEADER}\n{GOOD}\n")
    for cut in range(len(f"{HEADER}\n{GOOD}\n"), len(text)):
        market.path.write_bytes(text[:cut].encode())
        assert market.closed_bars("X", "1h", None, FOREVER) == (FIRST,)
    market.path.write_bytes(text.encode())
    assert market.closed_bars("X", "1h", None, FOREVER) == (FIRST, SECOND)


def test_an_unchanged_file_is_parsed_once(tmp_path, monkeypatch):
    market = written(tmp_path, f"{HEADER}\n{GOOD}\n")
    assert market.closed_bars("X", "1h", None, FOREVER) == (FIRST,)
    # What counts the parses is the parser itself; there is no other way to see that nothing happened.
    monkeypatch.setattr("jobs.markets.csv_file._parse", lambda *_: pytest.fail("parsed again"))
    assert market.closed_bars("X", "1h", None, FOREVER) == (FIRST,)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + f"{HEADER}\n{GOOD}\n",
        f"{HEADER}\n{GOOD}\n".replace("\n", "\r\n"),
        f"{HEADER}\n{GOOD}\n\n\n",
        f"volume,close,low,high,open,timestamp\n{','.join(reversed(GOOD.split(',')))}\n",
        f"{HEADER}\n{GOOD}\n".replace("Z", "+00:00"),
        ",".join(f'"{name}"' for name in HEADER.split(",")) + f"\n{GOOD}\n",
    ],
    ids=["utf8_bom", "windows_newlines", "blank_end", "other_order", "offset_zero", "quoted_header"],
)
def test_harmless_differences_are_accepted(tmp_path, text):
    assert written(tmp_path, text).closed_bars("X", "1h", None, FOREVER) == (FIRST,)


def test_a_header_alone_is_a_market_that_has_not_begun(tmp_path):
    assert written(tmp_path, f"{HEADER}\n").closed_bars("X", "1h", None, FOREVER) == ()


def test_a_missing_file_a_folder_a_device_and_a_pipe_are_refused_at_once(tmp_path):
    """Nobody writes to the pipe: to open it as a file would wait for ever."""
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "none.csv", tmp_path, Path("/dev/null"), tmp_path / "pipe.csv"):
        with pytest.raises(
            MarketRefused, match=r"No such file|found a (folder|device|pipe \(FIFO\)), allowed"
        ):
            CsvMarket(path).closed_bars("X", "1h", None, FOREVER)


def test_a_disk_that_fails_is_asked_again_later(tmp_path):
    """A loop of links is the one I/O error that needs no broken disk."""
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    with pytest.raises(MarketUnavailable):
        CsvMarket(loop).closed_bars("X", "1h", None, FOREVER)


def test_a_long_file_is_answered_in_parts(tmp_path):
    rows = MOST_BARS + 10
    lines = (
        f"{datetime.fromtimestamp(second, UTC).isoformat()},1.0,1.0,1.0,1.0,0.0" for second in range(rows)
    )
    market = written(tmp_path, "\n".join((HEADER, *lines)) + "\n")
    first = market.closed_bars("X", "1s", None, FOREVER)
    rest = market.closed_bars("X", "1s", first[-1].open_time, FOREVER)
    assert (len(first), len(rest)) == (MOST_BARS, 10)
    assert rest[0].open_time - first[-1].open_time == interval_ms("1s")
