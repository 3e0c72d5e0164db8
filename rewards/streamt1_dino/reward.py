"""Subject consistency as in VBench (https://github.com/Vchitect/VBench), with the first version of DINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamt1_backbones.checkpoint import check_finite, check_keys
from streamt1_backbones.consistency import ConsistencyReward
from streamt1_backbones.frames import IMAGENET_MEAN, IMAGENET_STD, normalise, resize, short_side
from streamt1_backbones.shared import Shared, Source
from streamt1_backbones.sources import DType, fetching, quiet, torch_dtype
from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

DINO = "facebook/dino-vitb16"
SIDE = 224  # pixels of the shorter side; the aspect ratio is kept


class Dino:
    """A DINO or DINOv2 model, whose first token represents the whole picture."""

    def __init__(self, model: Any, device: str) -> None:
        self.model = model
        self._device = device
        self._patch = int(model.config.patch_size)
        self._is_first = model.config.model_type == "vit"

    def features(self, frames: Tensor) -> Tensor:
        """Features ``[M, D]`` in float32 of ``[M, 3, H, W]`` frames in ``[0, 1]``, which are not cropped."""
        small = short_side(frames.to(self._device), SIDE, "bilinear", antialias=not self._is_first)
        whole = (small.shape[-2] // self._patch * self._patch, small.shape[-1] // self._patch * self._patch)
        # DINO ignores pixels beyond whole patches; DINOv2 raises an error for them
        fitted = small[..., : whole[0], : whole[1]] if self._is_first else resize(small, whole)
        options = {"interpolate_pos_encoding": True} if self._is_first else {}
        pixels = normalise(fitted, IMAGENET_MEAN, IMAGENET_STD).to(self.model.dtype)
        found: Tensor = self.model(pixel_values=pixels, **options).last_hidden_state[:, 0].float()
        return found


def _load(source: Source) -> Dino:
    from transformers import AutoConfig, Dinov2Model, ViTModel

    dtype = torch_dtype(source.dtype, source.device)
    with quiet(), fetching("subject-consistency", source.model):
        config = AutoConfig.from_pretrained(source.model, revision=source.revision, trust_remote_code=False)
        kinds = {"vit": (ViTModel, {"add_pooling_layer": False}), "dinov2": (Dinov2Model, {})}
        if config.model_type not in kinds:
            raise PluginError(f"Reward 'subject-consistency' needs a DINO or DINOv2 model, got {config.model_type!r}.")
        kind, options = kinds[config.model_type]
        made = kind.from_pretrained(
            source.model, revision=source.revision, dtype=dtype, output_loading_info=True, **options
        )
    unknown = [key for key in made[1]["unexpected_keys"] if not key.startswith(("pooler.", "classifier."))]
    check_keys(f"The checkpoint {source.model!r}", made[1]["missing_keys"], unknown)
    model = made[0].to(source.device).eval()
    check_finite(model, f"The checkpoint {source.model!r}")
    return Dino(model, source.device)


DINOS: Shared[Dino] = Shared(_load)


@dataclass(kw_only=True)
class SubjectConsistency(ConsistencyReward):
    """Consistency of the subject, 0..1: DINO similarity of frames to the first and the previous one.

    model, revision: folder or repository of a DINO (`facebook/dino-vitb16`, VBench's; `-vits16` is smaller and faster)
    or a DINOv2 (`facebook/dinov2-base`; other scores). dtype: of the network.
    """

    weights: ClassVar[str] = DINO
    weights_mb: ClassVar[float] = 343

    model: str = DINO
    revision: str | None = None
    dtype: DType = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._shared: Dino | None = None

    def load(self, device: str) -> None:
        """Raises `PluginError` where the weights cannot be read or are of another kind."""
        self._shared = DINOS.get(Source(self.model, self.revision, self.dtype, device))

    def features(self, frames: Tensor) -> Tensor:
        if self._shared is None:
            raise PluginError("Reward 'subject-consistency' is not loaded: call load(device) first.")
        return self._shared.features(frames)

    def release(self) -> None:
        self._shared = None
