"""Grids of runs: what they hold, selection, plans, engines and their state."""
