"""``documents.parquet``: what each variant scored on each document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.base.files import replacing
from harness.scoring.rows import Tally


class UnitRecord(Protocol):
    """A document, or a block of windows of a joined corpus."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def tokens(self) -> int:
        """Scored tokens."""

    @property
    def words(self) -> int | None:
        """Words of the raw document."""

    @property
    def bytes(self) -> int | None:
        """UTF-8 bytes of the raw document."""


def save_documents(
    path: Path, tallies: Mapping[str, Tally], units: Sequence[UnitRecord], names: Sequence[str]
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

    columns: dict[str, list[object]] = defaultdict(list)
    for name in names:
        nll: dict[int, float] = defaultdict(float)
        kl: dict[int, float] = defaultdict(float)
        tokens: dict[int, int] = defaultdict(int)
        for row in tallies[name].sorted_rows():
            nll[row.unit] += row.nll
            kl[row.unit] += row.kl
            tokens[row.unit] += row.tokens
        for unit in sorted(nll):
            columns["variant"].append(name)
            columns["document"].append(units[unit].name)
            columns["nll_sum"].append(nll[unit])
            columns["kl_sum"].append(kl[unit])
            columns["tokens"].append(tokens[unit])
            whole = tokens[unit] == units[unit].tokens
            columns["words"].append(units[unit].words if whole else None)
            columns["bytes"].append(units[unit].bytes if whole else None)
    schema = pyarrow.schema(
        [
            ("variant", pyarrow.string()),
            ("document", pyarrow.string()),
            ("nll_sum", pyarrow.float64()),
            ("kl_sum", pyarrow.float64()),
            ("tokens", pyarrow.int64()),
            ("words", pyarrow.int64()),
            ("bytes", pyarrow.int64()),
        ]
    )
    with replacing(path) as beside:
        parquet.write_table(pyarrow.table(dict(columns), schema=schema), beside)
