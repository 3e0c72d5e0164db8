"""The tables of docs/benchmarks.md are the measured figures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "tables.py"


def test_the_tables_are_those_of_the_evidence() -> None:
    spec = importlib.util.spec_from_file_location("tables", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(text) == text
    shares = {row["name"]: row for row in tables.report("observers_cpu")["rows"]}
    assert shares["together"]["waited_share"] <= 0.03
    assert sum(shares[name]["cpu_share"] for name in ("journal", "folder", "report")) <= 0.03
    for page in tables.STORIES:
        text = page.read_text(encoding="utf-8")
        assert tables.story(text) == text
