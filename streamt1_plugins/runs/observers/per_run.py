"""Records every run of a wrapped pipeline in a folder of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from streamt1_plugins.runs.files import check_writable, new_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WORDS, LONGEST = 8, 80
"""Words of a prompt in a folder's name, and its characters."""


@dataclass(frozen=True)
class RecordPerRun:
    """Makes the observers of each run with `recorders`, for a new folder in `folder`: the time and the prompt."""

    folder: str
    recorders: Callable[[str], Mapping[str, object]]

    def for_run(self, prompt: str | None) -> Mapping[str, object]:
        """The observers of a run with this prompt; for None, those that one in `folder` itself would have."""
        if prompt is None:
            check_writable(Path(self.folder))
            return self.recorders(self.folder)
        words = re.findall(r"\w+", prompt.lower(), re.ASCII)[:WORDS]
        name = "-".join([f"{datetime.now():%Y%m%d-%H%M%S}", *words])[:LONGEST].rstrip("-")
        return self.recorders(str(new_folder(Path(self.folder), name)))
