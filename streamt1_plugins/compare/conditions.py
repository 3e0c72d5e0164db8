"""What a comparison was made with, for its page: model, versions, and the keys in which its recipes differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import scenes
from streamt1_plugins.compare.comparison import CONDITIONS
from streamt1_plugins.config.merge import flat
from streamt1_plugins.runs.report.facts import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def read(out: Path) -> dict[str, Any]:
    """The conditions that the folder records; empty where it has none that can be read."""
    try:
        found = json.loads((out / CONDITIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def facts(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The conditions in words, by what they are; what an older folder does not record is left out."""
    made = found.get("made_with") or {}
    lengths = list(dict.fromkeys(length(row["made"]) for row in rows if row.get("made")))
    listed = {
        "Model": made.get("model") or found.get("model"),
        "Adapter": made.get("adapter"),
        "Videos": "; ".join(lengths),
        "Scenes": scenes.fact(rows),
        "Arguments": ", ".join(f"{name} = {value}" for name, value in (found.get("call") or {}).items()),
        "Judge": found.get("judge"),
        "Device": found.get("device"),
        "Versions": "; then ".join(_versions(each) for each in made.get("versions", ())),
    }
    return {name: str(value) for name, value in listed.items() if value}


def length(made: Mapping[str, Any]) -> str:
    """`81 frames of 832 x 480 at 16 per second: 5.1 s`."""
    seconds = duration(made["frames"] / made["fps"])
    return f"{made['frames']} frames of {made['width']} x {made['height']} at {made['fps']:g} per second: {seconds}"


def _versions(each: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in each.items())


def recipes(found: Mapping[str, Any], labels: Sequence[str]) -> list[tuple[str, str, dict[str, tuple[str, str]]]]:
    """(label, description, {key: (value, value of the first)}) of each recipe that the folder records."""
    recorded, described = found.get("recipes") or {}, (found.get("made_with") or {}).get("descriptions") or {}
    shown = [label for label in labels if label in recorded]
    base = flat(recorded[shown[0]]) if shown else {}
    listed = []
    for label in shown:
        own = flat(recorded[label])
        keys = [key for key in {**base, **own} if own.get(key) != base.get(key)]
        listed.append((label, described.get(label, ""), {key: (_shown(own, key), _shown(base, key)) for key in keys}))
    return listed


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "\N{EN DASH}"
