"""Self-attention over [context | current chunk] inside a stock `WanTransformer3DModel`, for one forward pass at a time.

Only the `attn1` processors are replaced. Each holds its own layer's context as plain tensor attributes: no layer
number and no list is read while the model runs, so a compiled block serves every layer.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

from streamt1_plugins.errors import UnsupportedPipelineError
from streamt1_wan import shared_prefix
from streamt1_wan.rope import Rotation, rotate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_INSTALLING = Lock()
KeyValue = tuple["Tensor", "Tensor"]
RmsNorm = Literal["stock", "official"]


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """The adapter's options `rms_norm` and `shared_prefix`."""

    rms_norm: RmsNorm
    shared_prefix: bool


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """The context of one chunk: `past` per layer (empty in the first chunk) and the `rotation` of its own tokens.

    Assembled once per parent for all its candidates and all their steps. The buffers of `past` end with room for the
    chunk's own keys and values, which every forward pass writes anew. `start`: the latent frame of the rotation.
    """

    past: list[KeyValue]
    rotation: Rotation
    start: int = 0


class ContextAttnProcessor:
    """Processor of one `attn1`: attends to its `past` and the chunk's own tokens."""

    _parallel_config = None

    def __init__(self, inner: Any, options: AttentionOptions) -> None:
        self.stand_in_for(inner)
        self._official = options.rms_norm == "official"
        self._shared_prefix = options.shared_prefix
        self.rest()

    def stand_in_for(self, inner: Any) -> None:
        """Keep the processor that this one replaces, and use its attention backend."""
        self.inner = inner
        self._attention_backend = inner._attention_backend

    def rest(self) -> None:
        """Clear the state of a forward pass."""
        self.rotation: Rotation | None = None
        self.past_key: Tensor | None = None
        self.past_value: Tensor | None = None
        self.capture = False
        self.captured: KeyValue | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: KeyValue | None = None,
    ) -> Any:
        """Self-attention output ``[B, tokens, dim]``; `rotary_emb` counts from frame 0, so our rotation replaces it."""
        assert self.rotation is not None, "installed outside a forward pass"
        query, key, value = self._project(attn, hidden_states)
        query, key = rotate(query, self.rotation), rotate(key, self.rotation)
        if self.capture:
            self.captured = (key, value.contiguous())  # a slice of fused projections would keep all three alive
        out = self._attend(query, key, value)
        return attn.to_out[1](attn.to_out[0](out.flatten(2, 3).type_as(query)))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Any:
        if self.past_key is not None and self.past_value is not None:
            if self._shared_prefix and len(query) > len(self.past_key):
                past = self.past_key.shape[1] - key.shape[1]
                return shared_prefix.attend(query, key, value, self.past_key[:, :past], self.past_value[:, :past])
            key, value = _appended(self.past_key, key), _appended(self.past_value, value)
        return dispatch_attention_fn(query, key, value, backend=self._attention_backend)

    def _project(self, attn: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if attn.fused_projections:
            query, key, value = attn.to_qkv(hidden).chunk(3, dim=-1)
        else:
            query, key, value = attn.to_q(hidden), attn.to_k(hidden), attn.to_v(hidden)
        query, key = self._normed(attn.norm_q, query), self._normed(attn.norm_k, key)
        shape = (*hidden.shape[:2], attn.heads, -1)
        return query.view(shape), key.view(shape), value.view(shape)

    def _normed(self, norm: Any, x: Tensor) -> Any:
        return rms_norm_official(x, norm.weight, norm.eps) if self._official else norm(x)


def rms_norm_official(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm over the last axis in the order of the original Wan code: float32, cast back, then times weight.

    `torch.nn.RMSNorm` rounds once, after the weight; in bfloat16 the two differ in the last bit of many elements.
    """
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)).type_as(x) * weight


def _appended(buffer: Tensor, new: Tensor) -> Tensor:
    """[context | new]. One candidate is written into the buffer's room; of a batch each needs a copy of the context."""
    past = buffer.shape[1] - new.shape[1]
    if len(buffer) == len(new):
        buffer[:, past:] = new
        return buffer
    candidates = len(new) // len(buffer)
    rows = buffer[:, :past].unsqueeze(0).expand(candidates, -1, -1, -1, -1).flatten(0, 1)
    return torch.cat([rows, new], dim=1)


class ContextAttention:
    """The processors of a whole transformer, installed for single forward passes."""

    def __init__(self, transformer: Any, options: AttentionOptions) -> None:
        self._attentions = [block.attn1 for block in transformer.blocks]
        self._processors = [ContextAttnProcessor(attention.processor, options) for attention in self._attentions]

    @contextmanager
    def reading(
        self, context: Context, conditions: int, *, capture: bool = False
    ) -> Iterator[list[ContextAttnProcessor]]:
        """Forward passes inside this block attend to `context`; with `capture` each layer keeps its own K and V.

        conditions: how many of the context's conditions are read, the prompt first. Raises `UnsupportedPipelineError`
        where another thread is inside such a block on the same transformer.
        """
        for layer, processor in enumerate(self._processors):
            processor.rotation, processor.capture = context.rotation, capture
            if context.past:
                processor.past_key, processor.past_value = (x[:conditions] for x in context.past[layer])
        try:
            self._install()
            yield self._processors
        finally:
            for attention, processor in zip(self._attentions, self._processors, strict=True):
                if attention.processor is processor:
                    attention.set_processor(processor.inner)
                processor.rest()

    def _install(self) -> None:
        with _INSTALLING:
            for attention in self._attentions:
                check_free(attention.processor)
            for attention, processor in zip(self._attentions, self._processors, strict=True):
                processor.stand_in_for(attention.processor)
                attention.set_processor(processor)


def check_free(processor: Any) -> None:
    """Raise `UnsupportedPipelineError` where a forward pass of a session is running."""
    if isinstance(processor, ContextAttnProcessor):
        raise UnsupportedPipelineError(
            "The pipeline is denoising for another call, in another thread, and does one call at a time. Wait until "
            "that call has returned: nothing has to be closed. Or load the model once more for this thread."
        )
