"""The reward `tinyalign`: loads the dual encoder, and resizes frames to the size that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import functional

    from streamt1_tinyalign.model import TinyAlign as DualEncoder
else:
    functional = deferred("torch.nn.functional")

SIDE = 64  # height and width of the training clips in pixels
WEIGHTS = Path(__file__).parent / "weights"


@dataclass
class TinyAlign(Reward):
    """Match of a moving-shapes clip to its prompt, -1..1. Scores of other videos mean nothing.

    folder: weights that `streamt1_tinyalign.training` wrote; default: those in the package.
    """

    needs_prompt: ClassVar[bool] = True
    weights: ClassVar[str] = "packaged"
    weights_mb: ClassVar[float] = 2.2

    folder: Path | None = None

    def __post_init__(self) -> None:
        self._model: DualEncoder | None = None

    def load(self, device: str) -> None:
        from streamt1_tinyalign.model import CONFIG, load

        folder = self.folder or WEIGHTS
        if not (folder / CONFIG).is_file():
            raise PluginError(
                f"Reward 'tinyalign' needs {CONFIG} in {folder}. Leave `folder` out to use the weights in the package."
            )
        self._model = load(folder, device)

    def score(self, inp: RewardInput) -> RewardOutput:
        if self._model is None:
            raise PluginError("Reward 'tinyalign' is not loaded: call load(device) first.")
        return RewardOutput(self._model.score(at_world_size(inp.video), inp.prompts))

    def unload(self) -> None:
        self._model = None


def at_world_size(video: Tensor) -> Tensor:
    """Frames of any size, resized to ``[N, T, 3, 64, 64]`` float32."""
    count, frames, channels, height, width = video.shape
    if (height, width) == (SIDE, SIDE):
        return video.float()
    flat = functional.interpolate(
        video.flatten(0, 1).float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    return flat.clamp(0, 1).view(count, frames, channels, SIDE, SIDE)
