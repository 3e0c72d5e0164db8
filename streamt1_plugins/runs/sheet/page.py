"""The page of a folder of runs, `index.html`: a card per run, with links that stay right when the folder is moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from streamt1_plugins.runs import report
from streamt1_plugins.runs.files import JOURNAL, write_atomically
from streamt1_plugins.runs.report.facts import duration
from streamt1_plugins.runs.report.page import fill, script_hash
from streamt1_plugins.runs.sheet.cards import Card, card_of

if TYPE_CHECKING:
    from collections.abc import Sequence

INDEX = "index.html"
_HERE = Path(__file__).parent


@dataclass
class Sheet:
    """The index of the runs in `out`, which can be written again and again: a run that has not changed is read once.

    order: folders in the order to show them; other runs of `out` follow, the oldest first.
    """

    out: Path
    order: Sequence[Path] = ()
    _known: dict[Path, tuple[tuple[int, int], Card | None]] = field(default_factory=dict)

    def write(self) -> Path:
        """Write the index; returns its path. Raises `OSError`."""
        path = self.out / INDEX
        write_atomically(path, self.render())
        return path

    def render(self) -> str:
        """The index as text."""
        return fill(_HERE, context(self.cards()), {"duration": duration, "path": quote})

    def cards(self) -> list[Card]:
        """The cards of all runs, in order."""
        places = {folder.name: place for place, folder in enumerate(self.order)}
        folders = [each for each in self.out.iterdir() if (each / JOURNAL).is_file()] if self.out.is_dir() else []
        found = [card for card in map(self._card, folders) if card is not None]
        return sorted(found, key=lambda card: (places.get(card.folder, len(places)), card.started, card.folder))

    def _card(self, folder: Path) -> Card | None:
        state = (folder / JOURNAL).stat()
        mark = (state.st_mtime_ns, state.st_size)
        if folder not in self._known or self._known[folder][0] != mark:
            self._known[folder] = (mark, card_of(folder))
        return self._known[folder][1]


def context(cards: Sequence[Card]) -> dict[str, Any]:
    """Every value the template fills in."""
    names = sorted({name for card in cards for name in card.readings})
    scores = [card.score for card in cards if card.score is not None]
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    sheets = (Path(report.__file__).parent / "page.css", _HERE / "page.css")
    return {
        "style": "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets),
        "script": script,
        "script_hash": script_hash(script),
        "cards": cards,
        "names": names,
        "recipes": sorted({card.recipe for card in cards}),
        "tiles": {
            "Videos": len(cards),
            "Prompts": len({card.prompt for card in cards}),
            "Seeds": len({card.seed for card in cards}),
            "Recipes": len({card.recipe for card in cards}),
            "Not finished": sum(not card.is_finished for card in cards),
            "Time": duration(sum(card.seconds for card in cards)),
        },
        "mean": fmean(scores) if scores else None,
    }
