"""Tables and reports of what was measured."""

from harness.report.documents import save_documents
from harness.report.generations import html_table, save_generations, show_side_by_side
from harness.report.markdown import markdown
from harness.report.next_steps import show_next_steps
from harness.report.terminal import show
from harness.report.variants import save_variants

__all__ = [
    "html_table",
    "markdown",
    "save_documents",
    "save_generations",
    "save_variants",
    "show",
    "show_next_steps",
    "show_side_by_side",
]
