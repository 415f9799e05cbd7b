"""Backtrader, driven from outside: one Cerebro, its feeds, its lines, what it tells."""
