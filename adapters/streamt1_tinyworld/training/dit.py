"""The tiny DiT and text encoder, and a forward pass for training over the stock weights.

`WanTransformer3DModel.forward` has no attention mask, no KV cache and no positions other than 0..F-1. The functions
here compute the same from the same weights (tests compare them) and add all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from streamt1_tinyworld.training.vae import LATENTS
from streamt1_tinyworld.world import WORDS

CHUNK = 3  # latent frames
TOKENS = 16  # per latent frame: 8x8 cells in 2x2 patches
TEXT_LENGTH = 32
TAP = 2  # the word head reads the tokens after this block
KeysValues = tuple[Tensor, Tensor]  # [B, heads, tokens, 32] each
BlockForward = Callable[..., tuple[Tensor, KeysValues]]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word of the world."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **special)


def make_text_encoder(words: int, width: int = 128) -> UMT5EncoderModel:
    """An untrained two-layer UMT5 encoder."""
    config = UMT5Config(
        vocab_size=words,
        d_model=width,
        d_kv=32,
        d_ff=2 * width,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=32,
    )
    return UMT5EncoderModel(config)


@torch.no_grad()
def make_transformer(width: int = 128, layers: int = 6, text_width: int = 128) -> WanTransformer3DModel:
    """An untrained transformer that predicts zero, with half-open gates."""
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=width // 32,
        attention_head_dim=32,
        in_channels=LATENTS,
        out_channels=LATENTS,
        text_dim=text_width,
        freq_dim=128,
        ffn_dim=4 * width,
        num_layers=layers,
        cross_attn_norm=True,
        rope_max_seq_len=1024,
    )
    model.proj_out.weight.zero_()
    model.proj_out.bias.zero_()
    model.condition_embedder.time_proj.weight.normal_(std=0.02)
    model.condition_embedder.time_proj.bias.zero_()
    for block in model.blocks:
        block.scale_shift_table[:, 2].fill_(0.5)
        block.scale_shift_table[:, 5].fill_(0.5)
        block.attn2.to_out[0].weight.mul_(0.2)
    return model


@dataclass(frozen=True)
class Text:
    """Encoded captions. The bias gives TEXT_LENGTH tokens the weight of a longer, zero-padded sequence."""

    states: Tensor  # [B, L, width], zero at the pads
    bias: Tensor | None  # [B, 1, 1, L] added to the cross-attention logits


@dataclass(frozen=True)
class Layout:
    """Positions of the frames of a row, and the mask of their attention."""

    positions: Tensor  # [B or 1, F] absolute latent frames
    bias: Tensor | None = None  # [B or 1, 1, F*16, context + F*16] added to the self-attention logits


@dataclass(frozen=True)
class Output:
    """Velocity [B, 16, F, 8, 8], each layer's keys and values, and the tokens [B, F, 16, width] at TAP."""

    velocity: Tensor
    keys_values: list[KeysValues]
    tap: Tensor


def encode_text(encoder: UMT5EncoderModel, tokens: Tensor, length: Tensor | int = TEXT_LENGTH) -> Text:
    """Token ids [B, L] -> text as in WanPipeline, as if padded to `length` ([B] or a number) tokens."""
    mask = (tokens != 0).long()
    states = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state * mask[..., None]
    used, wanted = mask.sum(1), torch.as_tensor(length, device=tokens.device)
    pads = ((wanted - used).clamp(min=1e-4) / (tokens.shape[1] - used).clamp(min=1e-4)).log()
    bias = torch.where(mask.bool(), 0.0, pads[:, None])
    return Text(states, bias[:, None, None])


