"""How a device is told the parts of a matrix, and how moments lie there until they are read."""

from __future__ import annotations

START, STOP, PART, FIRST, LAST, TEXT = range(6)
"""Columns of a table of stretches, int32: the first row and the one after the last, which may be
the first; the part that they belong to, whose stretches lie from one row of the table to before
another; and the text. Every part has a stretch."""

STRETCH = 6
"""Columns of such a table."""

ROWS, BEYOND, BEYOND_SIGMAS, MASSIVE, LARGEST, CENTER, SCALE, SUMS = range(8)
"""Columns of what was found, a row for each part, in fp64 or, where a device has none, fp32. The
first four are whole numbers, as the bits of integers of the same size. Then the largest magnitude;
what x was shifted by, and what it was divided by before (0 is read as 1); the first of four sums of
its powers."""

WHOLE = 4
"""How many of these columns, the first ones, are whole numbers."""

COLUMNS = SUMS + 4
"""Columns of what was found."""
