import backtrader as bt
from pydantic import Field

from strategies.mixins.contract import ExitMixin, MixinParameters


class ATRExitParameters(MixinParameters):
    atr_period: int = Field(
        default=14,
        ge=1,
        le=500,
        description="Period of the average true range.",
        json_schema_extra={"unit": "bars"},
    )
    sl_multiplier: float = Field(
        default=1.5,
        gt=0,
        le=100,
        description="Distance of the stop from the price.",
        json_schema_extra={"unit": "ATRs"},
    )


class ATRExitMixin(ExitMixin):
    """Follows the price with a stop that is some ATRs below it and never goes down.

    When the position opens the stop is its average entry price - sl_multiplier x ATR(atr_period). At the
    close of a bar the position is sold if close <= stop; otherwise the stop becomes
    close - sl_multiplier x ATR if that is higher.
    """

    Parameters = ATRExitParameters

    def __init__(self, strategy: bt.Strategy, parameters: ATRExitParameters) -> None:
        self.data = strategy.data
        self.atr = bt.indicators.ATR(strategy.data, period=parameters.atr_period)
        self.multiplier = parameters.sl_multiplier
        self.stop: float | None = None  # quote currency; None without a position

    def opened(self, price: float) -> None:
        start = price - self.multiplier * self.atr[0]
        self.stop = start if self.stop is None else max(self.stop, start)

    def exit_reason(self) -> str | None:
        close = self.data.close[0]
        follower = close - self.multiplier * self.atr[0]
        if self.stop is None:
            # A position that this strategy did not open, such as one taken over from changed code.
            self.stop = follower
        if close <= self.stop:
            return "atr_stop"
        self.stop = max(self.stop, follower)
        return None

    def closed(self) -> None:
        self.stop = None
