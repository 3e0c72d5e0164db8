"""What rewards get from a causal Wan pipeline, whatever it computes in and however its text was given."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_basic.rewards import Basic
from streamt1_plugins.errors import InputError
from tests.adapters.tiny import seeded, tiny_pipeline, tiny_transformer, tiny_vae

SIZE: dict[str, Any] = {"height": 32, "width": 32, "num_frames": 21, "max_sequence_length": 16}


def recipe(reward: str) -> dict[str, Any]:
    adapter = {"name": "wan", "timesteps": [1000]}
    return {"extends": "stream-t1", "adapter": adapter, "rewards": {"short": {}, "long": {reward: {}}}}


def test_frames_are_float32_in_a_bfloat16_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    seen: list[Any] = []
    score = Basic.score

    def spy(self: Any, inp: Any) -> Any:
        seen.append(inp)
        return score(self, inp)

    monkeypatch.setattr(Basic, "score", spy)
    half = torch.bfloat16
    pipe = tiny_pipeline(transformer=tiny_transformer().to(half), vae=tiny_vae().to(half))
    wrapped = streamt1.wrap(pipe, recipe("basic"))
    wrapped("a red circle", **SIZE)
    assert wrapped.last_run.beams[0].history.frames[0].dtype == half
    assert {inp.video.dtype for inp in seen} == {torch.float32}
    assert {inp.anchor.dtype for inp in seen if inp.anchor is not None} == {torch.float32}


def test_a_reward_that_reads_the_prompt_refuses_embeddings_alone() -> None:
    wrapped = streamt1.wrap(tiny_pipeline(), recipe("tinyalign"))
    with pytest.raises(InputError, match="'tinyalign' judges by the prompt, and the prompt is empty"):
        wrapped(prompt_embeds=torch.randn(1, 8, 32, generator=seeded(0)), **SIZE)
    assert wrapped.last_run.session.forwards == 0
    assert type(wrapped.transformer.blocks[0].attn1.processor).__name__ == "WanAttnProcessor", "the session is closed"
