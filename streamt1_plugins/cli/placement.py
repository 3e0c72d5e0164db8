"""Moves a loaded model to its device, with some components offloaded to CPU memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.errors import foreign_code, unknown_name

if TYPE_CHECKING:
    from streamt1_plugins.config.schema import PlacementSettings

ENCODERS = ("text_encoder", "image_encoder")


def move_components(pipe: Any, settings: PlacementSettings, device: str) -> None:
    """Move a loaded pipeline to `device`, with the weights of offloaded components kept in CPU memory.

    Raises `UnknownNameError` for a component the pipeline lacks.
    """
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    for name in settings.offload:
        if name not in modules:
            raise unknown_name("component of the pipeline", name, modules)
    for name, module in modules.items():
        with foreign_code(f"Moving {name} to {device!r}"):
            if name in settings.offload:
                _offload(name, module, device)
            else:
                module.to(device)


def _offload(name: str, module: torch.nn.Module, device: str) -> None:
    """Move an encoder whole when it runs, which it does once, and each layer of another component when that runs."""
    import accelerate

    if name.startswith(ENCODERS):
        accelerate.cpu_offload_with_hook(module, torch.device(device))
    else:
        accelerate.cpu_offload(module, torch.device(device))
