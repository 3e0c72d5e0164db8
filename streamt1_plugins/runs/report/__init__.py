"""The page of a run: one HTML file with everything in it, made from the run folder alone."""

from __future__ import annotations

from streamt1_plugins.runs.report.page import PAGE, render, write_page

__all__ = ["PAGE", "render", "write_page"]
