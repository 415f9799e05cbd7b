import backtrader as bt
from pydantic import Field

from strategies.mixins.contract import EntryMixin, MixinParameters


class RSIBBVolumeParameters(MixinParameters):
    rsi_period: int = Field(
        default=14, ge=2, le=500, description="Period of the RSI.", json_schema_extra={"unit": "bars"}
    )
    rsi_oversold: float = Field(
        default=30.0,
        ge=0,
        le=100,
        description="The RSI must be at or below this.",
        json_schema_extra={"unit": "RSI points"},
    )
    bb_period: int = Field(
        default=20,
        ge=2,
        le=500,
        description="Period of the Bollinger bands.",
        json_schema_extra={"unit": "bars"},
    )
    bb_dev: float = Field(
        default=2.0,
        gt=0,
        le=10,
        description="Distance of the bands from their middle.",
        json_schema_extra={"unit": "standard deviations"},
    )
    vol_ma_period: int = Field(
        default=20,
        ge=1,
        le=500,
        description="Period of the average volume, this bar included.",
        json_schema_extra={"unit": "bars"},
    )
    min_volume_ratio: float = Field(
        default=1.1,
        ge=0,
        le=100,
        description="The volume must be at least this many times its average.",
        json_schema_extra={"unit": "ratio"},
    )
    use_bb_touch: bool = Field(
        default=True,
        description="true: the bar's low must reach the lower band. false: its close must be below the band.",
    )


class RSIBBVolumeEntryMixin(EntryMixin):
    """Buys weakness with volume: the RSI is oversold, the price is at the lower band, the volume is high.

    At the close of a bar all three must hold: RSI(rsi_period) <= rsi_oversold; low <= lower band
    (use_bb_touch) or close < lower band; volume >= min_volume_ratio x SMA(volume, vol_ma_period).
    """

    Parameters = RSIBBVolumeParameters

    def __init__(self, strategy: bt.Strategy, parameters: RSIBBVolumeParameters) -> None:
        data = strategy.data
        self.data = data
        # safediv: a market that only rises or stands still has an RSI too.
        self.rsi = bt.indicators.RSI(data.close, period=parameters.rsi_period, safediv=True)
        self.bands = bt.indicators.BollingerBands(
            data.close, period=parameters.bb_period, devfactor=parameters.bb_dev
        )
        self.volume_average = bt.indicators.SMA(data.volume, period=parameters.vol_ma_period)
        self.oversold = parameters.rsi_oversold
        self.volume_ratio = parameters.min_volume_ratio
        self.on_touch = parameters.use_bb_touch

    def entry_reason(self) -> str | None:
        lower = self.bands.bot[0]
        at_band = self.data.low[0] <= lower if self.on_touch else self.data.close[0] < lower
        oversold = self.rsi[0] <= self.oversold
        loud = self.data.volume[0] >= self.volume_ratio * self.volume_average[0]
        return "oversold_at_band" if at_band and oversold and loud else None
