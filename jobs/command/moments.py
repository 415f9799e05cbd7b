"""Times as people read and write them. Everything is ms since the epoch, UTC, inside."""

from datetime import UTC, datetime
from typing import Final, Literal

from persistence.columns import LAST_MOMENT

Style = Literal["relative", "utc", "iso"]

_SPANS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"))
_SECOND_MS: Final = 1_000
_DAY_MS: Final = 86_400_000


def iso(moment: int) -> str:
    """Write `2026-11-21T00:59:00Z`, with ms where there are any; of what no calendar has, the number."""
    if not 0 <= moment <= LAST_MOMENT:
        return f"{moment} ms"
    whole = datetime.fromtimestamp(moment // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{moment % 1_000:03d}Z" if moment % 1_000 else f"{whole}Z"


def exact(moment: int, style: Style) -> str:
    text = iso(moment)
    return text if style == "iso" else text.rstrip("Z").replace("T", " ")


def span(length: int) -> str:
    """Write a length in its largest unit: `12s`, `3m`, `5h`, `2d`; units change at twice their size."""
    for size, unit in _SPANS:
        if length >= (2 * size if unit in "dh" else size):
            return f"{length // size}{unit}"
    return "0s"


def shown(moment: int | None, now: int, style: Style) -> str:
    """Write `12s ago`, `in 3m`, or the exact time where the caller asked for that; `-` for none."""
    if moment is None:
        return "-"
    if style != "relative":
        return exact(moment, style)
    if moment > now:
        return f"in {span(moment - now)}"
    return f"{span(now - moment)} ago"


def dated(moment: int | None, now: int) -> str:
    """Write the exact time and how long ago it was; `-` for none."""
    if moment is None:
        return "-"
    return f"{exact(moment, 'utc')} UTC ({shown(moment, now, 'relative')})"


def bar_name(open_time: int | None, now: int, style: Style) -> str:
    """Write a bar's open time (UTC): only the time for one of today, the date only as far as it is needed."""
    if open_time is None:
        return "-"
    if style != "relative":
        return exact(open_time, style)
    text = exact(open_time, "utc").removesuffix(":00")
    if open_time // _DAY_MS == now // _DAY_MS:
        return text[11:]
    return text[5:] if text[:4] == exact(now, "utc")[:4] else text


def took(length: float | None) -> str:
    """Write how long a step took, given in ms."""
    if length is None:
        return "-"
    if length >= _SECOND_MS:
        return f"{length / _SECOND_MS:.1f} s"
    return f"{length:.1f} ms"


def parse_moment(text: str) -> int:
    """Read an ISO 8601 date or time; UTC unless it names another offset. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        allowed = "an ISO 8601 date or time, such as 2021-01-31 or 2021-01-31T06:00Z"
        raise ValueError(f"{text!r} is not {allowed}") from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000
