"""Makes qwen2vl.json: what transformers 4.45.2, which the judges were trained with, says of a tiny Qwen2-VL.

python -m tests.rewards.golden.make_qwen2vl, in an environment with transformers 4.45.2. Its own image processor cuts
the frames up, its own network reads them, with no position ids given, as in the training code of the judges.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor

from tests.rewards import tiny_qwen2vl as tiny

assert transformers.__version__ == "4.45.2"
PROCESSOR = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=10**6)


def network(rows: int) -> Qwen2VLForConditionalGeneration:
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(**{**tiny.CONFIG, "vocab_size": rows})).eval()
    model.load_state_dict(tiny.network_state(rows))
    return model


def hidden_states(model, pixels, grid, rows: list[list[int]], mark: int):
    longest = max(map(len, rows))
    ids = torch.tensor([row + [256] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    embedded = model.model.embed_tokens(ids)
    seen = model.visual(pixels, grid_thw=grid)
    embedded = embedded.masked_scatter((ids == mark)[..., None].expand_as(embedded), seen)
    hidden = model.model(input_ids=None, position_ids=None, attention_mask=mask, inputs_embeds=embedded)[0]
    return ids, mask, hidden


def images() -> dict:
    pictures = tiny.frames(2)
    cut = PROCESSOR(images=[p.permute(1, 2, 0).numpy() for p in pictures], return_tensors="pt")
    rows = [tiny.sequence(tiny.IMAGE, 6, length, [tiny.ROWS]) for length in (20, 31)]
    ids, mask, hidden = hidden_states(
        network(tiny.ROWS + 1), cut["pixel_values"], cut["image_grid_thw"], rows, tiny.IMAGE
    )
    state = tiny.ranking_head_state()
    x = hidden[ids == tiny.ROWS]
    for layer in (0, 3, 5):
        x = x @ state[f"rm_head.{layer}.weight"].T + state[f"rm_head.{layer}.bias"]
        x = x.relu() if layer < 5 else x
    return {
        "ids": ids.tolist(),
        "mask": mask.tolist(),
        "scores": x.tolist(),
        "pixels": cut["pixel_values"][::7, ::97].tolist(),
    }


def videos() -> dict:
    clips = tiny.frames(8).view(2, 4, 3, 56, 84)
    cut = PROCESSOR(images=None, videos=[list(c.permute(0, 2, 3, 1).numpy()) for c in clips], return_tensors="pt")
    tokens = [tiny.ROWS, tiny.ROWS + 1, tiny.ROWS + 2]
    rows = [tiny.sequence(tiny.VIDEO, 12, length, tokens) for length in (33, 12)]
    ids, mask, hidden = hidden_states(
        network(tiny.ROWS + 3), cut["pixel_values_videos"], cut["video_grid_thw"], rows, tiny.VIDEO
    )
    scores = (hidden @ tiny.linear_head_state()["rm_head.weight"].T)[..., 0]
    chosen = torch.stack([scores[ids == token] for token in tokens], dim=1)
    return {
        "ids": ids.tolist(),
        "mask": mask.tolist(),
        "scores": chosen.tolist(),
        "pixels": cut["pixel_values_videos"][::7, ::97].tolist(),
    }


if __name__ == "__main__":
    with torch.no_grad():
        made = {"transformers": transformers.__version__, "image": images(), "video": videos()}
    Path(__file__).with_name("qwen2vl.json").write_text(json.dumps(made) + "\n", encoding="utf-8")
