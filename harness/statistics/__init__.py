"""Intervals, p-values and likelihoods: figures made of sums per text."""
