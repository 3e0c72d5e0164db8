"""Tests of a prompt that changes, on one family of pipelines: with every other feature, or refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import HasDraft, OutlinedSession, OutlinesScenes
from streamt1_plugins.api.scenes import HasScenes
from streamt1_plugins.errors import InputError
from streamt1_plugins.plugins import build
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.search.cost_estimate import estimate
from streamt1_plugins.testing.adapter_case import candidate, candidates, check_same, grown
from streamt1_plugins.testing.searches import NARROW, PLAIN, PRUNED_EARLY, SearchCase, check_run, explained
from streamt1_plugins.testing.state import footprint

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import History, Session
    from streamt1_plugins.api.workers import Workers

MEMORIES = ("keep", "recache", "flush")


class AdapterScenes(SearchCase):
    """A prompt that changes between chunks. All but the first test are skipped where the adapter refuses it."""

    def test_a_prompt_that_changes_is_part_of_the_run(self) -> None:
        """It changes at the second chunk and at the third; resuming, replay and a branch keep it."""
        if not self.supports("schedule", HasScenes):
            self.check_refused_schedule()
            return
        unchanged, found = self.searched(*NARROW), self.searched(*NARROW, scenes=True)
        first, chunk = found.run.tree.winner[0], found.run.tree.chunk(self.second_chunk())
        with explained("the chunk before the prompt changes"):
            check_same(found.kept.latents[first], unchanged.kept.latents[first])
        same = [each.id for each in chunk if torch.equal(*(one.kept.latents[each.id] for one in (found, unchanged)))]
        assert not same, f"the new prompt changes nothing in {same}"
        recorded = journal.read(found.folder)[0]["call"]["schedule"]
        assert recorded == self.schedule(), "the journal lacks the schedule"
        with explained("the winner of a video whose prompt changes, replayed"):
            check_same(streamt1.regenerate(found.folder, pipe=self.pipe, **self.call())[0], found.video)
        branch = self.branch(found, first, self.new())
        with explained("the branch of a video whose prompt changes"):
            check_same(branch.complete(branch.last_run)[0], found.video)
        self.check_resumed(*NARROW, scenes=True)

    def test_a_prompt_that_changes_is_shared(self) -> None:
        """In two workers."""
        self.needs_scenes()
        expected = self.searched(*NARROW, scenes=True)

        def search(pipe: Any, workers: Workers) -> Any:
            wrapped = self.wrapped(*NARROW, pipe=pipe)
            wrapped.workers = workers
            wrapped(**self.call_of(scenes=True))
            return wrapped.last_run

        for rank, run in enumerate(self.shared(search)):
            check_run(run, expected.run, f"a prompt that changes in process {rank} of 2")

    def test_a_prompt_that_changes_with_early_pruning(self) -> None:
        """Interrupted and replayed alike."""
        self.needs_scenes()
        if not self.supports("early_pruning", HasDraft):
            pytest.skip("the adapter refuses early pruning")
        found = self.searched(*PRUNED_EARLY, scenes=True)
        self.check_resumed(*PRUNED_EARLY, scenes=True)
        with explained("the winner of a search with scenes and early pruning, replayed"):
            check_same(streamt1.regenerate(found.folder, pipe=self.pipe, **self.call())[0], found.video)

    def test_a_take_changes_its_prompt(self) -> None:
        """To the same video as with a schedule; its record gives it again."""
        self.needs_scenes()
        expected, folder = self.searched(*NARROW, scenes=True), self.new()
        record = {"journal": Journal(str(folder))}
        with self.wrapped(*NARROW, observers=record).take(**self.call_of()) as take:
            for scene in self.schedule():
                take.play(1)
                take.prompt(scene["prompt"], memory=scene["memory"])
            video = take.play().save()[0]
        with explained("the take whose prompt was changed"):
            check_same(video, expected.video)
        with explained("the take, replayed"):
            check_same(streamt1.regenerate(folder, pipe=self.pipe, **self.call())[0], video)

    def test_without_a_search_the_prompt_changes_too(self) -> None:
        """Also where the pipeline's own call would make a video with one prompt."""
        self.needs_scenes()
        scenes = {"schedule": [{"chunk": self.second_chunk(), "prompt": "a blue square", "memory": "keep"}]}
        wrapped = streamt1.wrap(self.pipe, {"extends": "plain", "adapter": self.part()})
        found = wrapped(**self.call_of(), **scenes)[0]
        with explained("the plain run with a schedule"):
            check_same(found, self.video(**self.call_of(), **scenes)[0])
        assert not np.array_equal(found, self.video(**self.call_of())[0]), "the schedule changes nothing"

    def test_a_scene_with_the_same_prompt_changes_nothing(self) -> None:
        self.needs_scenes()
        chunk = self.second_chunk()
        same = [{"chunk": chunk, "prompt": self.call()["prompt"], "memory": "keep"}]
        with self.session() as session, self.session(schedule=same) as scheduled:
            histories = [_after(each, chunk + 1, seed=1) for each in (session, scheduled)]
        check_same(histories[1].latents[chunk], histories[0].latents[chunk])

    @pytest.mark.parametrize("memory", MEMORIES)
    def test_a_new_scene_remembers_what_its_memory_allows(self, memory: str) -> None:
        """After `flush` a chunk is the same whatever came before it, otherwise it is not."""
        self.needs_scenes()
        chunk = self.second_chunk()
        scenes = [{"chunk": chunk, "prompt": "a blue square", "memory": memory}]
        with self.session(schedule=scenes) as session:
            one, other = (candidate(session, _after(session, chunk, seed=seed), 9)[0] for seed in (1, 2))
        assert torch.equal(one, other) == (memory == "flush"), f"what was before a scene with {memory!r}"

    def test_candidates_of_a_scene_in_a_batch(self) -> None:
        self.needs_scenes()
        with self.session(schedule=self.schedule()) as session:
            if session.capabilities.max_batch == 1:
                pytest.skip("the pipeline takes one candidate at a time")
            history = _after(session, self.second_chunk(), seed=1)
            batch, _ = candidates(session, history, 2)
            for seed, found in enumerate(batch):
                self.check_close(found, candidate(session, history, seed)[0][0], f"candidate {seed} in a batch of 2")

    @pytest.mark.parametrize("memory", MEMORIES)
    def test_the_cost_of_scenes_is_estimated(self, memory: str) -> None:
        """Before the model is loaded, too: what the adapter estimates is what is spent."""
        self.needs_scenes()
        if not self.supports("cost_estimate", OutlinedSession):
            pytest.skip("the adapter refuses cost estimates")
        with self.session() as session:
            last = session.num_chunks - 1
        scenes = [{"chunk": last, "prompt": "a blue square", "memory": memory}]
        pipe = self.wrapped()
        pipe(**self.call_of(), schedule=scenes)
        with self.session(schedule=scenes) as session:
            outline: Any = session.outline()  # type: ignore[attr-defined]
        expected = estimate(pipe.recipe, build.rewards(pipe.recipe), outline)
        spent = pipe.last_run.cost.forwards
        assert expected.forwards == spent, f"spent {spent} forwards, estimated {expected}"
        adapter = self.make_adapter()
        if isinstance(adapter, OutlinesScenes):
            found = adapter.with_scenes(self.outline(), streamt1.scenes_of(scenes, "any"), pipe.recipe.sinks)
            assert replace(found, previews=outline.previews) == outline, "the adapter's estimate is another one"

    def needs_scenes(self) -> None:
        """Skip a test where the adapter refuses a prompt that changes, or the call has none."""
        if not self.supports("schedule", HasScenes):
            pytest.skip("the adapter refuses a prompt that changes")
        if not isinstance(self.call().get("prompt"), str):
            pytest.skip("the call has no prompt")

    def check_refused_schedule(self) -> None:
        """The refusal is an error with its reason, before anything is generated, with and without a search."""
        with self.session() as session:
            reason = session.capabilities.refusals["schedule"]
        before = footprint(self.pipe)
        for search in (PLAIN, ()):
            with pytest.raises(InputError) as refused:
                self.wrapped(*search)(**self.call_of(scenes=True))
            assert reason in str(refused.value), f"the error does not give the reason: {refused.value}"
        assert footprint(self.pipe) == before, "something was left on the pipeline"


def _after(session: Session, chunks: int, seed: int) -> History:
    """A history with that many chunks, of candidates with seeds from `seed` on."""
    history = session.root()
    while history.index < chunks:
        history = grown(session, history, seed)
    return history
