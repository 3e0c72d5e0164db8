"""Workers of a search in one process do all the work, in order."""

from __future__ import annotations

from streamt1_plugins.api.workers import SingleProcess


def test_one_process_computes_every_candidate() -> None:
    workers = SingleProcess()
    assert (workers.rank, workers.size) == (0, 1)
    assert workers.map(None, [4, 7], lambda rows: [10 * row for row in rows]) == [0, 10]
    assert workers.gather_survivors(None, ["a", "b"]) == ["a", "b"]
    assert workers.all_gather("value") == ["value"]
    with workers.fail_together():
        workers.set_status("waits for no other process")
