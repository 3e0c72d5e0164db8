"""Tests for adapters to inherit: everything that the search relies on.

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
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_plugins.testing.adapter_case import candidate, candidates, check_same, grown, seeded
from streamt1_plugins.testing.adapter_features import AdapterFeatures
from streamt1_plugins.testing.adapter_numerics import AdapterNumerics
from streamt1_plugins.testing.state import footprint, tensor_bytes, tensors_in


class AdapterContract(AdapterFeatures, AdapterNumerics):
    """Everything that the search relies on, one test per promise; `AdapterCase` lists what to override.

    A further variant of the same adapter (guidance, an image to start from) repeats `AdapterNumerics` alone, a further
    pipeline `AdapterFeatures` too.
    """

    def test_declares_itself(self) -> None:
        generator = seeded(5)
        with self.session(generator=generator) as session:
            assert session.generator is generator, "`generator` has to be the call's own, the same object"
            assert session.num_chunks - session.root().index >= 3, "give a call that makes 3 chunks or more"
            assert session.fps > 0
            assert session.prompt == (self.call().get("prompt") or "")
            assert session.capabilities.max_batch is None or session.capabilities.max_batch >= 1
            before = session.forwards
            grown(session, session.root(), 0)
            assert session.forwards > before, "`forwards` has to count the transformer's passes"

    def test_output_is_of_the_pipelines_type(self) -> None:
        assert isinstance(self.video(return_dict=False), tuple)
        assert type(self.video()) is type(self.plain())

    @pytest.mark.parametrize("output_type", ["pt", "pil"])
    def test_other_output_types_are_the_plain_pipelines(self, output_type: str) -> None:
        self.check_plain(output_type)

    def test_negative_prompts_matter_with_guidance(self) -> None:
        if self.guidance is None:
            pytest.skip("the pipeline takes no negative prompt")
        call = {"output_type": "latent", "return_dict": False, **self.guidance}
        blue, other = (self.video(negative_prompt=text, **call)[0] for text in ("blue", "a large dog"))
        assert not torch.equal(blue, other), "negative prompts change nothing"
        check_same(blue, self.plain(negative_prompt="blue", **call)[0])

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
            self.make_adapter().open(object(), self.arguments({}), streamt1.MemoryPlan())

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

    def test_a_host_may_interrupt(self) -> None:
        def interrupting() -> Any:
            steps = iter(range(1000))

            def step_end(pipe: Any, *_: Any) -> dict[str, Any]:
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
            history, sizes = session.root(), []
            assert session.num_chunks - history.index >= 8, "give `long`: changes that make 8 chunks or more"
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
            assert all(reference() is None for reference in alive), "the session keeps a candidate that was pruned"

    def test_survivors_do_not_keep_their_batch(self) -> None:
        with self.session() as session:
            count = min(2, session.capabilities.max_batch or 2)
            latents, decoded = candidates(session, session.root(), count)
            history = session.commit(session.root(), latents[-1:], decoded[-1], "discard")
            for tensor in tensors_in((history.latents, history.frames, history.decoder)):
                own = tensor.numel() * tensor.element_size()
                assert tensor.untyped_storage().nbytes() <= own, f"a survivor's {list(tensor.shape)} keeps a larger one"

    def test_wrapped_without_a_search_it_is_the_plain_pipeline(self) -> None:
        expected = self.plain(return_dict=False)[0]
        wrapped = streamt1.wrap(self.pipe, {"extends": "plain", "adapter": self.part()})
        check_same(wrapped(**self.arguments({"return_dict": False}))[0], expected)
