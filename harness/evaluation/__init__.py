"""From batches to results: the original and its variants, measured."""
