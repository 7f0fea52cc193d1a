"""Tables and reports of what was measured."""

from harness.report.documents import save_documents
from harness.report.markdown import markdown
from harness.report.terminal import show

__all__ = ["markdown", "save_documents", "show"]
