"""The page of a probe: one HTML file that loads nothing from elsewhere, in the style of a comparison's page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins import compare
from streamt1_plugins.compare.page import signed
from streamt1_plugins.probe import plots
from streamt1_plugins.runs import report
from streamt1_plugins.runs.files import write_atomically, writing
from streamt1_plugins.runs.report.facts import duration
from streamt1_plugins.runs.report.page import fill

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamt1_plugins.probe.run import Probed

PAGE = "report.html"
_HERE = Path(__file__).parent
_SHEETS = (Path(report.__file__).parent / "page.css", Path(compare.__file__).parent / "page.css", _HERE / "page.css")


def write(out: Path, rows: Sequence[Mapping[str, Any]], probed: Probed) -> None:
    """Write the page into the folder of a probe."""
    with writing(f"{out / PAGE} cannot be written"):
        write_atomically(out / PAGE, render(rows, probed))


def render(rows: Sequence[Mapping[str, Any]], probed: Probed) -> str:
    """The page as HTML."""
    found = probed.findings
    drawn = {
        "shares": plots.shares(found),
        "gains": plots.gains(found),
        "heritability": plots.heritability(found),
        "routes": plots.routes(found),
        "levels": plots.levels(found),
    }
    values: dict[str, Any] = {
        "found": found,
        "advice": probed.advice,
        "model": probed.probed.model or probed.probed.adapter.name,
        "adapter": probed.probed.adapter.name,
        "recipe": "".join(line for line in probed.advice.to_yaml().splitlines(True) if not line.startswith("#")),
        "time": duration(sum(row["seconds"] for row in rows)),
        "prompts": [row["prompt"] for row in rows],
        "colours": plots.colours(list(found.rewards)),
        "drawn": drawn,
        "style": "\n".join(sheet.read_text(encoding="utf-8") for sheet in _SHEETS),
    }
    return fill(_HERE, values, {"signed": signed, "figure": figure})


def figure(value: float) -> str:
    """A number in its own unit, to three digits."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
