"""What goes over the wire: inputs and outputs of a reward as safetensors bytes. No pickle, nothing is executed.

An input is the tensors `video` and, where there is one, `anchor`, with everything else as JSON in the file's metadata
under `input`. An output is `scores`, `valid` where there is one, and `part.NAME`. Numbers arrive as they were sent.
"""

from __future__ import annotations

import json
import struct
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from streamt1_plugins.api.reward import DECLARED, Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError

TOKEN = "STREAMT1_REWARD_TOKEN"
"""Environment variable with the secret both ends share, where there is one."""

MAX_MB = 1024
"""The largest request a server takes unless told otherwise: 47 chunks of 12 frames of 480 x 832."""

PART = "part."


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Input(_Strict):
    """What an input has besides tensors."""

    prompts: tuple[str, ...]
    fps: float
    chunk: int
    chunk_count: int
    new_frames: tuple[int, int]
    frame_ids: tuple[tuple[tuple[str, int], ...], ...]


class Offer(_Strict):
    """What a server says of itself: the reward's name, what it declares, and the largest request in bytes."""

    protocol: Literal[1] = 1
    name: str
    max_bytes: int
    horizons: tuple[Literal["short", "long"], ...]
    needs_prompt: bool
    license: str
    weights: str
    weights_mb: float
    batch_limit: int | None
    batch_exact: bool
    lead_frames: int
    deterministic: bool


def offer(name: str, reward: Reward, max_bytes: int) -> Offer:
    """The offer of a server of `reward`."""
    return Offer(name=name, max_bytes=max_bytes, **{key: getattr(reward, key) for key in DECLARED})


def pack_input(inp: RewardInput) -> bytes:
    """An input as bytes."""
    start, stop, _ = inp.new_frames.indices(inp.video.shape[1])
    rest = _Input(
        prompts=inp.prompts,
        fps=inp.fps,
        chunk=inp.chunk,
        chunk_count=inp.chunk_count,
        new_frames=(start, stop),
        frame_ids=inp.frame_ids,
    )
    tensors = {"video": inp.video} if inp.anchor is None else {"video": inp.video, "anchor": inp.anchor}
    return _saved(tensors, {"input": rest.model_dump_json()})


def unpack_input(data: bytes) -> RewardInput:
    """The input behind `data`. Raises `PluginError` for anything that is none."""
    tensors, metadata = _loaded(data)
    try:
        rest = _Input.model_validate_json(metadata["input"])
        video, anchor = tensors["video"], tensors.get("anchor")
    except (KeyError, ValidationError) as error:
        raise PluginError(f"The request is not a reward's input: {error}.") from error
    if video.ndim != 5 or len(video) != len(rest.prompts) or (anchor is not None and len(anchor) != len(video)):
        raise PluginError(f"The request has {len(rest.prompts)} prompts and a video of shape {tuple(video.shape)}.")
    return RewardInput(
        video, rest.prompts, rest.fps, rest.chunk, rest.chunk_count, slice(*rest.new_frames), anchor, rest.frame_ids
    )


def pack_output(output: RewardOutput) -> bytes:
    """An output as bytes; scores in float32."""
    tensors = {"scores": output.scores.float()} | {PART + name: part.float() for name, part in output.parts.items()}
    return _saved(tensors if output.valid is None else {**tensors, "valid": output.valid}, {})


def unpack_output(data: bytes) -> RewardOutput:
    """The output behind `data`. Raises `PluginError` for anything that is none."""
    tensors, _ = _loaded(data)
    if "scores" not in tensors:
        raise PluginError("The answer holds no scores.")
    parts = {name.removeprefix(PART): part for name, part in tensors.items() if name.startswith(PART)}
    return RewardOutput(tensors["scores"], parts, tensors.get("valid"))


def _saved(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    return bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def _loaded(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; the header is 8 bytes of length and JSON, and safetensors itself checks the rest."""
    try:
        tensors = load(data)
        (size,) = struct.unpack("<Q", data[:8])
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, ValueError, struct.error) as error:
        raise PluginError(f"These bytes are not safetensors: {error}.") from error
    return dict(tensors), dict(metadata)
