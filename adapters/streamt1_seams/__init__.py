"""The adapter author's toolkit: an interrupt seam, argument checks, and chunk-wise decoding with Wan's VAE."""

from __future__ import annotations

from streamt1_seams.arguments import PROPOSED, arguments, check_call, check_single, check_text_encoder, given
from streamt1_seams.callbacks import HostCallback
from streamt1_seams.interrupt import InterruptSeam, Window
from streamt1_seams.models import check_finite, check_folder, explain_missing
from streamt1_seams.modules import (
    check_component,
    own,
    refuse_context_parallelism,
    refuse_step_cache,
    refuse_tiling,
    shadowed,
    uncompiled,
    unless_global,
)
from streamt1_seams.session import appended, postprocessed
from streamt1_seams.wan_vae import DecoderState, decode_chunk, denormalised

__all__ = [
    "PROPOSED",
    "DecoderState",
    "HostCallback",
    "InterruptSeam",
    "Window",
    "appended",
    "arguments",
    "check_call",
    "check_component",
    "check_finite",
    "check_folder",
    "check_single",
    "check_text_encoder",
    "decode_chunk",
    "denormalised",
    "explain_missing",
    "given",
    "own",
    "postprocessed",
    "refuse_context_parallelism",
    "refuse_step_cache",
    "refuse_tiling",
    "shadowed",
    "uncompiled",
    "unless_global",
]
