"""The pairs with the largest gains and losses."""

from __future__ import annotations

import pytest

from streamt1_plugins.compare import pairs
from tests.compare.examples import row


def test_the_pairs_that_gained_and_lost_most() -> None:
    gains = {"a": 0.1, "b": -0.2, "c": 0.4, "d": 0.0, "e": 0.3, "f": 0.2, "g": -0.1}
    rows = [row("plain", prompt, 0.5) for prompt in [*gains, "alone", "unjudged"]]
    rows += [row("beam", prompt, 0.5 + gain, strip=f"strips/{prompt}.jpg") for prompt, gain in gains.items()]
    rows += [row("beam", "unjudged", None)]
    found = pairs.extremes(rows, "plain", "beam", "score")
    assert [pair.base["prompt"] for pair in found.best] == ["c", "e", "f"]
    assert [pair.base["prompt"] for pair in found.worst] == ["b", "g"]
    assert found.worst[0].gain == pytest.approx(-0.2)
    assert ("strip" in found.best[0].base, found.best[0].other["strip"]) == (False, "strips/c.jpg")


def test_every_video_stands_in_the_line_of_its_prompt_and_seed() -> None:
    rows = [row("plain", "b", 0.5), row("plain", "a", 0.5, seed=1), row("beam", "a", 0.6, seed=1)]
    assert pairs.every(rows, ["plain", "beam"]) == [[rows[1], rows[2]], [rows[0], None]]
