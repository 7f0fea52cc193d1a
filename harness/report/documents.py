"""``documents.parquet``: what each variant scored on each document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.base.files import replacing
from harness.data import Unit
from harness.scoring.rows import Tally

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

    rows = []
    for name in names:
        sums: dict[int, tuple[float, float, int]] = {}
        for row in tallies[name].sorted_rows():
            nll, kl, tokens = sums.get(row.unit, (0.0, 0.0, 0))
            sums[row.unit] = nll + row.nll, kl + row.kl, tokens + row.tokens
        for number, (nll, kl, tokens) in sorted(sums.items()):
            unit = units[number]
            raw = (unit.words, unit.bytes) if tokens == unit.tokens else (None, None)
            rows.append(dict(zip(_COLUMNS, (name, unit.name, nll, kl, tokens, *raw), strict=True)))
    schema = pyarrow.schema([(k, pyarrow.type_for_alias(t)) for k, t in _COLUMNS.items()])
    with replacing(path) as beside:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), beside)
