"""Measures what the outliers of a language model do, by taking them away."""

__version__ = "0.1.0"
