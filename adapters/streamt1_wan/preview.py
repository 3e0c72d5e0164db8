"""Preview decoders of causal Wan models: which weights there are, read when the first preview is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.api.adapter import Decoded
from streamt1_plugins.api.weights import read_weights
from streamt1_plugins.errors import InputError
from streamt1_wan.tiny_decoder import LATENTS, SCALE, from_weights

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_wan.tiny_decoder import TinyDecoder

NAMES = ("taew2_1.safetensors", "taew2_1.pth")
DOWNLOAD = "https://github.com/madebyollin/taehv/raw/main/safetensors/taew2_1.safetensors (22.6 MB, MIT license)"

Decode = Callable[["Tensor", Any], list[Decoded]]
"""Frames and states of N candidates' latents after one state, None at the start of the video."""


@dataclass(frozen=True)
class Preview:
    """A preview decoder that `load` makes of the weights in `file` when it is first needed, or why there is none."""

    load: Callable[[], Decode]
    file: Path | None

    @property
    def exists(self) -> bool:
        """Whether there is a file, whatever it holds."""
        return self.file is not None and self.file.is_file()

    @property
    def problem(self) -> str | None:
        """Why there is no decoder, with the file to download; None where there is one."""
        return self._found if isinstance(self._found, str) else None

    def __call__(self, latents: Tensor, state: Any) -> list[Decoded]:
        """Previews of N candidates ``[N, C, F, h, w]`` that follow one state. Raises `InputError` without a decoder."""
        if isinstance(self._found, str):
            raise InputError(self._found)
        return self._found(latents, state)

    @cached_property
    def _found(self) -> Decode | str:
        try:
            return self.load()
        except InputError as error:
            return str(error)


def file_of(option: str | None, folder: str | None, names: tuple[str, ...]) -> Path | None:
    """The file that the adapter's option names, or one of the `names` in the model's folder; None for neither."""
    if option is not None:
        return Path(option).expanduser()
    beside = [Path(folder or "", name) for name in names if folder]
    return next((file for file in beside if file.is_file()), None)


def load_taehv(pipe: Any, file: Path | None) -> Decode:
    """The decoder with the weights `taew2_1`. Raises `InputError` where they are missing, others, or do not fit."""
    if (pipe.vae.config.z_dim, pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal) != (LATENTS, 8, SCALE):
        raise InputError("the preview decoder taew2_1 is for the latents of Wan 2.1, and the model's VAE has others")
    if file is None:
        raise InputError(
            f"the weights of the preview decoder are missing: download {DOWNLOAD} to the model's folder, or name the "
            "file with adapter.preview"
        )
    try:
        decoder = from_weights(read_weights(file))
    except InputError as error:
        raise InputError(f"{error} The preview decoder is {DOWNLOAD}") from error
    except RuntimeError as error:
        raise InputError(f"{file} has not the layout of taew2_1: download {DOWNLOAD}") from error
    device = pipe._execution_device
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
    return partial(decoded, decoder.to(device, dtype))


def decoded(decoder: TinyDecoder, latents: Tensor, state: Any) -> list[Decoded]:
    """Previews of N candidates, one at a time: the same bits whatever their number."""
    weight = next(decoder.parameters())
    return [Decoded(*decoder(row, state)) for row in torch.split(latents.to(weight), 1)]
