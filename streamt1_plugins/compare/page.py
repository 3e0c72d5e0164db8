"""The page of a comparison: one HTML file with everything in it, in the look of a run's page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import pairs, plots, table
from streamt1_plugins.runs import report
from streamt1_plugins.runs.report import strips
from streamt1_plugins.runs.report.facts import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = "report.html"
BANDS = 3
"""Up to so many recipes the bands of their intervals can be told apart in the plot by chunk."""
_HERE = Path(__file__).parent


def render(rows: Sequence[Mapping[str, Any]], out: Path, judge: str, notes: Sequence[str] = ()) -> str:
    """The page as text; strips are read from `out`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "signed": signed, "chunk": numbered}
    filled = context(rows, table.summary(rows))
    filled |= {"judge": judge, "notes": notes, "strips": _strips(out, filled["pairs"]), "style": _style()}
    html = environment.get_template("page.html.j2").render(filled)
    # Lone surrogates (a prompt typed in another encoding) cannot be written as UTF-8.
    return html.encode("utf-8", "replace").decode("utf-8")


def context(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> dict[str, Any]:
    """What the template fills in, except for files."""
    labels, metrics = list(found["recipes"]), table.columns(found)
    rivals = [label for label in labels if label != found["base"]]
    return {
        "found": found,
        "circular": found.get("circular", []),
        "drift": found.get("drift"),
        "metric": metrics[0],
        "metrics": metrics,
        "families": list(dict.fromkeys(plots.family(label) for label in rivals)),
        "colours": plots.colours(labels),
        "bars": plots.gains(found, metrics[0]),
        "scaling": plots.scaling(found, metrics[0]),
        "chunks": plots.by_chunk(rows, labels, bands=len(labels) <= BANDS),
        "banded": len(labels) <= BANDS,
        "size": (plots.WIDTH, plots.HEIGHT, plots.LEFT, plots.RIGHT, plots.TOP, plots.BOTTOM),
        "pairs": [pairs.extremes(rows, found["base"], label, metrics[0]) for label in rivals],
        "opened": max(rivals, key=lambda label: _score(found, label, metrics[0]), default=None),
    }


def signed(value: float | None, digits: int = 3) -> str:
    """A difference for a table, with a true minus."""
    if value is None:
        return number(value)
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{rounded:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def numbered(chunk: str) -> str:
    """`chunk_01` as the plots number it: `chunk 1`."""
    name, _, number = chunk.partition("_")
    return f"{name} {int(number)}"


def _score(found: Mapping[str, Any], label: str, metric: str) -> float:
    values = found["recipes"][label]["metrics"][metric]
    return values["mean"]["mean"] if values else float("-inf")


def _style() -> str:
    sheets = (Path(report.__file__).parent / "page.css", _HERE / "page.css")
    return "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)


def _strips(out: Path, found: Sequence[pairs.Extremes]) -> dict[str, str]:
    """The pictures of the pairs by the name their rows give them; those that are gone are left out."""
    sides = [side for each in found for pair in (*each.best, *each.worst) for side in (pair.base, pair.other)]
    names = dict.fromkeys(side.strip for side in sides if side.strip)
    files = {name: out / strips.FOLDER / Path(name).name for name in names}
    return {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items() if file.is_file()}
