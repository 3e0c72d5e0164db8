"""Attention of many candidates over one shared context, without a copy of the context per candidate.

The softmax over [context | own tokens] splits into two attentions whose outputs are averaged with the weights of
their log-sum-exps (the merge of FlashAttention's split-k). In the first one all candidates' queries form one sequence,
so the context is read once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, past_key: Tensor, past_value: Tensor) -> Tensor:
    """Softmax attention of every candidate over the context and itself.

    query, key, value: ``[N * conditions, tokens, heads, head_dim]``, candidate-major; past: ``[conditions, P, heads,
    head_dim]``. Returns the shape of `query`. Equal to attention over the concatenation up to rounding.
    """
    conditions = len(past_key)
    tokens, heads, width = query.shape[1:]
    folded = query.view(-1, conditions, tokens, heads, width).transpose(0, 1).flatten(1, 2)
    shared, shared_lse = _attention(folded, past_key, past_value)
    shared, shared_lse = (_unfolded(x, len(query) // conditions) for x in (shared, shared_lse.unsqueeze(-1)))
    own, own_lse = _attention(query, key, value)
    weight = torch.sigmoid(shared_lse - own_lse.unsqueeze(-1))
    return (weight * shared.float() + (1 - weight) * own.float()).type_as(query)


def _unfolded(x: Tensor, candidates: int) -> Tensor:
    """``[conditions, N * tokens, heads, *]`` back to ``[N * conditions, tokens, heads, *]``."""
    return x.reshape(len(x), candidates, -1, *x.shape[2:]).transpose(0, 1).flatten(0, 1)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Output ``[B, tokens, heads, head_dim]`` and float32 log-sum-exp ``[B, tokens, heads]`` of plain attention."""
    out, lse = _kernel(*(x.transpose(1, 2) for x in (query, key, value)))
    return out.transpose(1, 2), lse[..., : query.shape[1]].transpose(1, 2).float()


def _kernel(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The fused kernel of the device that also returns the log-sum-exp; ``[B, heads, tokens, head_dim]``."""
    if query.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    elif query.dtype == torch.float32:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True)
    else:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)
    return out, lse
