"""``documents.parquet``: what each variant scored on each document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.base.files import replacing
from harness.data import Unit
from harness.scoring.rows import Tally

# The file is written when so many rows are there, for there may be hundreds of variants.
_GROUP = 2**20

_COLUMNS = {
    "variant": "string",
    "document": "string",
    "nll_sum": "float64",
    "kl_sum": "float64",
    "tokens": "int64",
    "words": "int64",
    "bytes": "int64",
}


def save_documents(
    path: Path, tallies: Mapping[str, Tally], units: Sequence[Unit], names: Sequence[str]
) -> None:
    """Writes one row per variant and document: sums of nll and KL in nats, tokens, words, bytes.

    Divided by the tokens, a sum is what ``results.json`` calls by the name without ``_sum``. Words
    and bytes are null where not all tokens of a document were scored.

    Args:
        path: The file.
        tallies: Rows per window, by variant.
        units: Documents (or blocks), by number.
        names: The variants to write, in this order.
    """
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(k, pyarrow.type_for_alias(t)) for k, t in _COLUMNS.items()])
    whole = np.array([unit.tokens for unit in units])
    known = {
        "document": np.array([unit.name for unit in units], dtype=object),
        "words": np.array([unit.words for unit in units], dtype=object),
        "bytes": np.array([unit.bytes for unit in units], dtype=object),
    }
    with replacing(path) as beside, parquet.ParquetWriter(beside, schema) as writer:
        waiting: list[Any] = []
        for name in names:
            rows = tallies[name].rows
            units_scored, where = np.unique(rows.unit, return_inverse=True)
            # Added up in the order of the plan.
            nll, kl, tokens = (np.bincount(where, x) for x in (rows.nll, rows.kl, rows.tokens))
            partly = tokens != whole[units_scored]
            told = {column: values[units_scored] for column, values in known.items()}
            told["words"][partly] = told["bytes"][partly] = None
            columns = {
                "variant": pyarrow.array([name], "string").take(np.zeros(len(tokens), dtype=int)),
                "nll_sum": nll,
                "kl_sum": kl,
                "tokens": tokens.astype(np.int64),
                **told,
            }
            arrays = [pyarrow.array(columns[field.name], field.type) for field in schema]
            waiting.append(pyarrow.Table.from_arrays(arrays, schema=schema))
            if sum(map(len, waiting)) >= _GROUP or name == names[-1]:
                writer.write_table(pyarrow.concat_tables(waiting).combine_chunks())
                waiting.clear()
