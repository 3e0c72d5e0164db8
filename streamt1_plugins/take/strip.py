"""What a notebook shows of a take: its candidates side by side, as film strips with their scores."""

from __future__ import annotations

import base64
import math
from html import escape
from typing import TYPE_CHECKING

from streamt1_plugins.runs.report.strips import draw, encoded

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.take.take import Take

FRAMES, HEIGHT = 6, 72
"""Of a strip."""


def html(take: Take) -> str:
    """The candidates of a take, or its last chunk where none wait."""
    cards = [_candidate(each, each.id in take.choice) for each in take.candidates]
    if not cards:
        cards = _last(take)
    return f"<p>{escape(repr(take))}</p>{''.join(cards)}"


def _candidate(candidate: Candidate, is_chosen: bool) -> str:
    score = f"score {candidate.score:.3f}" if math.isfinite(candidate.score) else candidate.problem or "no score"
    return _card(candidate.decoded.frames, candidate.id, f"{score}, the policy's choice" if is_chosen else score)


def _last(take: Take) -> list[str]:
    beam = take.run.beams[0]
    if not beam.path:
        return []
    return [_card(beam.history.frames[-1], beam.path[-1].id, f"kept by the {take.tree.chosen_by(beam.path[-1].chunk)}")]


def _card(frames: Tensor, name: str, text: str) -> str:
    picture = base64.b64encode(encoded(draw(frames, FRAMES, HEIGHT), "WEBP", quality=80)).decode()
    image = f'<img alt="{escape(name)}" src="data:image/webp;base64,{picture}">'
    return f'<figure style="margin:4px 0">{image}<figcaption>{escape(name)}: {escape(text)}</figcaption></figure>'
