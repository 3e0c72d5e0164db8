"""Steps that are the same in the sessions of several adapters: append a survivor, convert frames, an empty prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.adapter import History
from streamt1_plugins.process.imports import deferred
from streamt1_seams.modules import own

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from streamt1_plugins.api.adapter import Decoded
else:
    torch = deferred("torch")


def appended(history: History, latents: Tensor, decoded: Decoded, memory: Any = None) -> History:
    """The history with one more chunk, whose tensors keep no batch alive.

    `decoded.state` is None or a tuple, such as the decoder state of a Wan VAE. `memory` replaces the history's.
    """
    return History(
        index=history.index + 1,
        latents=(*history.latents, own(latents)),
        frames=(*history.frames, own(decoded.frames)),
        memory=memory,
        decoder=None if decoded.state is None else tuple(own(entry) for entry in decoded.state),
    )


def postprocessed(pipe: Any, frames: Tensor, output_type: str) -> Any:
    """Frames ``[T, 3, H, W]`` in ``[0, 1]`` as the pipeline's video processor returns a batch of one video."""
    # The frames are denormalised already, so the processor only has to convert them.
    return pipe.video_processor.postprocess_video(
        frames.transpose(0, 1).unsqueeze(0), output_type, do_denormalize=[False] * len(frames)
    )


def empty_text(pipe: Any, like: Tensor, max_sequence_length: int) -> Tensor:
    """Embeddings of an empty prompt, ``[1, tokens, text_dim]``, in dtype and device those of `like`.

    Zeros, which stand for no tokens, where the pipeline has no text encoder and the caller brought the embeddings.
    """
    if getattr(pipe, "text_encoder", None) is None:
        return torch.zeros_like(like)
    text: Tensor = pipe.encode_prompt(
        prompt="", do_classifier_free_guidance=False, max_sequence_length=max_sequence_length, device=like.device
    )[0]
    return text.to(like)
