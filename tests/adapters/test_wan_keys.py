"""Original Wan weight names against those of the diffusers class."""

from __future__ import annotations

import pytest

from streamt1_wan.keys import diffusers_key
from tests.adapters.tiny import tiny_transformer

BLOCK = [f"{a}_attn.{p}.{leaf}" for a in ("self", "cross") for p in "qkvo" for leaf in ("weight", "bias")]
BLOCK += [f"{a}_attn.norm_{p}.weight" for a in ("self", "cross") for p in "qk"]
BLOCK += [f"{m}.{leaf}" for m in ("norm3", "ffn.0", "ffn.2") for leaf in ("weight", "bias")] + ["modulation"]
OUTSIDE = ["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"]
OUTSIDE = [f"{m}.{leaf}" for m in (*OUTSIDE, "head.head", "patch_embedding") for leaf in ("weight", "bias")]


def test_every_weight_has_its_place() -> None:
    names = ["head.modulation", *OUTSIDE, *(f"blocks.{i}.{name}" for i in range(2) for name in BLOCK)]
    converted = {diffusers_key(name) for name in names}
    assert len(converted) == len(names)
    assert converted == set(tiny_transformer().state_dict())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("blocks.11.norm3.bias", "blocks.11.norm2.bias"),
        ("blocks.11.modulation", "blocks.11.scale_shift_table"),
        ("head.modulation", "scale_shift_table"),
        ("something.else", "something.else"),
    ],
)
def test_names(theirs: str, ours: str) -> None:
    assert diffusers_key(theirs) == ours
