"""Compiled loops over values; what they compute stands beside them in plain torch."""
