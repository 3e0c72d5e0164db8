"""What a video costs and takes, in words."""

from __future__ import annotations

import re

from streamt1_plugins.cli import estimates
from streamt1_plugins.plugins.resolve import resolve


def test_an_estimate_follows_the_length_of_the_recipe() -> None:
    assert estimates.cost(resolve("stream-t1")).startswith("7 chunks: 28 candidates")
    assert estimates.cost(resolve("30s")).startswith("40 chunks: 160 candidates")


def test_an_estimate_follows_the_size_of_the_recipe() -> None:
    def megabytes(side: int) -> float:
        recipe = resolve("plain").with_video(height=side, width=side)
        found = re.search(r"about ([\d.]+) MB", estimates.memory(recipe))
        assert found
        return float(found[1])

    assert megabytes(32) < megabytes(64) < megabytes(128)


def test_where_nothing_is_known_the_reason_is_there() -> None:
    assert "the adapter 'toy' has no estimate" in estimates.memory(resolve("stream-t1", "toy"))
    assert "'models/longlive' is not on this machine" in estimates.memory(resolve("longlive"))
