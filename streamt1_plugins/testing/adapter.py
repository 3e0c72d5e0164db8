"""What the search relies on in every adapter, as tests to inherit.

class TestMine(AdapterContract):
    name = "mine"
    long: ClassVar = {"num_frames": 97}

    def make_pipeline(self): return tiny_pipeline()
    def make_adapter(self): return MyAdapter()
    def call(self): return {"prompt": "a red circle", "num_frames": 33}
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import HasDraft, History, MemoryPlan
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_plugins.testing.adapter_case import (
    AdapterCase,
    candidate,
    candidates,
    check_drafts,
    check_output,
    check_same,
    grown,
    seeded,
)
from streamt1_plugins.testing.state import footprint, tensor_bytes, tensors_in

if TYPE_CHECKING:
    from torch import Tensor


class AdapterContract(AdapterCase):
    """What the search relies on, one test per promise; see `AdapterCase` for what to give it."""

    def test_declares_itself(self) -> None:
        with self.session() as session:
            assert session.num_chunks - session.root().index >= 3, "give a call that makes 3 chunks or more"
            assert session.fps > 0
            assert session.prompt == (self.call().get("prompt") or "")
            assert session.capabilities.max_batch is None or session.capabilities.max_batch >= 1
            before = session.forwards
            grown(session, session.root(), 0)
            assert session.forwards > before, "`forwards` has to count the transformer's passes"

    def test_verbs_keep_to_their_shapes(self) -> None:
        with self.session() as session:
            history = session.root()
            for index in range(history.index, session.num_chunks):
                noise = session.draw(history, seeded(index))
                latents, decoded = candidate(session, history, index)
                assert noise.shape == latents.shape, "generate() changed the shape"
                assert latents.ndim == 5, f"latents are [N, C, F, h, w], got {list(latents.shape)}"
                assert len(latents) == 1
                frames = decoded.frames
                assert frames.ndim == 4, f"frames are [T, 3, H, W], got {list(frames.shape)}"
                assert frames.shape[1] == 3
                assert bool((frames >= 0).all() and (frames <= 1).all()), "frames have to be in [0, 1]"
                history = session.commit(history, latents, decoded, "discard")
                assert (history.index, len(history.latents), len(history.frames)) == (index + 1,) * 3

    @pytest.mark.parametrize("output_type", ["latent", "pt", "np", "pil"])
    def test_without_a_search_it_is_the_plain_pipeline(self, output_type: str) -> None:
        if output_type not in self.output_types:
            pytest.skip(f"the pipeline gives no {output_type!r}")
        ours, theirs = seeded(3), seeded(3)
        found = self.video(output_type=output_type, return_dict=False, generator=ours)
        check_output(found[0], output_type)
        check_same(found[0], self.plain(output_type=output_type, return_dict=False, generator=theirs)[0])
        assert torch.equal(ours.get_state(), theirs.get_state()), "the caller's generator stands elsewhere afterwards"

    def test_output_is_of_the_pipelines_type(self) -> None:
        assert isinstance(self.video(return_dict=False), tuple)
        assert type(self.video()) is type(self.plain())

    def test_negative_prompts_matter_with_guidance(self) -> None:
        if self.guidance is None:
            pytest.skip("the pipeline knows no negative prompt")
        call = {"output_type": "latent", "return_dict": False, **self.guidance}
        blue, other = (self.video(negative_prompt=text, **call)[0] for text in ("blue", "a large dog"))
        assert not torch.equal(blue, other), "negative prompts change nothing"
        check_same(blue, self.plain(negative_prompt="blue", **call)[0])

    def test_forks_do_not_touch_each_other(self) -> None:
        with self.session() as session:
            parent = grown(session, session.root(), 0)
            before = [tensor.clone() for tensor in tensors_in(parent)]
            first = candidate(session, parent, 1)
            for route in (*sorted(session.capabilities.routes), "discard"):
                candidate(session, grown(session, parent, 2, route), 3)
            again = candidate(session, parent, 1)
            after = list(tensors_in(parent))
        assert all(map(torch.equal, before, after)), "a child changed its parent's history"
        check_same(first[0], again[0])
        check_same(first[1].frames, again[1].frames)

    def test_a_seed_is_a_candidate(self) -> None:
        found = []
        for _ in range(2):
            with self.session() as session:
                parent = grown(session, session.root(), 0)
                found.append([candidate(session, parent, seed)[0] for seed in (1, 2)])
        check_same(found[0][0], found[1][0])
        assert not torch.equal(found[0][0], found[0][1]), "another seed made the same candidate"

    def test_batch_equals_one_at_a_time(self) -> None:
        with self.session() as session:
            count = min(3, session.capabilities.max_batch or 3)
            if count == 1:
                pytest.skip("the adapter takes one candidate at a time")
            parent = grown(session, session.root(), 0)
            latents, decoded = candidates(session, parent, count)
            for seed in range(count):
                alone = candidate(session, parent, seed)
                self.check_close(latents[seed : seed + 1], alone[0], f"latents of candidate {seed} of {count}")
                self.check_close(decoded[seed].frames, alone[1].frames, f"frames of candidate {seed} of {count}")

    @pytest.mark.parametrize("left", [1, -1], ids=["one step first", "one step last"])
    def test_a_finished_draft_is_the_candidate(self, left: int) -> None:
        with self.session() as session:
            if not isinstance(session, HasDraft):
                pytest.skip("the session makes no drafts")
            history = session.root()
            for _ in range(2):
                steps = left % session.steps(history)
                assert steps, "give a call whose chunks take 2 steps or more"
                check_drafts(session, history, steps)
                history = grown(session, history, 0)

    def test_drafts_of_a_batch_are_finished_in_any_company(self) -> None:
        with self.session() as session:
            count = session.capabilities.max_batch or 3
            if not isinstance(session, HasDraft) or count < 3:
                pytest.skip("the session makes no drafts, or none of three candidates at once")
            history = grown(session, session.root(), 0)
            generators = [seeded(seed) for seed in range(3)]
            noise = torch.cat([session.draw(history, generator) for generator in generators])
            drafts = session.draft(history, noise, generators, 1)
            some = [2, 0]
            found = session.finish_drafts(history, [drafts[i] for i in some], [generators[i] for i in some])
            for row, seed in enumerate(some):
                alone = candidate(session, history, seed)[0]
                self.check_close(found[row : row + 1], alone, f"latents of draft {seed} of 3")

    def test_candidates_leave_random_state_alone(self) -> None:
        generator = seeded(5)
        with self.session(generator=generator) as session:
            before = generator.get_state(), torch.get_rng_state()
            candidate(session, grown(session, session.root(), 1), 2)
            assert torch.equal(before[0], generator.get_state()), "a candidate drew from the caller's generator"
            assert torch.equal(before[1], torch.get_rng_state()), "a candidate drew from torch's global generator"

    def test_chunks_decode_like_the_whole(self) -> None:
        with self.session() as session:
            kind, history = session.capabilities.decode, session.root()
            root = History() if history.index else history
            for index in range(history.index, session.num_chunks):
                history = grown(session, history, index)
            if kind == "carried":
                whole = session.decode(root, torch.cat(history.latents, dim=2))[0].frames
                check_same(torch.cat(history.frames), whole)
            elif kind == "independent":
                for latents, frames in zip(history.latents, history.frames, strict=True):
                    check_same(session.decode(root, latents)[0].frames, frames)
            else:
                pytest.skip("only the whole video says how its chunks are decoded")

    def test_close_gives_the_pipeline_back(self) -> None:
        expected = self.plain(return_dict=False)[0] if self.has_plain else None
        before = footprint(self.pipe)
        with self.session() as session:
            grown(session, grown(session, session.root(), 0), 1)
            session.close()  # and once more at the end: closing twice is allowed
        assert footprint(self.pipe) == before, "something was left on the pipeline"
        if self.has_plain:
            check_same(self.plain(return_dict=False)[0], expected)

    def test_a_failing_call_leaves_the_pipeline_alone(self) -> None:
        def fail(*_: Any) -> dict[str, Any]:
            raise ZeroDivisionError

        self.needs_callbacks()
        self.video()
        before = footprint(self.pipe)
        with pytest.raises(ZeroDivisionError):
            self.video(callback_on_step_end=fail)
        assert footprint(self.pipe) == before, "something was left on the pipeline"

    def test_host_callbacks_are_called(self) -> None:
        steps: dict[bool, list[tuple[bool, int, float]]] = {True: [], False: []}

        def callback(ours: bool) -> Any:
            def step_end(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
                steps[ours].append((pipe is self.pipe, step, float(timestep)))
                return {"latents": 0.9 * tensors["latents"]}

            return step_end

        self.needs_callbacks()
        call = {"output_type": "latent", "return_dict": False}
        found = self.video(callback_on_step_end=callback(True), **call)[0]
        assert steps[True], "the callback was never called"
        check_same(found, self.plain(callback_on_step_end=callback(False), **call)[0])
        assert steps[True] == steps[False], "the callback saw other steps than in the plain pipeline"

    def test_a_host_may_interrupt(self) -> None:
        def interrupting() -> Any:
            steps = iter(range(1000))

            def step_end(pipe: Any, *_: Any) -> dict[str, Tensor]:
                pipe._interrupt = next(steps) >= 2
                return {}

            return step_end

        self.needs_callbacks()
        if not hasattr(type(self.pipe), "interrupt"):
            pytest.skip("the pipeline cannot be interrupted")
        call = {"output_type": "latent", "return_dict": False}
        found = self.video(callback_on_step_end=interrupting(), **call)[0]
        check_same(found, self.plain(callback_on_step_end=interrupting(), **call)[0])

    def test_memory_does_not_grow(self) -> None:
        with self.session(**self.long) as session:
            assert session.num_chunks - session.root().index >= 8, (
                "give `long`: changes to the call that make 8 chunks or more"
            )
            history, sizes = session.root(), []
            for index in range(history.index, session.num_chunks - 1):
                history = grown(session, history, index)
                sizes.append(tensor_bytes((history.memory, history.decoder, vars(session)), self.pipe))
        half = len(sizes) // 2
        assert max(sizes[half:]) <= max(sizes[:half]), f"memory grows with the video, in bytes: {sizes}"

    def test_what_is_pruned_is_released(self) -> None:
        with self.session() as session:
            parent = grown(session, session.root(), 0)
            latents, decoded = candidate(session, parent, 1)
            alive = [weakref.ref(latents), weakref.ref(decoded.frames)]
            del latents, decoded
            gc.collect()
            assert all(reference() is None for reference in alive), "the session keeps a candidate nobody else has"

    def test_survivors_do_not_keep_their_batch(self) -> None:
        with self.session() as session:
            count = min(2, session.capabilities.max_batch or 2)
            latents, decoded = candidates(session, session.root(), count)
            history = session.commit(session.root(), latents[-1:], decoded[-1], "discard")
            for tensor in tensors_in((history.latents, history.frames, history.decoder)):
                own = tensor.numel() * tensor.element_size()
                assert tensor.untyped_storage().nbytes() <= own, f"a survivor's {list(tensor.shape)} keeps a larger one"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"promt": "a dog"}, "'prompt'"),
            ({"prompt": ..., "prompt_embeds": ...}, "prompt"),
            ({"prompt": ["a", "b"], "prompt_embeds": ...}, "prompt"),
            ({"num_videos_per_prompt": 2}, "num_videos_per_prompt"),
            ({"output_type": "gif"}, "output_type"),
        ],
        ids=["unknown argument", "no prompt", "two prompts", "two videos", "unknown output type"],
    )
    def test_unusable_arguments_are_named(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message), self.session(**changes):
            pass

    def test_other_pipelines_are_refused(self) -> None:
        with pytest.raises(UnsupportedPipelineError, match="object"):
            self.make_adapter().open(object(), self.arguments({}), MemoryPlan())

    def test_wrapped_without_a_search_it_is_the_plain_pipeline(self) -> None:
        expected = self.plain(return_dict=False)[0]
        wrapped = streamt1.wrap(self.pipe, {"extends": "plain", "adapter": self.part()})
        check_same(wrapped(**self.arguments({"return_dict": False}))[0], expected)

    def test_a_search_gives_a_tree(self) -> None:
        recipe = {
            "extends": "stream-t1",
            "adapter": self.part(),
            "search": {"candidates": 2, "top_k": 2, "batch": 2},
            "rewards": {"short": {"basic": {}}, "long": {"basic": {}}},
        }
        wrapped = streamt1.wrap(self.pipe, recipe)
        check_output(wrapped(**self.arguments({"output_type": "np", "return_dict": False}))[0], "np")
        tree = wrapped.tree
        with self.session() as session:
            chunks = range(session.root().index, session.num_chunks)
        assert Counter(node.chunk for node in tree) == dict.fromkeys(chunks, 4)
        assert len(tree.winner) == len(chunks)
        assert all(node.is_valid for node in tree), "a candidate is invalid"
        wrapped(**self.arguments({}))
        assert [node.score for node in wrapped.tree] == [node.score for node in tree], "the same seed, another tree"
