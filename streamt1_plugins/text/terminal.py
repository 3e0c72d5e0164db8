"""A terminal that no text can steer: rich's console, with every text made printable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import console
from rich.segment import Segment

from streamt1_plugins.text.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType


class Console(console.Console):
    """Prints what rich draws; text in it has no control characters. Markup in text has to be escaped as ever."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"highlight": False, **settings})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
