"""Tests of what an outlier is and what is done to it."""
