"""Converts checkpoints in the open_clip layout to transformers' CLIP, which has other names and unfused attention."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_backbones.checkpoint import State

WHOLE = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # transformers spells it so
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
IGNORED = "attn_mask"  # a buffer: the causal mask


def from_open_clip(state: State) -> State:
    """The same weights under the names of `transformers.CLIPModel`. Raises `PluginError` for an unknown name."""
    converted: State = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if name in WHOLE:
            converted[WHOLE[name]] = value
        elif name in TRANSPOSED:
            converted[TRANSPOSED[name]] = value.T.contiguous()
        elif name != IGNORED:
            converted.update(_layer(name, value))
    return converted


def _layer(name: str, value: Tensor) -> State:
    found = BLOCK.fullmatch(name)
    if found is None:
        raise PluginError(f"A CLIP checkpoint of the open_clip layout has no {name!r}.")
    tower, number, part, kind = found.groups()
    layer = f"{'vision' if tower else 'text'}_model.encoder.layers.{number}."
    if part == "attn.in_proj":
        thirds = zip("qkv", value.chunk(3), strict=True)
        return {f"{layer}self_attn.{letter}_proj.{kind}": third.contiguous() for letter, third in thirds}
    if part not in LAYER:
        raise PluginError(f"A CLIP checkpoint of the open_clip layout has no {name!r}.")
    return {f"{layer}{LAYER[part]}.{kind}": value}
