"""Checks that the pipeline is supported; a state that would give wrong results is refused with a remedy."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from streamt1_plugins.errors import UnsupportedPipelineError
from streamt1_seams import (
    check_component,
    refuse_context_parallelism,
    refuse_step_cache,
    refuse_tiling,
    uncompiled,
)
from streamt1_wan.processor import check_free


def check_pipeline(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is a text-to-video Wan pipeline in a supported state."""
    if not isinstance(pipe, WanPipeline):
        raise UnsupportedPipelineError(
            f"The adapter 'wan' drives diffusers' WanPipeline, got {type(pipe).__name__}. Load the causal checkpoint "
            "as a WanPipeline, or name another adapter in the recipe."
        )
    _check_parts(pipe)
    refuse_context_parallelism(pipe.transformer)
    refuse_step_cache(pipe.transformer)
    refuse_tiling(pipe.vae)
    for block in uncompiled(pipe.transformer).blocks:
        _check_processor(block.attn1.processor)


def _check_parts(pipe: WanPipeline) -> None:
    if pipe.transformer_2 is not None:
        raise UnsupportedPipelineError(
            "The pipeline has a `transformer_2` (two-stage Wan 2.2); causal sampling uses one transformer. "
            "Load a single-transformer checkpoint, or set `pipe.transformer_2 = None` if it is not meant to be used."
        )
    check_component(pipe, "transformer", WanTransformer3DModel)
    check_component(pipe, "vae", AutoencoderKLWan)
    config, vae = uncompiled(pipe.transformer).config, uncompiled(pipe.vae)
    if config.image_dim is not None or config.added_kv_proj_dim is not None or config.in_channels != vae.config.z_dim:
        raise UnsupportedPipelineError(
            f"The transformer is conditioned on images (in_channels {config.in_channels}, latent channels "
            f"{vae.config.z_dim}, image_dim {config.image_dim}); this adapter makes video from text alone. Load a "
            "text-to-video checkpoint."
        )
    if config.patch_size[0] != 1:
        raise UnsupportedPipelineError(f"The transformer's patches span {config.patch_size[0]} latent frames, not 1.")


def _check_processor(processor: Any) -> None:
    check_free(processor)
    if type(processor) is not WanAttnProcessor:
        raise UnsupportedPipelineError(
            f"The transformer's self-attention uses {type(processor).__name__}, whose work would be lost: this adapter "
            "replaces it. Expected WanAttnProcessor; restore it with "
            "`for block in pipe.transformer.blocks: block.attn1.set_processor(WanAttnProcessor())`."
        )
