"""Tests of every feature of the package on one family of pipelines: each works, or is refused with a reason."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import FEATURES, HasDraft, HasFootprint, HasOutline, OutlinedSession
from streamt1_plugins.api.types import EARLY
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.process import placement
from streamt1_plugins.resuming import open_interrupted
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.runs.report import PAGE
from streamt1_plugins.search import memory_estimate, offload, previews
from streamt1_plugins.search.cost_estimate import estimate
from streamt1_plugins.search.denoiser import prediction_problem
from streamt1_plugins.testing.adapter_case import check_output, check_same
from streamt1_plugins.testing.adapter_scenes import AdapterScenes
from streamt1_plugins.testing.searches import (
    NARROW,
    PLAIN,
    PREDICTED,
    PREVIEWED,
    PRUNED_EARLY,
    UNSEEN,
    GoesBack,
    Interrupted,
    Kept,
    StopAfter,
    check_nodes,
    check_run,
    explained,
)
from streamt1_plugins.testing.state import footprint
from streamt1_plugins.testing.threads import AbsentError

if TYPE_CHECKING:
    from streamt1_plugins.api.workers import Workers


class AdapterFeatures(AdapterScenes):
    """The features of the package, one test each; results are those of the uninterrupted search, to the last bit."""

    def test_a_search_gives_a_tree(self) -> None:
        found = self.searched()
        check_output(found.video, "np")
        with self.session() as session:
            chunks = range(session.root().index, session.num_chunks)
        tree = found.run.tree
        assert Counter(node.chunk for node in tree) == dict.fromkeys(chunks, 4)
        assert len(tree.winner) == len(chunks)
        assert all(node.is_valid for node in tree), "a candidate is invalid"

    def test_a_stream_is_the_video(self) -> None:
        """With two candidates in a batch; in the first chunk they are, within tolerance, those made one at a time."""
        expected, kept = self.searched(), Kept()
        pipe = self.wrapped("search.batch=2", observers={"kept": kept})
        streamed = list(pipe.stream(**self.call_of()))
        frames = pipe.last_run.beams[0].history.frames
        assert [each.index for each in streamed] == list(range(len(frames)))
        check_same(torch.cat([each.frames for each in streamed]), torch.cat(frames))
        assert pipe.tree.nodes.keys() == expected.run.tree.nodes.keys()
        for node in pipe.tree.chunk(self.second_chunk() - 1):
            pairs = ((each.latents[node.id], each.frames[node.id]) for each in (kept, expected.kept))
            for name, found, other in zip(("latents", "frames"), *pairs, strict=True):
                self.check_close(found, other, f"{name} of node {node.id} in a batch of 2")

    def test_a_stream_may_be_abandoned(self) -> None:
        before = footprint(self.pipe)
        chunks = self.wrapped(*PLAIN).stream(**self.call_of())
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert footprint(self.pipe) == before, "something was left on the pipeline"

    def test_a_search_that_cannot_fit_is_refused(self) -> None:
        self.wrapped(*PLAIN)(**self.call_of())  # a pipeline's first call leaves attributes of its own
        before, pipe = footprint(self.pipe), self.wrapped()
        with (
            patch.object(memory_estimate, "free_bytes", lambda device: 1),
            pytest.raises(RecipeError, match="are free"),
        ):
            pipe(**self.call_of())
        assert pipe.last_run.cost.candidates == 0, "candidates were made before the check"
        assert footprint(self.pipe) == before, "something was left on the pipeline"

    def test_an_interrupted_search_resumes(self) -> None:
        self.check_resumed()

    def test_an_interrupted_plain_run_resumes(self) -> None:
        self.check_resumed(*PLAIN)

    def test_a_search_goes_back(self) -> None:
        """With more rounds of candidates afterwards; it is interrupted and resumes, and candidates are replayed."""
        chunk, folder, kept = self.second_chunk(), self.new(), Kept()
        given = self.wrapped(*NARROW).recipe
        policies: Any = {"revision": GoesBack(chunk - 1)}
        whole = streamt1.wrap(self.pipe, given, policies=policies, observers={"kept": kept})
        video = whole(**self.call_of())[0]
        assert whole.tree.returns == [(chunk, chunk - 1)]
        recording = {"journal": Journal(str(folder)), "stop": StopAfter(chunk)}
        with pytest.raises(Interrupted):
            streamt1.wrap(self.pipe, given, policies=policies, observers=recording)(**self.call_of())
        pipe = open_interrupted(folder, whole, observers=UNSEEN, **self.call())
        with explained("the resumed search"):
            check_same(pipe.complete(pipe.last_run)[0], video)
        check_run(pipe.last_run, whole.last_run, "the resumed search")
        left, made = whole.tree.abandoned(chunk)[0], next(node for node in whole.tree.chunk(chunk) if node.varies)
        for node in (left, made):
            with streamt1.replay.replayed(folder, node.id, whole, **self.call()) as run:
                found = run.beams[0].history.latents[-1]
            with explained(f"the latents of node {node.id}, replayed"):
                check_same(found, kept.latents[node.id])

    def test_a_winner_is_replayed(self) -> None:
        expected = self.searched()
        found = streamt1.regenerate(expected.folder, pipe=self.pipe, **self.call())[0]
        with explained("the replayed winner"):
            check_same(found, expected.video)

    def test_any_candidate_is_replayed(self) -> None:
        """The last chunk's worst, after its own path."""
        expected = self.searched()
        tree, given = expected.run.tree, expected.run.session.root().index
        node = [each for each in tree if each.fate == "pruned"][-1]
        with streamt1.replay.replayed(expected.folder, node.id, self.pipe, **self.call()) as run:
            found = run.beams[0].history
        for step, latents in zip(tree.path(node.id), found.latents[given:], strict=True):
            with explained(f"the latents of node {step.id}, replayed"):
                check_same(latents, expected.kept.latents[step.id])
        with explained(f"the frames of node {node.id}, replayed"):
            check_same(found.frames[-1], expected.kept.frames[node.id])

    def test_a_branch_at_the_winner_changes_nothing(self) -> None:
        """A single beam, continued by hand where the search had continued it."""
        expected = self.searched(*NARROW)
        pipe = self.branch(expected, expected.run.tree.winner[0], self.new())
        with explained("the branch at the winner"):
            check_same(pipe.complete(pipe.last_run)[0], expected.video)

    def test_a_branch_is_a_run_like_any_other(self) -> None:
        """It begins with the node that was picked, and can be replayed."""
        expected, folder = self.searched(), self.new()
        chunk, given = self.second_chunk(), expected.run.session.root().index
        node = next(each for each in expected.run.tree.chunk(chunk) if each.fate == "pruned")
        pipe = self.branch(expected, node.id, folder)
        video = pipe.complete(pipe.last_run)[0]
        assert pipe.tree.winner[chunk - given] == node.id
        with explained("the node that was picked"):
            check_same(pipe.last_run.beams[0].history.latents[chunk], expected.kept.latents[node.id])
        with explained("the branch, replayed"):
            check_same(streamt1.regenerate(folder, pipe=self.pipe, **self.call())[0], video)

    def test_shared_candidates_give_the_same_search(self) -> None:
        """In two workers, which are interrupted and resume."""
        expected, folder, stop = self.searched(), self.new(), StopAfter(self.second_chunk())
        record = {"journal": Journal(str(folder))}

        def begin(pipe: Any, workers: Workers) -> Any:
            wrapped = self.wrapped(pipe=pipe, observers={"stop": stop, **record})
            wrapped.workers = workers
            with pytest.raises((Interrupted, AbsentError)):  # the second one misses the first
                wrapped(**self.call_of())
            return wrapped.tree.to_dict()

        def end(pipe: Any, workers: Workers) -> Any:
            wrapped = open_interrupted(folder, pipe, observers=UNSEEN, **self.call())
            wrapped.workers = workers
            return wrapped.complete(wrapped.last_run)[0], wrapped.last_run

        first, second = self.shared(begin)
        assert [node["id"] for node in first["nodes"]] == [node["id"] for node in second["nodes"]]
        for rank, (video, run) in enumerate(self.shared(end)):
            check_run(run, expected.run, f"process {rank} of 2")
            with explained(f"the video of process {rank} of 2"):
                check_same(video, expected.video)

    @pytest.mark.parametrize(("mode", "search"), [("recompute", NARROW), ("cpu", ())], ids=["recompute", "cpu"])
    def test_offloaded_states_give_the_same_search(self, mode: str, search: tuple[str, ...]) -> None:
        """And so does the replay of such a search."""
        expected = self.searched(*search)
        with patch.object(offload, "is_host", lambda tensor: False):  # or nothing would move on the CPU
            found = self.searched(*search, f"search.offload={mode}")
        check_nodes(found.run.tree, expected.run.tree, f"search.offload={mode}")
        with explained(f"search.offload={mode}"):
            check_same(found.video, expected.video)
        with explained(f"the replay with search.offload={mode}"):
            check_same(streamt1.regenerate(found.folder, pipe=self.pipe, **self.call())[0], found.video)

    def test_offloaded_components_give_the_same_video(self) -> None:
        """With accelerate's hooks, between the CPU and the CPU."""
        expected = self.searched(*PLAIN)
        parts = [
            name for name, part in getattr(self.pipe, "components", {}).items() if isinstance(part, torch.nn.Module)
        ]
        pipe = self.wrapped(*PLAIN, f"placement.offload=[{', '.join(parts)}]", pipe=self.twin())
        try:
            with patch.object(placement, "is_cpu", lambda device: False):
                pipe.to("cpu")
            assert placement.offloaded(pipe.pipe) == parts
            with explained("placement.offload"):
                check_same(pipe(**self.call_of())[0], expected.video)
        finally:
            type(self)._twin = None  # its hooks go with it

    def test_early_pruning_finishes_the_best(self) -> None:
        if not self.supports("early_pruning", HasDraft):
            self.check_refused_early_pruning()
            return
        found = self.searched(*PRUNED_EARLY)
        stages = Counter(node.stage == EARLY for node in found.run.tree)
        assert stages[True] == stages[False], "half of the candidates are pruned early"
        self.check_resumed(*PRUNED_EARLY)
        with explained("the winner of a search with early pruning, replayed"):
            check_same(streamt1.regenerate(found.folder, pipe=self.pipe, **self.call())[0], found.video)

    def test_early_pruning_is_shared(self) -> None:
        if not self.supports("early_pruning", HasDraft):
            pytest.skip("the adapter refuses early pruning")
        expected = self.searched(*PRUNED_EARLY)

        def search(pipe: Any, workers: Workers) -> Any:
            wrapped = self.wrapped(*PRUNED_EARLY, pipe=pipe)
            wrapped.workers = workers
            wrapped(**self.call_of())
            return wrapped.last_run

        for rank, run in enumerate(self.shared(search)):
            check_run(run, expected.run, f"early pruning in process {rank} of 2")

    def test_previews_are_scored_and_survivors_decoded(self) -> None:
        """Interrupted, shared and replayed alike; without a preview decoder it is the search as it was, with a note."""
        if self._lacks_previews():
            return
        found = self.searched(*PREVIEWED)
        tree, cost, frames = found.run.tree, found.run.cost, found.run.beams[0].history.frames
        assert all(node.previewed for node in tree)
        made = [found.run.beams[0].history.latents[node.chunk].shape[2] for node in tree]
        kept = [found.run.beams[0].history.latents[node.chunk].shape[2] for node in tree if node.fate == "kept"]
        assert (cost.latent_frames_previewed, cost.latent_frames_decoded) == (sum(made) + sum(kept), sum(kept))
        with explained("the replayed winner"):
            check_same(streamt1.regenerate(found.folder, pipe=self.pipe, **self.call())[0], found.video)
        winner = tree.winner[-1]
        assert not torch.equal(frames[-1].cpu(), found.kept.frames[winner].cpu()), "the video has a preview's frames"
        self.check_resumed(*PREVIEWED)

    def test_previews_are_shared(self) -> None:
        if self._lacks_previews():
            return
        settings = (*PREVIEWED, *(PRUNED_EARLY if self.supports("early_pruning", HasDraft) else ()))
        expected = self.searched(*settings)

        def search(pipe: Any, workers: Workers) -> Any:
            wrapped = self.wrapped(*settings, pipe=pipe)
            wrapped.workers = workers
            wrapped(**self.call_of())
            return wrapped.last_run

        for rank, run in enumerate(self.shared(search)):
            check_run(run, expected.run, f"preview scoring in process {rank} of 2")

    def _lacks_previews(self) -> bool:
        """Whether there is no preview decoder; then checks that the search falls back, and that one note has why."""
        with self.session() as session:
            problem = previews.problem(session)
        if problem is None:
            return False
        found, expected = self.searched(*PREVIEWED), self.searched()
        check_nodes(found.run.tree, expected.run.tree, "the search without a preview decoder")
        assert [note for note in found.run.tree.notes if problem in note] == [previews.FALLBACK.format(problem)]
        return True

    def test_rewards_judge_with_the_model(self) -> None:
        """Interrupted and shared alike, at the forwards that they declare; or refused with the reason."""
        with self.session() as session:
            problem, prompted = prediction_problem(session), bool(session.prompt)
        if not prompted:
            pytest.skip("the call has no prompt")
        if problem:
            with pytest.raises(RecipeError) as refused:
                self.wrapped(*PREDICTED)(**self.call_of())
            assert problem in str(refused.value), f"the error does not give the reason: {refused.value}"
            return
        expected, plainly = self.searched(*PREDICTED), self.searched()
        assert expected.run.cost.forwards == plainly.run.cost.forwards + 2 * len(expected.run.tree.nodes)
        self.check_resumed(*PREDICTED)

        def search(pipe: Any, workers: Workers) -> Any:
            wrapped = self.wrapped(*PREDICTED, pipe=pipe)
            wrapped.workers = workers
            wrapped(**self.call_of())
            return wrapped.last_run

        for rank, run in enumerate(self.shared(search)):
            check_run(run, expected.run, f"a reward that judges with the model in process {rank} of 2")

    @pytest.mark.parametrize(
        "recipe",
        [(), PRUNED_EARLY, (*NARROW, "search.offload=recompute"), PREVIEWED],
        ids=["search", "early", "offload", "previews"],
    )
    def test_the_cost_is_estimated(self, recipe: tuple[str, ...]) -> None:
        if not self.supports("cost_estimate", OutlinedSession):
            assert not isinstance(self.make_adapter(), HasOutline), "the adapter has an outline, its sessions have none"
            pytest.skip("the adapter refuses cost estimates")
        if recipe == PRUNED_EARLY and not self.supports("early_pruning", HasDraft):
            pytest.skip("the adapter refuses early pruning")
        found = self.searched(*recipe)
        expected = estimate(found.run.recipe, build.rewards(found.run.recipe), self.outline())
        spent = {name: count for name, count in found.run.cost.counts().items() if hasattr(expected, name)}
        assert spent == {name: getattr(expected, name) for name in spent}, f"spent {spent}, estimated {expected}"

    def test_the_adapter_estimates_the_cost_of_a_length(self) -> None:
        adapter, frames = self.make_adapter(), self.call().get("num_frames")
        if not isinstance(adapter, HasOutline) or frames is None:
            pytest.skip("the adapter has no outline of a number of frames")
        assert adapter.outline(frames) == self.outline(), "`call` should not change what the adapter's options decide"

    def test_the_memory_is_estimated(self) -> None:
        if not self.supports("memory_estimate", HasFootprint):
            pytest.skip("the adapter refuses memory estimates; a run measures what it needs")
        adapter: Any = self.make_adapter()
        assert adapter.footprint("a/model-that-is-nowhere", streamt1.MemoryPlan()) is None

    def test_the_record_is_complete(self) -> None:
        found = self.searched()
        check_nodes(journal.tree_of(journal.read(found.folder)), found.run.tree, "the journal")
        page = (found.folder / PAGE).read_text(encoding="utf-8")
        missing = [node.id for node in found.run.tree if node.id not in page]
        assert not missing, f"the page lacks the nodes {missing}"
        names = {path.name for path in found.folder.iterdir()}
        assert names >= {"journal.jsonl", "recipe.yaml", "state", "strips", "summary.json", "tree.json", "video.mp4"}

    def test_several_prompts_are_a_search_each(self) -> None:
        """The first one with the seed of a single prompt."""
        if not isinstance(self.call().get("prompt"), str):
            pytest.skip("the call has no prompt")
        expected, pipe = self.searched(*PLAIN), self.wrapped(*PLAIN)
        videos = pipe(**{**self.call_of(), "prompt": [self.call()["prompt"], "a blue square"]})[0]
        assert len(videos) == 2
        with explained("the first of two prompts"):
            check_same(videos[:1], expected.video)
        assert not np.array_equal(videos[1], videos[0]), "the second prompt has the video of the first"

    def test_refusals_are_shown(self) -> None:
        """In the capability table: what the adapter registers is what its sessions declare."""
        with self.session() as session:
            refused = session.capabilities.refusals
        unknown = set(refused) - set(FEATURES)
        assert not unknown, f"unknown features in `refusals`: {sorted(unknown)}; known: {', '.join(FEATURES)}"
        assert all(refused.values()), "a refusal needs a reason"
        shown = discovery().adapters[self.name].capabilities
        assert (shown.refusals if shown else {}) == refused, (
            f"register({self.name!r}, capabilities=...) needs the same `refusals`: `streamt1 plugins` prints them"
        )

    def check_refused_early_pruning(self) -> None:
        """The refusal is an error with its reason, before anything is generated."""
        with self.session() as session:
            reason = session.capabilities.refusals["early_pruning"]
        before = footprint(self.pipe)
        with pytest.raises(RecipeError) as refused:
            self.wrapped(*PRUNED_EARLY)(**self.call_of())
        assert reason in str(refused.value), f"the error does not give the reason: {refused.value}"
        assert footprint(self.pipe) == before, "something was left on the pipeline"
