"""The page of a comparison: one HTML file that loads nothing from elsewhere, in the style of a run's page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import conditions, drift, pairs, plots, regret, stats, table, videos
from streamt1_plugins.config.trust import is_inside
from streamt1_plugins.runs import report
from streamt1_plugins.runs.report import strips
from streamt1_plugins.runs.report.facts import number
from streamt1_plugins.runs.report.page import fill, script_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = "report.html"
_HERE = Path(__file__).parent


def render(rows: Sequence[Mapping[str, Any]], out: Path, judge: str, notes: Sequence[str] = ()) -> str:
    """The page as HTML; strips are read from `out`."""
    values = context(rows, table.summary(rows))
    values |= {"judge": judge, "notes": notes, "strips": _strips(out, values["pairs"]), "style": _style()}
    values |= {"shown": any(each.best or each.worst for each in values["pairs"])}
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    values |= {"videos": _videos(out, rows), "script": script, "script_hash": script_hash(script)}
    recorded = conditions.read(out)
    values |= {
        "facts": conditions.facts(recorded, rows),
        "recipes": conditions.recipes(recorded, list(values["colours"])),
    }
    return fill(_HERE, values, {"signed": signed, "chunk": spelled, "against": regret.against})


def context(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the template that come from the rows alone."""
    labels, metrics = list(found["recipes"]), table.columns(found)
    rivals = [label for label in labels if label != found["base"]]
    return {
        "found": found,
        "caution": stats.caution(found["prompts"]),
        "circular": found.get("circular", []),
        "oracles": found.get("oracle", []),
        "regret": found.get("regret", {"recipes": {}})["recipes"],
        "drift": found.get("drift"),
        "metric": metrics[0],
        "metrics": metrics,
        "families": list(dict.fromkeys(plots.family(label) for label in rivals)),
        "colours": plots.colours(labels),
        "dashes": plots.dashes(labels),
        "groups": plots.groups(label for label in labels if found["recipes"][label]["metrics"][metrics[0]]),
        "gains": plots.gains(found, metrics[0]),
        "scaling": plots.scaling(found, metrics[0]),
        "chunks": plots.by_chunk(rows, labels),
        "every": pairs.every(rows, labels),
        "pairs": [pairs.extremes(rows, found["base"], label, metrics[0]) for label in rivals],
        "opened": max(rivals, key=lambda label: _score(found, label, metrics[0]), default=None),
    }


def signed(value: float | None, digits: int = 3) -> str:
    """A difference for a table, with its sign."""
    if value is None:
        return number(value)
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{rounded:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def spelled(chunk: str) -> str:
    """`chunk 0` for `chunk_01`."""
    return f"chunk {drift.number_of(chunk)}"


def _score(found: Mapping[str, Any], label: str, metric: str) -> float:
    values = found["recipes"][label]["metrics"][metric]
    return values["mean"]["mean"] if values else float("-inf")


def _style() -> str:
    sheets = (Path(report.__file__).parent / "page.css", _HERE / "page.css")
    return "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)


def _strips(out: Path, found: Sequence[pairs.Extremes]) -> dict[str, str]:
    """The strips of the pairs in base64, by the name that rows have for them; missing files are left out."""
    sides = [row for each in found for pair in (*each.best, *each.worst) for row in (pair.base, pair.other)]
    files = {row["strip"]: out / strips.FOLDER / Path(row["strip"]).name for row in sides if row.get("strip")}
    return {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items() if _is_own(file, out)}


def _videos(out: Path, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The names that rows have for videos which the folder holds."""
    names = {row["video"] for row in rows if row.get("video")}
    own = {name for name in names if name == f"{videos.FOLDER}/{Path(name).name}"}
    return {name for name in own if _is_own(out / name, out)}


def _is_own(file: Path, out: Path) -> bool:
    """Whether a picture lies in the folder itself: a link in a folder from elsewhere may lead to any file."""
    return file.is_file() and is_inside(file, out)
