"""The reward around the dual encoder: loads it when a run starts, brings frames to the size it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor
from torch.nn.functional import interpolate

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from streamt1_tinyalign.model import TinyAlign as DualEncoder

SIDE = 64  # pixels, height and width of the world it knows
WEIGHTS = Path(__file__).parent / "weights"


@dataclass
class TinyAlign(Reward):
    """How well a clip of moving shapes shows what its prompt says. Knows only that world; meaningless on others.

    folder: weights of your own training; the packaged ones if left out.
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
            raise PluginError(f"Reward 'tinyalign' finds no weights in {folder}. Without `folder` it uses its own.")
        self._model = load(folder, device)

    def score(self, inp: RewardInput) -> RewardOutput:
        if self._model is None:
            raise PluginError("Reward 'tinyalign' is not loaded: call load(device) first.")
        return RewardOutput(self._model.score(at_world_size(inp.video), inp.prompts))

    def unload(self) -> None:
        self._model = None


def at_world_size(video: Tensor) -> Tensor:
    """``[N, T, 3, 64, 64]`` from frames of any size, float32."""
    count, frames, channels, height, width = video.shape
    if (height, width) == (SIDE, SIDE):
        return video.float()
    flat = interpolate(video.flatten(0, 1).float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return flat.clamp(0, 1).view(count, frames, channels, SIDE, SIDE)
