"""Weight names of the original Wan code in the naming of diffusers' `WanTransformer3DModel`."""

from __future__ import annotations

import re

LORA_FILE = "pytorch_lora_weights.safetensors"
"""Where diffusers keeps a LoRA beside a pipeline; `CausalWanAdapter.load` applies it when it is there."""

_WHOLE = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
"""Modules (or parameters) outside the blocks."""

_IN_BLOCK = {
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
    # The norm before cross-attention is the third one there and the second one here.
    "norm2": "norm3",
    "norm3": "norm2",
    **{
        f"{theirs}.{part}": f"{ours}.{target}"
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for part, target in (
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("o", "to_out.0"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        )
    },
}

_NAME = re.compile(r"(?P<block>blocks\.\d+\.)?(?P<module>.+?)(?P<leaf>\.(weight|bias))?")


def diffusers_key(name: str) -> str:
    """The diffusers name of one original name; any other name (`patch_embedding.weight`) stays as it is."""
    found = _NAME.fullmatch(name)
    if found is None:
        return name
    block, module, leaf = found["block"] or "", found["module"], found["leaf"] or ""
    return block + (_IN_BLOCK if block else _WHOLE).get(module, module) + leaf


_UNDERSCORED = {
    name.replace(".", "_"): name
    for name in (*_WHOLE, *_WHOLE.values(), *_IN_BLOCK, *_IN_BLOCK.values(), "patch_embedding")
}


def dotted(name: str) -> str:
    """The module that kohya's tools call by one word, ``blocks_0_self_attn_q``; an unknown word stays as it is."""
    found = re.fullmatch(r"(?:blocks_(?P<block>\d+)_)?(?P<module>.+)", name)
    if found is None or found["module"] not in _UNDERSCORED:
        return name
    block = f"blocks.{found['block']}." if found["block"] else ""
    return block + _UNDERSCORED[found["module"]]
