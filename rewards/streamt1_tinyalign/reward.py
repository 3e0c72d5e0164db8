"""The reward `tinyalign`: loads the dual encoder, and resizes frames to the size that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from streamt1_plugins.api.image_reward import MEBIBYTE, TensorCache
from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import torch
    from torch import Tensor
    from torch.nn import functional

    from streamt1_plugins.api.reward import FrameKey
    from streamt1_tinyalign.model import TinyAlign as DualEncoder
else:
    torch, functional = deferred("torch"), deferred("torch.nn.functional")

SIDE = 64  # height and width of the training clips in pixels
WEIGHTS = Path(__file__).parent / "weights"


@dataclass
class TinyAlign(Reward):
    """Match of a moving-shapes clip to its prompt, -1..1. Scores of other videos mean nothing.

    folder: weights that `streamt1_tinyalign.training` wrote; default: those in the package. cache_mb: memory for what
    was seen in the frames of earlier chunks, which candidates and sliding windows share.
    """

    batch_exact: ClassVar[bool] = True

    needs_prompt: ClassVar[bool] = True
    weights: ClassVar[str] = "packaged"
    weights_mb: ClassVar[float] = 2.2

    folder: Path | None = None
    cache_mb: Annotated[float, Field(ge=0)] = 32.0

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
        return RewardOutput(torch.cat([self._row(self._model, inp, row) for row in range(len(inp.prompts))]))

    def unload(self) -> None:
        self._model = None
        self.reset()

    def reset(self) -> None:
        self._cache.clear()

    @cached_property
    def _cache(self) -> TensorCache[Hashable]:
        return TensorCache(self.cache_mb * MEBIBYTE)

    def _row(self, model: DualEncoder, inp: RewardInput, row: int) -> Tensor:
        """The cosine ``[1]`` of one candidate, made without the others."""
        video, keys = inp.video[row : row + 1], inp.frame_ids[row] if inp.frame_ids else ()
        seen = self._seen(model, video, keys) if keys else frame_vectors(model, video)
        clip = functional.normalize(model.video.pooled(seen), dim=-1)
        return (clip * self._text(model, inp.prompts[row])).sum(-1).float()

    def _seen(self, model: DualEncoder, video: Tensor, keys: tuple[FrameKey, ...]) -> Tensor:
        """The vectors of all frames, chunk by chunk.

        A chunk is always seen together with the end of the one before, whose last frames it completes, and with nothing
        else: what is cached changes no bit.
        """
        from streamt1_tinyalign.model import REACH

        ends = accumulate(len(list(chunk)) for _, chunk in groupby(keys, key=lambda key: key[0]))
        seen = video.new_zeros(1, 0, 0)
        for start, end in pairwise([0, *ends]):
            first, changed = max(0, start - 2 * REACH), max(0, start - REACH)
            found = self._cached(keys[first:end], partial(frame_vectors, model, video[:, first:end]))
            seen = torch.cat([seen[:, :changed], found[:, changed - first :]], dim=1) if start else found
        return seen

    def _text(self, model: DualEncoder, prompt: str) -> Tensor:
        weight = model.temperature
        return self._cached(prompt, lambda: model.embed_text(model.tokenize([prompt]).to(weight.device)))

    def _cached(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        found = self._cache.get(key)
        if found is None:
            found = make()
            self._cache.put(key, found)
        return found


def frame_vectors(model: DualEncoder, video: Tensor) -> Tensor:
    """The vectors of the frames ``[N, T, 3, H, W]``."""
    weight = model.temperature
    return model.video.frames(at_world_size(video).to(weight.device, weight.dtype))


def at_world_size(video: Tensor) -> Tensor:
    """Frames of any size, resized to ``[N, T, 3, 64, 64]`` float32."""
    count, frames, channels, height, width = video.shape
    if (height, width) == (SIDE, SIDE):
        return video.float()
    flat = functional.interpolate(
        video.flatten(0, 1).float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    return flat.clamp(0, 1).view(count, frames, channels, SIDE, SIDE)
