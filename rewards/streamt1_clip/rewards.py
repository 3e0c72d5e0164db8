"""The rewards on CLIP. Rewards with the same model, revision and dtype share one copy of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from streamt1_backbones.checkpoint import load_strictly, read_state
from streamt1_backbones.consistency import ConsistencyReward
from streamt1_backbones.shared import Source
from streamt1_backbones.sources import DType, find_file
from streamt1_clip.backbone import CLIPS, Clip, Fit
from streamt1_plugins.api.image_reward import ImageReward
from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor, nn

BASE_32 = "openai/clip-vit-base-patch32"
LARGE_14 = "openai/clip-vit-large-patch14"


class UsesClip:
    """Mixin of rewards with a shared CLIP model, which is loaded between `load` and `unload`."""

    model: str
    revision: str | None
    dtype: DType
    _shared: Clip | None = None

    def load(self, device: str) -> None:
        """Raises `PluginError` where the weights cannot be read or are not those of a CLIP."""
        self._shared = CLIPS.get(Source(self.model, self.revision, self.dtype, device, self._extra()))

    def release(self) -> None:
        """Stop using the model. It is freed when no other reward uses it."""
        self._shared = None

    def _extra(self) -> str | None:
        return None

    @property
    def clip(self) -> Clip:
        if self._shared is None:
            raise PluginError(f"Reward {type(self).__name__} is not loaded: call load(device) first.")
        return self._shared


@dataclass(kw_only=True)
class ClipReward(UsesClip, ImageReward):
    """Base of image rewards on CLIP. model, revision: folder or repository. dtype: of the network."""

    batch_limit: ClassVar[int | None] = 32

    model: str = BASE_32
    revision: str | None = None
    dtype: DType = "auto"

    def unload(self) -> None:
        self.release()

    def cosines(self, frames: Tensor, prompts: tuple[str, ...], fit: Fit = "crop") -> Tensor:
        """Cosine similarity ``[M]`` of each frame and its prompt, -1..1."""
        return (self.clip.frames(frames, fit) * self.clip.texts(prompts)).sum(1)


@dataclass(kw_only=True)
class ClipScore(ClipReward):
    """Match of frames to the prompt, 0..2.5 and rarely above 1: ``2.5 * max(cosine, 0)`` (arXiv 2104.08718)."""

    needs_prompt: ClassVar[bool] = True
    license: ClassVar[str] = "MIT"
    weights: ClassVar[str] = BASE_32
    weights_mb: ClassVar[float] = 605

    def score_frames(self, frames: Tensor, prompts: tuple[str, ...]) -> Tensor:
        return 2.5 * self.cosines(frames, prompts).clamp(min=0)


@dataclass(kw_only=True)
class PickScore(ClipReward):
    """Human preference among pictures for a prompt, about 15..25: cosine times temperature (arXiv 2305.01569)."""

    needs_prompt: ClassVar[bool] = True
    license: ClassVar[str] = "MIT"
    weights: ClassVar[str] = "yuvalkirstain/PickScore_v1"
    weights_mb: ClassVar[float] = 3940

    model: str = "yuvalkirstain/PickScore_v1"

    def score_frames(self, frames: Tensor, prompts: tuple[str, ...]) -> Tensor:
        return self.clip.temperature * self.cosines(frames, prompts)


@dataclass(kw_only=True)
class HPSv2(ClipReward):
    """Human preference by HPSv2.1, about 0.2..0.35: cosine of whole frames and prompt (arXiv 2306.09341).

    model: the CLIP H/14 whose configuration and tokenizer are used. checkpoint, file: folder or repository with the
    weights, in the open_clip layout.
    """

    needs_prompt: ClassVar[bool] = True
    weights: ClassVar[str] = "xswu/HPSv2"
    weights_mb: ClassVar[float] = 4000

    model: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    checkpoint: str = "xswu/HPSv2"
    file: str = "HPS_v2.1_compressed.pt"

    def score_frames(self, frames: Tensor, prompts: tuple[str, ...]) -> Tensor:
        return self.cosines(frames, prompts, "letterbox")

    def _extra(self) -> str:
        return f"{self.checkpoint}:{self.file}"


@dataclass(kw_only=True)
class LaionAesthetic(ClipReward):
    """Aesthetic quality of frames, about 1..10, by the second LAION predictor; it ignores the prompt.

    It separates clips of one prompt poorly, so it suits demonstrations better than selection. checkpoint, file: folder
    or repository with the small network on top of CLIP L/14.
    """

    weights: ClassVar[str] = f"{LARGE_14} + trl-lib/ddpo-aesthetic-predictor"
    weights_mb: ClassVar[float] = 1714

    model: str = LARGE_14
    checkpoint: str = "trl-lib/ddpo-aesthetic-predictor"
    file: str = "aesthetic-model.pth"

    def __post_init__(self) -> None:
        self._head: nn.Module | None = None

    def load(self, device: str) -> None:
        """Raises `PluginError` where the weights of either network cannot be read."""
        path = find_file("laion-aesthetic", self.checkpoint, self.file)
        super().load(device)
        self._head = aesthetic_head(read_state(path)).to(device)

    def score_frames(self, frames: Tensor, prompts: tuple[str, ...]) -> Tensor:
        embedded = self.clip.frames(frames)
        if self._head is None:
            raise PluginError("Reward 'laion-aesthetic' is not loaded: call load(device) first.")
        scores: Tensor = self._head(embedded)[:, 0]
        return scores

    def unload(self) -> None:
        super().unload()
        self._head = None


def aesthetic_head(state: dict[str, Tensor]) -> nn.Module:
    """The predictor's five linear layers in float32, with the sizes of the checkpoint and without its dropout."""
    from torch import nn

    places = (0, 2, 4, 6, 7)
    shapes = [tuple(state[f"layers.{i}.weight"].shape) for i in places if f"layers.{i}.weight" in state]
    sizes = shapes if len(shapes) == len(places) else [(1, 1)] * len(places)
    head = nn.Module()
    layers: list[nn.Module] = [nn.Identity() for _ in range(8)]
    for place, (rows, columns) in zip(places, sizes, strict=True):
        layers[place] = nn.Linear(columns, rows)
    head.layers = nn.Sequential(*layers)
    load_strictly(head, state, "The head of reward 'laion-aesthetic'")
    return head.layers.eval()


@dataclass(kw_only=True)
class BackgroundConsistency(UsesClip, ConsistencyReward):
    """Consistency of the scene, 0..1: CLIP similarity of frames to the first and the previous one, as in VBench.

    model, revision: folder or repository. dtype: of the network.
    """

    license: ClassVar[str] = "MIT"
    weights: ClassVar[str] = BASE_32
    weights_mb: ClassVar[float] = 605

    model: str = BASE_32
    revision: str | None = None
    dtype: DType = "auto"
    cache_mb: Annotated[float, Field(ge=0)] = 64.0

    def features(self, frames: Tensor) -> Tensor:
        return self.clip.frames(frames, "crop-aliased")
