"""The adapter author's toolkit: tensors that keep no batch alive, attributes for a while, refused pipelines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_plugins.api.adapter import Decoded, History
from streamt1_plugins.errors import UnsupportedPipelineError
from streamt1_seams import (
    appended,
    check_component,
    check_text_encoder,
    own,
    refuse_context_parallelism,
    refuse_step_cache,
    refuse_tiling,
    shadowed,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_own_copies_only_what_keeps_a_larger_tensor() -> None:
    batch = torch.arange(6.0).view(3, 2)
    row = own(batch[1:2])
    assert torch.equal(row, batch[1:2])
    assert row.untyped_storage().nbytes() == row.numel() * row.element_size()
    assert own(batch) is batch
    assert own("Rep") == "Rep"


def test_an_appended_chunk_keeps_no_batch_and_leaves_its_parent() -> None:
    latents, frames, state = (torch.randn(2, 3) for _ in range(3))
    parent = History(memory="old")
    child = appended(parent, latents[:1], Decoded(frames[1:], (state[:1], "Rep", None)), memory="new")
    assert (child.index, child.memory, parent.index) == (1, "new", 0)
    assert torch.equal(child.decoder[0], state[:1])
    assert child.decoder[1:] == ("Rep", None)
    for tensor in (*child.latents, *child.frames, child.decoder[0]):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    assert appended(child, latents[1:], Decoded(frames[:1])).decoder is None


def test_shadowed_attributes_are_gone_afterwards_also_after_a_failure() -> None:
    class Pipe:
        scale = 1

    pipe = Pipe()
    pipe.kept = "before"  # type: ignore[attr-defined]

    def fail() -> None:
        with shadowed(pipe, {"scale": 2, "kept": "during"}):
            assert (pipe.scale, pipe.kept) == (2, "during")  # type: ignore[attr-defined]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert vars(pipe) == {"kept": "before"}
    assert pipe.scale == 1


def compiled(**attributes: Any) -> Any:
    """A module behind the wrapper of `torch.compile`."""
    return SimpleNamespace(_orig_mod=SimpleNamespace(**attributes))


REFUSED: list[tuple[Callable[[Any], None], Any, str]] = [
    (refuse_context_parallelism, {"_parallel_config": object()}, "Context parallelism is enabled.*enable_parallelism"),
    (refuse_step_cache, {"is_cache_enabled": True}, "step cache is enabled.*disable_cache"),
    (refuse_tiling, {"use_tiling": True}, "VAE tiling is enabled.*disable_tiling"),
]


@pytest.mark.parametrize(("refuse", "state", "message"), REFUSED, ids=lambda each: getattr(each, "__name__", ""))
def test_states_that_break_a_chunk_are_refused(refuse: Any, state: dict[str, Any], message: str) -> None:
    for module in (SimpleNamespace(**state), compiled(**state)):
        with pytest.raises(UnsupportedPipelineError, match=message):
            refuse(module)
    refuse(compiled(**dict.fromkeys(state)))


def test_components_of_another_class_are_refused() -> None:
    pipe = SimpleNamespace(vae=compiled(), tokenizer=object(), text_encoder=None)
    check_component(pipe, "vae", SimpleNamespace)
    with pytest.raises(UnsupportedPipelineError, match=r"`vae` is a SimpleNamespace, but this adapter drives Linear"):
        check_component(pipe, "vae", torch.nn.Linear)
    with pytest.raises(UnsupportedPipelineError, match=r"no tokenizer or text encoder.*prompt_embeds"):
        check_text_encoder(pipe)
