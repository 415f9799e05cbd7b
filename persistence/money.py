"""Money in the ledger is Decimal; Backtrader computes with doubles. `repr` of a double loses nothing."""

from decimal import Context, Decimal, InvalidOperation
from typing import Final

# Wide enough for any sum of doubles (5e-324 to 1.8e308), so that adding never rounds.
EXACT: Final = Context(prec=1_200, Emax=999_999, Emin=-999_999)


def text_of(value: float) -> str:
    """Return the shortest decimal that reads back as `value`, without an exponent."""
    text = repr(float(value))  # numpy's doubles have a repr of their own
    return text if text[-1].isdigit() and "e" not in text else format(Decimal(text), "f")


def text_or_none(value: float | None) -> str | None:
    return None if value is None else text_of(value)


def money(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def read_money(text: object) -> Decimal | None:
    """Return what a ledger column holds; None where a plain edit left something that is no number."""
    if text is None:
        return None
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return None
