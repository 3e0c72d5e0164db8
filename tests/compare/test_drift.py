"""The loss of score over a video."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamt1_plugins.compare import drift, table
from tests.compare.examples import row


def test_drift_is_the_loss_from_the_first_chunk_to_the_last() -> None:
    rows = [row("plain", p, 0.5, chunks=(0.9, 0.7, last)) for p, last in (("a", 0.5), ("b", 0.3))]
    rows += [row("beam", p, 0.5, chunks=(1.0, 0.1, 0.9)) for p in "ab"]
    found = drift.summary(rows, ["plain", "beam"])["drift"]
    assert (found["early"], found["last"]) == ("chunk_01", "chunk_03")
    plain, beam = (found["recipes"][name] for name in ("plain", "beam"))
    assert (plain["early"], plain["last"], plain["lost"]["mean"], plain["saved"]) == (0.9, 0.4, 0.5, None)
    assert (beam["lost"]["mean"], beam["saved"]["mean"]) == (0.1, 0.4)
    assert (beam["saved"]["low"], beam["saved"]["high"]) == (0.3, 0.5)


def test_the_first_chunks_of_a_long_video_are_no_measure_of_drift() -> None:
    (found,) = drift.summary([row("plain", "a", 0.5, chunks=(1, 1, 1, 0.8, 0, 0, 0, 0.6))], ["plain"]).values()
    assert (found["early"], found["last"]) == ("chunk_04", "chunk_08")
    assert found["recipes"]["plain"]["lost"]["mean"] == pytest.approx(0.2)


@pytest.mark.parametrize("chunks", [(), (0.5,)])
def test_without_chunks_there_is_no_drift(chunks: Sequence[float]) -> None:
    rows = [row("plain", "a", 0.5, chunks=chunks)]
    assert drift.summary(rows, ["plain"]) == {}
    assert "drift" not in table.markdown(table.summary(rows))


def test_chunks_count_where_every_row_has_them_and_in_their_order() -> None:
    rows = [row("plain", "a", 0.5, chunks=range(12)), row("plain", "b", 0.5, chunks=range(10))]
    assert drift.chunks(rows) == [f"chunk_{i:02d}" for i in range(1, 11)]
    assert drift.chunks([{"judge": {"chunk_100": 0.0, "chunk_20": 0.0, "chunk_x": 0.0}}]) == ["chunk_20", "chunk_100"]
