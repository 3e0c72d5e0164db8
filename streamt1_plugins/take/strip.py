"""Candidates side by side, as film strips with their scores: what a notebook shows of a take."""

from __future__ import annotations

import base64
import math
from html import escape
from typing import TYPE_CHECKING

from streamt1_plugins.runs.report.strips import draw, encoded

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate

FRAMES, HEIGHT = 6, 72
"""Of a strip."""


def candidate(each: Candidate, is_chosen: bool) -> str:
    """A candidate with its score; `is_chosen`: whether the policy would keep it."""
    score = f"score {each.score:.3f}" if math.isfinite(each.score) else each.problem or "no score"
    return card(each.decoded.frames, each.id, f"{score}, the policy's choice" if is_chosen else score)


def card(frames: Tensor, name: str, text: str) -> str:
    """A strip of frames ``[T, 3, H, W]``, with a caption; HTML."""
    picture = base64.b64encode(encoded(draw(frames, FRAMES, HEIGHT), "WEBP", quality=80)).decode()
    image = f'<img alt="{escape(name)}" src="data:image/webp;base64,{picture}">'
    return f'<figure style="margin:4px 0">{image}<figcaption>{escape(name)}: {escape(text)}</figcaption></figure>'