@dataclass(frozen=True)
class Denoiser:
    """The transformer with masks, absolute positions and a KV cache; `block` may be the compiled `block_forward`."""

    model: WanTransformer3DModel
    block: BlockForward

    def __call__(
        self, latents: Tensor, sigmas: Tensor, text: Text, layout: Layout, cache: list[KeysValues] | None = None
    ) -> Output:
        """Velocity (eps - x0) of latents [B, 16, F, 8, 8] at noise levels sigmas [B, F]; `cache` holds the context."""
        model, (batch, _, frames, height, width) = self.model, latents.shape
        hidden = model.patch_embedding(latents).float().flatten(3).permute(0, 2, 3, 1)  # [B, F, 16, D]
        embedder = model.condition_embedder
        steps = embedder.timesteps_proj(1000 * sigmas.flatten())
        time = embedder.time_embedder(steps).float().view(batch, frames, -1)
        modulation = embedder.time_proj(embedder.act_fn(time)).float().unflatten(2, (6, -1))
        words = embedder.text_embedder(text.states)
        rotary = rotations(model, layout.positions, height // 2, width // 2)
        keys_values, tap = [], hidden
        for index, block in enumerate(model.blocks):
            context = None if cache is None else cache[index]
            hidden, made = self.block(block, hidden, modulation, rotary, (words, layout.bias, text.bias), context)
            keys_values.append(made)
            tap = hidden if index == TAP else tap
        shift, scale = (model.scale_shift_table[None] + time[:, :, None]).unsqueeze(3).unbind(2)
        hidden = model.proj_out(_norm(hidden) * (1 + scale) + shift).float()
        patches = hidden.view(batch, frames, height // 2, width // 2, 2, 2, -1)
        velocity = patches.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width)
        return Output(velocity, keys_values, tap)


def rotations(model: WanTransformer3DModel, positions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rotary cosines and sines [B or 1, 1, F*height*width, 16] of tokens at absolute latent frames [B or 1, F]."""
    rope, shape = model.rope, (*positions.shape, height, width)
    tables = []
    for table in (rope.freqs_cos[:, 0::2], rope.freqs_sin[:, 1::2]):
        time, rows, columns = table.float().split([rope.t_dim // 2, rope.h_dim // 2, rope.w_dim // 2], 1)
        parts = (
            time[positions][:, :, None, None].expand(*shape, -1),
            rows[:height, None].expand(*shape, -1),
            columns[:width].expand(*shape, -1),
        )
        tables.append(torch.cat(parts, -1).flatten(1, 3).unsqueeze(1))
    return tables[0], tables[1]


def block_forward(
    block: Any,
    hidden: Tensor,
    modulation: Tensor,
    rotary: tuple[Tensor, Tensor],
    given: tuple[Tensor, Tensor | None, Tensor | None],
    context: KeysValues | None,
) -> tuple[Tensor, KeysValues]:
    """One `WanTransformerBlock` on tokens [B, F, 16, D]; `given`: words, self-attention bias, cross-attention bias."""
    words, self_bias, cross_bias = given
    table = (block.scale_shift_table[None] + modulation).unsqueeze(3)
    shift, scale, gate, feed_shift, feed_scale, feed_gate = table.unbind(2)
    attention, cross = block.attn1, block.attn2
    normed = (_norm(hidden) * (1 + scale) + shift).flatten(1, 2)
    query = _rotate(_heads(attention, attention.norm_q, attention.to_q(normed)), rotary)
    key = _rotate(_heads(attention, attention.norm_k, attention.to_k(normed)), rotary)
    value = _heads(attention, None, attention.to_v(normed))
    made = (key.to(value.dtype), value)
    keys, values = (
        made if context is None else (torch.cat([old, new], 2) for old, new in zip(context, made, strict=True))
    )
    hidden = hidden + _attend(attention, query, keys, values, self_bias).view(hidden.shape) * gate
    normed = F.layer_norm(hidden, hidden.shape[-1:], block.norm2.weight, block.norm2.bias, 1e-6).flatten(1, 2)
    query = _heads(cross, cross.norm_q, cross.to_q(normed))
    keys, values = _heads(cross, cross.norm_k, cross.to_k(words)), _heads(cross, None, cross.to_v(words))
    hidden = hidden + _attend(cross, query, keys, values, cross_bias).view(hidden.shape)
    return hidden + block.ffn(_norm(hidden) * (1 + feed_scale) + feed_shift).float() * feed_gate, made


def _norm(hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6)


def _heads(attention: Any, norm: Any, projected: Tensor) -> Tensor:
    """[B, tokens, D] -> [B, heads, tokens, 32], RMS-normalised across the heads where `norm` is given."""
    if norm is not None:
        x = projected.float()
        projected = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps) * norm.weight
    return projected.view(*projected.shape[:2], attention.heads, -1).transpose(1, 2)


def _rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotary
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def _attend(attention: Any, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    query, keys = query.to(values.dtype), keys.to(values.dtype)
    if bias is not None:
        bias = bias.to(values.dtype).expand(query.shape[0], query.shape[1], query.shape[2], -1)
    if query.is_cuda or not torch.is_grad_enabled():
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias)
    else:  # at these sizes its backward is twice as fast on a CPU
        logits = (query / math.sqrt(query.shape[-1])) @ keys.mT
        mixed = torch.softmax(logits.float() if bias is None else logits.float() + bias, -1).to(values.dtype) @ values
    output: Tensor = attention.to_out[0](mixed.transpose(1, 2).flatten(2))
    return output.float()
