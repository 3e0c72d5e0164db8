"""`streamt1 report`: the page of a recorded run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.calling import call, generate, one_line


def test_the_page_is_written() -> None:
    generate("--out", "o", "-q")
    Path("o/report.html").unlink()
    assert call("report", "o").stdout == "o/report.html\n"
    assert call("report", "o", "--out", "page.html").stdout == "page.html\n"
    assert Path("o/report.html").read_text() == Path("page.html").read_text()
    assert "cannot be written" in one_line(call("report", "o", "--out", "no/where.html"))


def test_the_page_is_written_without_torch() -> None:
    generate("--out", "o", "-q")
    code = "import sys; from streamt1_plugins.runs.report import write_page; write_page('o')"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_without_a_run_is_named() -> None:
    assert "nowhere holds no run" in one_line(call("report", "nowhere"))


def test_a_folder_of_runs_has_an_index() -> None:
    for name in ("one", "two"):
        generate("--out", f"runs/{name}", "-q")
    assert call("report", "runs").stdout == "runs/index.html\n"
    page = Path("runs/index.html").read_text()
    assert 'href="one/report.html"' in page
    assert 'href="two/report.html"' in page
    assert "holds no run" in one_line(call("report", "runs", "--out", "page.html"))
