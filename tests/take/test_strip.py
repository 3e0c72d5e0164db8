"""The cards of candidates that a notebook shows."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

from PIL import Image

import streamt1_plugins as streamt1
from streamt1_plugins.take.strip import FRAMES, candidate, card
from tests.toy import ToyPipeline


def test_a_card_is_a_picture_with_a_caption_that_is_text() -> None:
    with streamt1.wrap(ToyPipeline()).take("a prompt") as take:
        made = take.roll()[0]
    html = card(made.decoded.frames, "000.00", "<script>")
    content = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(content[0]))) as picture:
        assert picture.size == (min(FRAMES, 3) * 2, 2)
    assert "&lt;script&gt;" in html


def test_the_caption_has_the_score_or_why_there_is_none() -> None:
    with streamt1.wrap(ToyPipeline()).take("a prompt") as take:
        made = take.roll()[0]
    assert f"000.00: score {made.score:.3f}</fig" in candidate(made, is_chosen=False)
    assert "the policy" in candidate(made, is_chosen=True)
    assert "no luck" in candidate(replace(made, score=float("nan"), problem="no luck"), is_chosen=False)
