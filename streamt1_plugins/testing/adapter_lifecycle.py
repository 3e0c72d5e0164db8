"""What a session and a whole search keep and leave behind: memory, the pipeline, a tree."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.testing.adapter_case import (
    AdapterCase,
    candidate,
    candidates,
    check_output,
    check_same,
    grown,
)
from streamt1_plugins.testing.state import footprint, tensor_bytes, tensors_in

if TYPE_CHECKING:
    from torch import Tensor


class AdapterLifecycle(AdapterCase):
    """The part of the contract about memory, closing and whole searches, once per adapter."""

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
