"""The tables of docs/scaling.md are the measured figures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scaling.py"


def test_the_tables_are_those_of_the_evidence() -> None:
    spec = importlib.util.spec_from_file_location("scaling", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    scaling = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scaling)
    text = scaling.PAGE.read_text(encoding="utf-8")
    assert scaling.page(text) == text
    assert all(abs(row["model_error"]) <= 0.15 for row in scaling.measured_rows())
