"""Wraps a causal Wan pipeline: the call stays the same, and the search goes chunk by chunk.

    python examples/wrap_causal_wan.py                     # a tiny model with random weights; runs anywhere, offline
    python examples/wrap_causal_wan.py models/longlive     # a folder that `streamt1 convert` made; needs a GPU

With random weights the video is noise; the example shows the calls. docs/adapters/wan.md has the real models.
"""

from __future__ import annotations

import sys

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

import streamt1_plugins as streamt1

RECIPE = {
    "extends": "stream-t1",
    # A causal checkpoint has the same class and configuration as an ordinary Wan model, so the adapter has to be named.
    # `timesteps` are those the few-step model was distilled for.
    "adapter": {"name": "wan", "timesteps": [1000, 750, 500, 250]},
    "rewards": {"short": {"basic": {}}, "long": {"basic": {}}},
    "search": {"candidates": 2, "top_k": 2},
}


def tiny_pipeline() -> WanPipeline:
    """A `WanPipeline` small enough for any machine. It has no text encoder, so the call takes embeddings."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=32, freq_dim=64, ffn_dim=32, num_layers=2
    )
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    return WanPipeline(
        transformer=transformer.eval(), vae=vae.eval(), scheduler=scheduler, text_encoder=None, tokenizer=None
    )


def main(model: str | None) -> None:
    if model is None:
        pipe = streamt1.wrap(tiny_pipeline(), RECIPE)
        embeddings = torch.randn((1, 16, 32), generator=torch.Generator().manual_seed(0))
        call = {"prompt_embeds": embeddings, "height": 32, "width": 32, "num_frames": 33}
    else:
        pipe = streamt1.wrap(WanPipeline.from_pretrained(model, torch_dtype=torch.bfloat16).to("cuda"), RECIPE)
        call = {"prompt": "a lighthouse in a storm, waves breaking over the rocks", "num_frames": 81}
    video = pipe(**call, output_type="np").frames[0]
    print(f"{len(video)} frames from {len(pipe.tree)} candidates, {pipe.run.cost.forwards} transformer forwards")
    for node in pipe.tree.path(pipe.tree.winner[-1]):
        print(f"  {node.id}  score {node.score:.3f}  when it leaves the KV window: {node.route}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
