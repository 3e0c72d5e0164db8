"""Carried decoding is the whole decode, to the last bit, for every kind of Wan VAE."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from streamt1_seams.wan_vae import decode_chunk
from tests.adapters.tiny import seeded, tiny_vae

RESIDUAL = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "decoder_base_dim": 4}


def whole(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Frames ``[T, 3, H, W]`` as `WanPipeline` decodes them, in [0, 1]."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    inverse = 1.0 / torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    with torch.no_grad():
        video = vae.decode(latents / inverse + mean, return_dict=False)[0]
    return (video[0].transpose(0, 1) * 0.5 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("changes", [{}, RESIDUAL, {"base_dim": 8, "dim_mult": [1, 2, 2, 1]}], ids=str)
@pytest.mark.parametrize("chunk", [1, 3])
@torch.no_grad()
def test_chunks_equal_the_whole(changes: dict[str, Any], chunk: int) -> None:
    torch.set_num_threads(1)
    vae = tiny_vae(**changes)
    latents = torch.randn(1, 16, 6, 4, 4, generator=seeded(0))
    frames, state = [], None
    for part in latents.split(chunk, dim=2):
        (decoded,) = decode_chunk(vae, part, state)
        state = decoded.state
        frames.append(decoded.frames)
    assert torch.equal(torch.cat(frames), whole(vae, latents))


@torch.no_grad()
def test_forks_share_a_state_that_is_not_changed() -> None:
    vae = tiny_vae()
    first, left, right = (torch.randn(1, 16, 3, 4, 4, generator=seeded(i)) for i in range(3))
    (past,) = decode_chunk(vae, first, None)
    state = past.state
    before = [entry.clone() if isinstance(entry, torch.Tensor) else entry for entry in state]
    (alone,) = decode_chunk(vae, left, state)
    both = decode_chunk(vae, torch.cat([left, right]), state)
    (again,) = decode_chunk(vae, left, state)
    assert torch.equal(alone.frames, again.frames)
    torch.testing.assert_close(both[0].frames, alone.frames, atol=1e-5, rtol=0)
    assert len(both) == 2
    for old, new in zip(before, state, strict=True):
        assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new


@torch.no_grad()
def test_the_vaes_own_cache_is_left_alone() -> None:
    vae = tiny_vae()
    vae.clear_cache()
    decode_chunk(vae, torch.randn(1, 16, 3, 4, 4), None)
    assert all(entry is None for entry in vae._feat_map)
