"""Tests of the embedded model and corpus."""
