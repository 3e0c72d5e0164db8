"""Preview decoders of causal Wan models: which weights there are, read when the first preview is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.adapter import Decoded

LATENTS, SCALE = 16, 4  # channels of a latent frame; video frames of one
WIDTHS = (256, 128, 64, 64)
"""The channels of the stages of taew2_1."""

NAMES = ("taew2_1.safetensors", "taew2_1.pth")
DOWNLOAD = "https://github.com/madebyollin/taehv/raw/main/safetensors/taew2_1.safetensors (22.6 MB, MIT license)"

Decode = Callable[["Tensor", Any], "list[Decoded]"]
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


def state_elements(rows: int, columns: int) -> int:
    """Numbers in a state of taew2_1, for latents of this size."""
    return sum(3 * WIDTHS[stage] * rows * columns * 4**stage for stage in range(3))
