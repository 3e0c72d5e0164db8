"""Protects state that a SkyReels call changes: a setting of the transformer, and torch's global generator."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator


@contextmanager
def kept_block_size(transformer: Any) -> Iterator[None]:
    """Restore the transformer's block size afterwards: a later call without `causal_block_size` would inherit it."""
    model = getattr(transformer, "_orig_mod", transformer)
    before = model.config.num_frame_per_block
    try:
        yield
    finally:
        if model.config.num_frame_per_block != before:
            model.register_to_config(num_frame_per_block=before)


@contextmanager
def own_global_rng(device: torch.device, generator: Generator) -> Iterator[None]:
    """Seed torch's global generator of `device` from a candidate's generator; it is as before afterwards.

    `addnoise_condition` noises the overlap with `torch.randn_like`, which takes no generator.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    module = torch.get_device_module(device)
    with torch.random.fork_rng(devices=[device], device_type=device.type), module.device(device):
        # Not `torch.manual_seed`, which reseeds every device of the process and would have to save them all.
        module.manual_seed(seed)
        yield
