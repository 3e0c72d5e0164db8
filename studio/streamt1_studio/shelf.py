"""The runs of a folder, under ids that the studio makes: a client never names a path."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamt1_studio import files, records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL = "journal.jsonl"
DOWNLOADS = {
    "video": ("video.mp4", "video/mp4"),
    "recipe": ("recipe.yaml", "application/yaml"),
    "tree": (records.TREE, "application/json"),
    "page": ("report.html", "text/html"),
}
"""What a person may download of a run: its file and its media type."""

FIRST_LINE = 2**20
"""Bytes of the first line of a journal that are read."""

MOST_RUNS = 200
"""Runs that are listed, the newest first."""


@dataclass
class Shelf:
    """The recorded runs in `folder`, each with an id that lasts as long as the studio."""

    folder: Path
    _ids: dict[Path, str] = field(default_factory=dict)
    _heads: dict[Path, dict[str, Any]] = field(default_factory=dict)

    def id_of(self, run: Path) -> str:
        """The id of a run folder."""
        return self._ids.setdefault(run, secrets.token_hex(6))

    def find(self, id: str) -> Path | None:
        """The folder of an id, None where the studio made no such id."""
        return next((path for path, known in self._ids.items() if known == id), None)

    def runs(self) -> list[dict[str, Any]]:
        """The recorded runs, newest first: id, prompt, recipe, seed and how each ended."""
        found = sorted(self._folders(), key=lambda each: each.name, reverse=True)[:MOST_RUNS]
        return [
            {
                "id": self.id_of(each),
                **self.head(each),
                "status": records.read(records.RecordedSummary, each / records.SUMMARY).status,
            }
            for each in found
        ]

    def _folders(self) -> Iterator[Path]:
        if self.folder.is_dir():
            for each in self.folder.iterdir():
                if not each.is_symlink() and files.is_plain(each / JOURNAL):
                    yield each

    def head(self, run: Path) -> dict[str, Any]:
        """What the first line of a run's journal has of it; it never changes."""
        if run not in self._heads:
            start = files.parsed((files.read(run / JOURNAL, FIRST_LINE) or b"").partition(b"\n")[0])
            self._heads[run] = {
                "name": run.name,
                "prompt": _text(start.get("prompt")),
                "recipe": _text(start.get("recipe_name")),
                "seed": _text(start.get("seed")),
                "chunks": start.get("chunks") if isinstance(start.get("chunks"), int) else 0,
                "fps": start.get("fps") if isinstance(start.get("fps"), int | float) else 0,
            }
        return self._heads[run]


def _text(value: Any) -> str:
    return str(value)[:4000] if isinstance(value, str | int) else ""
