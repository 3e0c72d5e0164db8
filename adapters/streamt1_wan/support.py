"""Which pipelines this adapter drives. Everything it would get wrong in silence is refused with a remedy."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from streamt1_plugins.errors import UnsupportedPipelineError
from streamt1_seams.modules import uncompiled
from streamt1_wan.processor import ContextAttnProcessor


def check_pipeline(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is a text-to-video Wan pipeline in a state we can honour."""
    if not isinstance(pipe, WanPipeline):
        raise UnsupportedPipelineError(
            f"The adapter 'wan' drives diffusers' WanPipeline, got {type(pipe).__name__}. Load the causal checkpoint "
            "as a WanPipeline, or name another adapter in the recipe."
        )
    _check_parts(pipe)
    _check_state(uncompiled(pipe.transformer), uncompiled(pipe.vae))
    for block in uncompiled(pipe.transformer).blocks:
        _check_processor(block.attn1.processor)


def _check_parts(pipe: WanPipeline) -> None:
    transformer, vae = uncompiled(pipe.transformer), uncompiled(pipe.vae)
    if pipe.transformer_2 is not None:
        raise UnsupportedPipelineError(
            "The pipeline has a `transformer_2` (two-stage Wan 2.2); causal sampling uses one transformer. "
            "Load a single-transformer checkpoint, or set `pipe.transformer_2 = None` if it is not meant to be used."
        )
    for name, part, wanted in (("transformer", transformer, WanTransformer3DModel), ("vae", vae, AutoencoderKLWan)):
        if not isinstance(part, wanted):
            raise UnsupportedPipelineError(
                f"The pipeline's `{name}` is a {type(part).__name__}, but this adapter drives {wanted.__name__}."
            )
    config = transformer.config
    if config.image_dim is not None or config.added_kv_proj_dim is not None or config.in_channels != vae.config.z_dim:
        raise UnsupportedPipelineError(
            f"The transformer is conditioned on images (in_channels {config.in_channels}, latent channels "
            f"{vae.config.z_dim}, image_dim {config.image_dim}); this adapter makes video from text alone. Load a "
            "text-to-video checkpoint."
        )
    if config.patch_size[0] != 1:
        raise UnsupportedPipelineError(f"The transformer's patches span {config.patch_size[0]} latent frames, not 1.")


def _check_state(transformer: Any, vae: Any) -> None:
    if transformer._parallel_config is not None:
        raise UnsupportedPipelineError(
            "Context parallelism is enabled: it splits the tokens, but the cached context is whole. Leave "
            "`enable_parallelism` out and run one process per device instead (accelerate launch)."
        )
    if transformer.is_cache_enabled:
        raise UnsupportedPipelineError(
            "A step cache is enabled on the transformer: skipped layers would write no context. Call "
            "`pipe.transformer.disable_cache()` first."
        )
    if vae.use_tiling:
        raise UnsupportedPipelineError(
            "VAE tiling is enabled: tiles cannot carry the decoder's state from chunk to chunk. Call "
            "`pipe.vae.disable_tiling()` first; decoding a chunk at a time needs little memory already."
        )


def _check_processor(processor: Any) -> None:
    if isinstance(processor, ContextAttnProcessor):
        raise UnsupportedPipelineError(
            "This pipeline is in use by another streamt1 session: one call at a time. Finish or close that one first "
            "(a stream is closed when its iterator is exhausted or closed)."
        )
    if type(processor) is not WanAttnProcessor:
        raise UnsupportedPipelineError(
            f"The transformer's self-attention uses {type(processor).__name__}, whose work would be lost: this adapter "
            "replaces it. Expected WanAttnProcessor; restore it with "
            "`for block in pipe.transformer.blocks: block.attn1.set_processor(WanAttnProcessor())`."
        )
