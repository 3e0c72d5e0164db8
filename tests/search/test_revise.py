"""Another round, and going back: what the tree, the record, a resumed run, other processes and a stream make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError
from streamt1_plugins.replay import branch, regenerate
from streamt1_plugins.resuming import open_interrupted
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.testing.searches import Kept, check_nodes, check_run
from streamt1_plugins.testing.threads import together
from tests.search.revising import Both, Returning, Rounds
from tests.toy import ToyPipeline

CHUNKS = 6
SETTINGS = {
    "plain pools": (),
    "calibrated": (
        "memory=fixed",
        "rewards.long.bright.calibration=running",
        "rewards.short.bright.calibration=group",
    ),
    "one beam": ("search.top_k=1", "search.candidates=3"),
    "offload": ("search.offload=recompute",),
    "staged": ("rewards.long.bright.stage=2", "rewards.keep=0.5"),
}
ADAPTERS = {
    "previews": ("toy-previews", ("rewards.decode=preview",)),
    "early": ("toy-steps", ("early.steps=2", "search.candidates=4")),
}
POLICIES = [Returning(), Returning(judged=2, to=0, times=2), Rounds(), Rounds(count=1, varies=False), Both()]


def wrapped(
    policy: object, *overrides: str, folder: Path | None = None, adapter: str | None = None, **observers: object
) -> streamt1.StreamPipeline:
    record = {} if folder is None else record_to(folder)
    policies: Any = {"revision": policy} if policy else {}
    return streamt1.wrap(
        ToyPipeline(),
        "stream-t1",
        adapter=adapter,
        overrides=overrides,
        policies=policies,
        observers={**record, **observers},
    )


def searched(policy: object, *overrides: str, **options: Any) -> streamt1.StreamPipeline:
    pipe = wrapped(policy, *overrides, **options)
    pipe("a prompt", chunks=CHUNKS)
    return pipe


class StopAt:
    """Breaks a run, as Ctrl-C would, at the nth event of those that it reports."""

    def __init__(self, number: int) -> None:
        self.left = number

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    @streamt1.hookimpl(tryfirst=True)
    def streamt1_candidate_scored(self) -> None:
        self._count()

    @streamt1.hookimpl(tryfirst=True)
    def streamt1_revised(self) -> None:
        self._count()

    @streamt1.hookimpl(tryfirst=True)
    def streamt1_chunk_selected(self) -> None:
        self._count()


# What the tree has.


def test_a_return_keeps_the_failed_branch_and_makes_fresh_candidates() -> None:
    tree, straight = searched(Returning()).tree, searched(None).tree
    assert tree.returns == [(3, 1)]
    assert "Chunk 3: made anew from chunk 1 on (return 1). It is in the script." in tree.notes
    left = [node for node in straight if node.chunk in (1, 2, 3)]
    found = {node.id: node for node in tree.abandoned()}
    assert found.keys() == {node.id for node in left}
    assert [found[node.id].seed for node in left] == [node.seed for node in left]
    assert [found[node.id].rank for node in left if node.chunk < 3] == [node.rank for node in left if node.chunk < 3]
    assert [node.ordinal for node in tree.chunk(2)] == [4, 5, 6, 7]
    assert {node.round for node in tree.chunk(2)} == {1}
    assert not {node.seed for node in tree.chunk(2)} & {node.seed for node in tree.abandoned(2)}
    assert len(tree) == CHUNKS * 4 + 3 * 4
    assert all(len(tree.kept(index)) == 2 for index in range(CHUNKS))
    assert [tree.nodes[name].chunk for name in tree.winner] == list(range(CHUNKS))
    assert not {*tree.winner} & found.keys()


def test_rounds_join_the_pool_and_vary_the_best_of_each_beam() -> None:
    tree = searched(Rounds(strength=0.25)).tree
    for index in range(CHUNKS):
        nodes = tree.chunk(index)
        assert [node.ordinal for node in nodes] == list(range(8))
        assert [node.round for node in nodes] == [0] * 4 + [1] * 4
        for node in nodes[4:]:
            elder = max((each for each in nodes[:4] if each.parent == node.parent), key=lambda each: each.score)
            assert node.varies == streamt1.Variation(elder.id, 0.25, "all")
        best = sorted(nodes, key=lambda node: -node.score)[:2]
        assert [node.id for node in tree.kept(index)] == [node.id for node in best]
    assert len({node.seed for node in tree}) == len(tree)
    assert any(node.round for node in tree if node.rank == 0)


def test_a_round_of_strength_0_makes_the_same_noise_again() -> None:
    kept: dict[str, torch.Tensor] = {}

    class Noise:
        @streamt1.hookimpl
        def streamt1_candidate_scored(self, candidate: Any) -> None:
            kept[candidate.id] = candidate.noise

    tree = searched(Rounds(strength=0), noise=Noise()).tree
    varied = [node for node in tree if node.varies]
    assert varied
    assert all(torch.equal(kept[node.id], kept[node.varies.of]) for node in varied if node.varies)


def test_readings_of_all_rounds_are_calibrated_together() -> None:
    tree = searched(Rounds(), *SETTINGS["calibrated"]).tree
    nodes = tree.chunk(2)
    values = [node.readings["short"]["bright"].value for node in nodes]
    assert abs(sum(values)) < 1e-6
    assert sum(value**2 for value in values) == pytest.approx(len(nodes))


@pytest.mark.parametrize("overrides", [(), SETTINGS["calibrated"]], ids=["stream-t1", "calibrated"])
def test_without_a_policy_nothing_changes(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    class Never:
        @streamt1.hookimpl
        def streamt1_revise(self) -> None:
            return None

    none, never = searched(None, *overrides, folder=tmp_path / "none"), searched(Never(), *overrides)
    check_run(never.last_run, none.last_run, "a policy that never revises")
    text = (tmp_path / "none" / "journal.jsonl").read_text() + (tmp_path / "none" / "tree.json").read_text()
    assert not any(word in text for word in ('"round"', '"varies"', '"returns"', "abandoned"))


# The record: journal, resuming, replay, branches.


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_the_journal_gives_the_tree_back(tmp_path: Path, policy: object) -> None:
    pipe = searched(policy, folder=tmp_path)
    for events in (journal.read(tmp_path), RecordedRun.read(tmp_path).events):
        found = journal.tree_of(events)
        check_nodes(found, pipe.tree, "the journal")
        assert (found.returns, found.notes) == (pipe.tree.returns, pipe.tree.notes)
        assert list(found.nodes) == list(pipe.tree.nodes)
    assert RecordedRun.read(tmp_path).cost().counts() == pipe.last_run.cost.counts()
    assert sum(RecordedRun.read(tmp_path).frames.values()) == len(torch.cat(pipe.last_run.beams[0].history.frames))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_run_that_is_stopped_anywhere_resumes_to_the_same_tree(tmp_path: Path, policy: Any) -> None:
    expected = searched(policy)
    for number in range(1, len(expected.tree) + CHUNKS, 5):
        folder = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            searched(policy, folder=folder, stop=StopAt(number))
        pipe = open_interrupted(folder, wrapped(policy))
        pipe.complete(pipe.last_run)
        check_run(pipe.last_run, expected.last_run, f"stopped at event {number}")
        assert pipe.tree.returns == expected.tree.returns
        check_nodes(journal.tree_of(journal.read(folder)), expected.tree, "its journal")


@pytest.mark.parametrize("policy", [Returning(), Both()], ids=repr)
def test_a_run_resumes_from_seeds_where_its_checkpoint_is_lost(tmp_path: Path, policy: Any) -> None:
    expected = searched(policy)
    for chunk in (14, 23, 31):
        folder = tmp_path / str(chunk)
        with pytest.raises(KeyboardInterrupt):
            searched(policy, folder=folder, stop=StopAt(chunk))
        for name in ("head", "next"):
            (folder / "state" / f"{name}.safetensors").unlink(missing_ok=True)
        pipe = open_interrupted(folder, wrapped(policy))
        pipe.complete(pipe.last_run)
        check_run(pipe.last_run, expected.last_run, f"stopped at event {chunk}")


@pytest.mark.parametrize("policy", [Returning(), Rounds(), Both()], ids=repr)
def test_every_candidate_can_be_made_again(tmp_path: Path, policy: object) -> None:
    kept = Kept()
    pipe = searched(policy, folder=tmp_path, kept=kept)
    for node in pipe.tree:
        if node.chunk in (1, 3):
            expected = torch.cat([kept.frames[each.id] for each in pipe.tree.path(node.id)])
            assert torch.equal(regenerate(tmp_path, node.id, wrapped(policy)), expected), node.id


def test_an_abandoned_branch_can_be_continued(tmp_path: Path) -> None:
    pipe = searched(Returning(times=1), folder=tmp_path / "run")
    node = next(node for node in pipe.tree.abandoned(2) if node.rank == 1)
    onward = Returning(times=0)
    again = branch(tmp_path / "run", node.id, tmp_path / "on", wrapped(onward))
    video = again.complete(again.last_run)
    assert again.tree.path(again.tree.winner[-1])[2].id == node.id
    assert not again.tree.returns
    assert torch.equal(regenerate(tmp_path / "on", None, wrapped(onward)), video)
    later = branch(tmp_path / "run", pipe.tree.kept(2)[0].id, tmp_path / "later", wrapped(Returning(judged=5, to=4)))
    later.complete(later.last_run)
    assert len(later.tree.abandoned()) == 8 + 8  # of the other run in chunks 1 and 2, and its own two chunks
    check_nodes(journal.tree_of(journal.read(tmp_path / "later")), later.tree, "the branch's journal")


def test_what_is_watched_has_every_candidate(tmp_path: Path) -> None:
    pipe = searched(Both(), folder=tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="card abandoned') == len(pipe.tree.abandoned()) > 0
    assert "Went back" in page
    assert "from chunk 3 to chunk 1" in page
    assert f"{len(pipe.tree.abandoned())} abandoned" in page
    assert len(list((tmp_path / "strips").iterdir())) == len(pipe.tree)


# Other settings of the search.


@pytest.mark.parametrize("policy", [Returning(), Rounds(), Both()], ids=repr)
@pytest.mark.parametrize("name", [*SETTINGS, *ADAPTERS])
def test_processes_that_share_candidates_decide_alike(name: str, policy: Any) -> None:
    adapter, overrides = ADAPTERS.get(name, (None, SETTINGS.get(name, ())))

    def work(workers: Any) -> Any:
        pipe = wrapped(policy, *overrides, adapter=adapter)
        pipe.workers = workers
        pipe("a prompt", chunks=CHUNKS)
        return pipe.last_run

    expected = searched(policy, *overrides, adapter=adapter)
    for run in together([work, work]):
        check_run(run, expected.last_run, "one of two processes")


@pytest.mark.parametrize("name", ADAPTERS)
def test_early_pruning_and_previews_resume(tmp_path: Path, name: str) -> None:
    adapter, overrides = ADAPTERS[name]
    expected = searched(Both(), *overrides, adapter=adapter)
    with pytest.raises(KeyboardInterrupt):
        searched(Both(), *overrides, adapter=adapter, folder=tmp_path, stop=StopAt(45))
    pipe = open_interrupted(tmp_path, wrapped(Both(), *overrides, adapter=adapter))
    pipe.complete(pipe.last_run)
    check_run(pipe.last_run, expected.last_run, name)


def test_a_stream_holds_back_what_may_be_revised() -> None:
    pipe = wrapped(Returning(reach=2))
    sent = list(pipe.stream("a prompt", chunks=CHUNKS))
    assert [chunk.index for chunk in sent] == list(range(CHUNKS))
    video = searched(Returning(reach=2)).last_run.beams[0].history.frames
    assert torch.equal(torch.cat([chunk.frames for chunk in sent]), torch.cat(video))
    assert "Chunks are handed out 2 chunks late: revision 'Returning' may go back and change them." in pipe.tree.notes


def test_a_stop_ends_the_run_with_the_chunk_that_is_judged() -> None:
    class Stop:
        @streamt1.hookimpl
        def streamt1_candidate_scored(self, run: Any, candidate: Any) -> None:
            run.stop = run.stop or candidate.chunk == 3

    tree = searched(Returning(), stop=Stop()).tree
    assert (tree.returns, len(tree.winner)) == ([], 4)


def test_a_plain_run_is_not_revised() -> None:
    pipe = wrapped(Returning(judged=1, to=0), "search.candidates=1", "search.top_k=1", watch=Kept())
    pipe("a prompt", chunks=CHUNKS)
    assert pipe.tree.returns == []


# Answers that cannot be followed.


@pytest.mark.parametrize(
    ("answer", "limits", "problem"),
    [
        ({"back_to": 0}, {"reach": 1}, "`back_to` has to be a chunk from 1"),
        ({"back_to": 3}, {"reach": 1}, "to 2"),
        ({"back_to": 2}, {"returns": 0}, "declares 0 returns"),
        ({}, {"rounds": 1}, "declares 1 rounds"),
        ({"count": 0}, {}, "`count` has to be"),
        ({"varied": ("001.00",)}, {}, "not '001.00'"),
        ({"strength": 2.0}, {}, "`strength` has to be from 0 to 1"),
    ],
)
def test_an_answer_that_cannot_be_followed_is_refused(answer: Any, limits: Any, problem: str) -> None:
    class Wrong:
        @streamt1.hookimpl
        def streamt1_revise(self, chunk: Any) -> Any:
            return streamt1.Revision(**answer) if chunk.index == 2 else None

    Wrong.limits = streamt1.RevisionLimits(**limits)  # type: ignore[attr-defined]
    with pytest.raises(PluginError, match=problem):
        searched(Wrong())


def test_an_answer_of_another_kind_is_refused() -> None:
    class Wrong:
        @streamt1.hookimpl
        def streamt1_revise(self) -> Any:
            return 3

    with pytest.raises(PluginError, match=r"streamt1_revise returned 3; expected a `Revision` or None"):
        searched(Wrong())
