"""Decide: strategies, their configuration, and the engine that steps Backtrader. No I/O, no clock, no log."""
