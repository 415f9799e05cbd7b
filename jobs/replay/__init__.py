"""The bots' jobs driven by a simulated clock over recorded bars."""
