"""The index of a folder of runs: a contact sheet, one HTML file beside the run folders that it leads to."""

from __future__ import annotations

from streamt1_plugins.runs.sheet.page import INDEX, Sheet

__all__ = ["INDEX", "Sheet"]
