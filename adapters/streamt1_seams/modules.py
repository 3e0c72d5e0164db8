"""Helpers for a pipeline's modules and tensors: unwrap, check, set attributes for a while, copy."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from streamt1_plugins.errors import UnsupportedPipelineError
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
else:
    torch = deferred("torch")

T = TypeVar("T")


def uncompiled(module: Any) -> Any:
    """The module behind `torch.compile`, which wraps it in another class."""
    return getattr(module, "_orig_mod", module)


def own(x: T) -> T:
    """A tensor that keeps no larger one alive: a row of a batch is copied, anything else is returned as it is."""
    if isinstance(x, torch.Tensor) and x.untyped_storage().nbytes() > x.numel() * x.element_size():
        return cast("T", x.clone())
    return x


def unless_global(generator: torch.Generator) -> torch.Generator | None:
    """The generator, or None for torch's global one: what the pipeline is given where a call has no generator."""
    devices = getattr(torch.get_device_module(generator.device), "default_generators", ())
    return None if any(generator is each for each in (torch.default_generator, *devices)) else generator


@contextmanager
def shadowed(target: Any, attributes: Mapping[str, Any]) -> Iterator[None]:
    """Set instance attributes for the time of a with block; the class and its other objects are not touched."""
    mine = vars(target)
    saved = {name: mine[name] for name in attributes if name in mine}
    mine.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del mine[name]
        mine.update(saved)


def check_component(pipe: Any, component: str, wanted: type) -> None:
    """Raise `UnsupportedPipelineError` unless the pipeline's `component`, compiled or not, is a `wanted`."""
    found = uncompiled(getattr(pipe, component))
    if not isinstance(found, wanted):
        raise UnsupportedPipelineError(
            f"The pipeline's `{component}` is a {type(found).__name__}, but this adapter drives {wanted.__name__}."
        )


def refuse_context_parallelism(transformer: Any) -> None:
    """Raise `UnsupportedPipelineError` where context parallelism splits the tokens of a chunk over devices."""
    if getattr(uncompiled(transformer), "_parallel_config", None) is not None:
        raise UnsupportedPipelineError(
            "Context parallelism is enabled: it splits the tokens of a chunk, but its context is kept whole. Leave "
            "`enable_parallelism` out and run one process per device instead (accelerate launch)."
        )


def refuse_step_cache(transformer: Any) -> None:
    """Raise `UnsupportedPipelineError` where a step cache would carry features between candidates."""
    if getattr(uncompiled(transformer), "is_cache_enabled", False):
        raise UnsupportedPipelineError(
            "A step cache is enabled on the transformer: it would carry features from one candidate to the next. Call "
            "`pipe.transformer.disable_cache()` first."
        )


def refuse_tiling(vae: Any) -> None:
    """Raise `UnsupportedPipelineError` where the VAE decodes in tiles, which cannot carry a decoder state."""
    if uncompiled(vae).use_tiling:
        raise UnsupportedPipelineError(
            "VAE tiling is enabled: tiles cannot carry the decoder's state from chunk to chunk. Call "
            "`pipe.vae.disable_tiling()` first; decoding a chunk at a time needs little memory already."
        )
