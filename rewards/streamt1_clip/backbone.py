"""Embeddings of frames and prompts by a CLIP model that several rewards share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from streamt1_backbones.checkpoint import check_finite, check_keys, read_state
from streamt1_backbones.frames import CLIP_MEAN, CLIP_STD, centre_crop, letterbox, normalise, short_side
from streamt1_backbones.shared import Shared, Source
from streamt1_backbones.sources import fetching, find_file, quiet, torch_dtype
from streamt1_clip.openclip import from_open_clip
from streamt1_plugins.api.shared_frames import once
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor
    from torch.nn import functional
else:
    torch, functional = deferred("torch"), deferred("torch.nn.functional")

Fit = Literal["crop", "crop-aliased", "letterbox"]
"""`crop`: the middle square; `crop-aliased`: without antialiasing, as in VBench; `letterbox`: with black borders."""


class Clip:
    """A CLIP model with its tokenizer. Embeddings are ``[M, D]`` float32 of length 1."""

    def __init__(self, model: Any, tokenizer: Any, device: str) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._device = device
        self._side = int(model.config.vision_config.image_size)
        self._longest = int(model.config.text_config.max_position_embeddings)

    @property
    def temperature(self) -> Tensor:
        """The factor of cosines in training."""
        scale: Tensor = self.model.logit_scale.float().exp()
        return scale

    def frames(self, frames: Tensor, fit: Fit = "crop") -> Tensor:
        """Embeddings of ``[M, 3, H, W]`` frames in ``[0, 1]``.

        Rewards on this model share those of the same frames: do not change them in place.
        """
        return once(frames, ("clip", id(self), fit), partial(self._frames, fit=fit))

    def _frames(self, frames: Tensor, fit: Fit) -> Tensor:
        frames = frames.to(self._device)
        if fit == "letterbox":
            square = letterbox(frames, self._side)
        else:
            square = centre_crop(short_side(frames, self._side, antialias=fit == "crop"), self._side)
        pixels = normalise(square, CLIP_MEAN, CLIP_STD).to(self.model.dtype)
        return functional.normalize(pooled(self.model.get_image_features(pixel_values=pixels)).float(), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of prompts, which are truncated to the text length of the model."""
        distinct = list(dict.fromkeys(texts))
        coded = self._tokenizer(
            distinct, padding="max_length", truncation=True, max_length=self._longest, return_tensors="pt"
        ).to(self._device)
        features = pooled(
            self.model.get_text_features(input_ids=coded["input_ids"], attention_mask=coded["attention_mask"])
        )
        return functional.normalize(features.float(), dim=-1)[[distinct.index(text) for text in texts]]


def pooled(output: Any) -> Tensor:
    """The projected embedding, which transformers 5 wraps in an output object."""
    found: Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found


def _load(source: Source) -> Clip:
    from transformers import AutoConfig, AutoTokenizer, CLIPModel

    options: dict[str, Any] = {"dtype": torch_dtype(source.dtype, source.device), "output_loading_info": True}
    with quiet(), fetching("CLIP", source.model):
        tokenizer = AutoTokenizer.from_pretrained(source.model, revision=source.revision, trust_remote_code=False)
        if source.extra is None:
            made = CLIPModel.from_pretrained(source.model, revision=source.revision, **options)
        else:
            config = AutoConfig.from_pretrained(source.model, revision=source.revision, trust_remote_code=False)
            state = from_open_clip(read_state(_checkpoint(source.extra)))
            made = CLIPModel.from_pretrained(None, config=config, state_dict=state, **options)
    what = f"The CLIP checkpoint {source.extra or source.model!r}"
    check_keys(what, made[1]["missing_keys"], [key for key in made[1]["unexpected_keys"] if "position_ids" not in key])
    model = made[0].to(source.device).eval()
    check_finite(model, what)
    return Clip(model, tokenizer, source.device)


def _checkpoint(place: str) -> Any:
    """Path of the file that ``folder-or-repository:file`` names."""
    repository, _, name = place.rpartition(":")
    return find_file("CLIP", repository, name)


CLIPS: Shared[Clip] = Shared(_load)
