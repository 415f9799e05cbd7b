"""Money in the ledger is Decimal; Backtrader computes with doubles. `repr` of a double loses nothing."""

from decimal import Context, Decimal, InvalidOperation
from typing import Final

# Wide enough for any sum of doubles (5e-324 to 1.8e308), so that adding never rounds.
EXACT: Final = Context(prec=1_200, Emax=999_999, Emin=-999_999)


def money(value: float) -> Decimal:
    return Decimal(repr(float(value)))  # numpy's doubles have a repr of their own


def money_or_none(value: float | None) -> Decimal | None:
    return None if value is None else money(value)


def plain_text(value: Decimal) -> str:
    """Return the digits without an exponent, as both databases keep them."""
    return format(value, "f")


def text_of(value: float) -> str:
    """Return the shortest decimal that reads back as `value`, without an exponent."""
    text = repr(
        float(value)
    )  # as it stands, nearly always: to make a Decimal of it takes three times as long
    return text if text[-1].isdigit() and "e" not in text else plain_text(Decimal(text))


def read_money(value: object) -> Decimal | None:
    """Return what a ledger column holds; None where a plain edit left something that is no number."""
    try:
        found = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        return None
    return None if found.is_snan() else found  # which no sum may meet; a quiet NaN a strategy may make
