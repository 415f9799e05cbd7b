"""Entry and exit logic for CustomStrategy: one file each, listed in `BUILT_IN`."""

from strategies.mixins.atr_exit import ATRExitMixin
from strategies.mixins.contract import EntryMixin, ExitMixin, MixinParameters
from strategies.mixins.rsi_bb_volume_entry import RSIBBVolumeEntryMixin

BUILT_IN: tuple[type[EntryMixin] | type[ExitMixin], ...] = (RSIBBVolumeEntryMixin, ATRExitMixin)

__all__ = ["BUILT_IN", "ATRExitMixin", "EntryMixin", "ExitMixin", "MixinParameters", "RSIBBVolumeEntryMixin"]
