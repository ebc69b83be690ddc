"""Measurements: ours against floors and peers, in one run. Never tests: a slow machine is not a failure."""
