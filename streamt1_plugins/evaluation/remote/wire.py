"""The format of requests and answers: a reward's inputs and outputs as safetensors bytes. No pickle, no code.

An input is the tensors `video` and, where there is one, `anchor`; everything else is JSON in the file's metadata, under
`input`. An output is the tensors `scores`, `valid` where there is one, and `part.NAME`. Numbers arrive bit by bit.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load, save
from torch import Tensor

from streamt1_plugins.api.reward import DECLARED, Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError, foreign_code
from streamt1_plugins.evaluation.outputs import checked

TOKEN = "STREAMT1_REWARD_TOKEN"  # the environment variable with the secret that client and server share
PART = "part."


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class _Input(_Message):
    """An input without its tensors."""

    prompts: tuple[str, ...]
    fps: float
    chunk: int
    chunk_count: int
    new_frames: tuple[int, int]
    frame_ids: tuple[tuple[tuple[str, int], ...], ...]


class Failure(_Message):
    """The answer to a request that is refused or fails."""

    error: str


class Offer(_Message):
    """What a server offers: the reward's name, its declarations, and the largest request in bytes."""

    protocol: Literal[1] = 1
    name: str
    max_bytes: int
    horizons: tuple[Literal["short", "long"], ...]
    needs_prompt: bool
    license: Annotated[str, Field(validation_alias=AliasChoices("license", "licence"))]  # servers up to 0.1: licence
    weights: str
    weights_mb: float
    batch_limit: int | None
    batch_exact: bool
    lead_frames: int
    deterministic: bool


def shared_token() -> str:
    """The secret of the environment, empty where there is none."""
    return os.environ.get(TOKEN, "").strip()


def offer(name: str, reward: Reward, max_bytes: int) -> Offer:
    """The offer of a server of `reward`. Raises `PluginError` for one that judges with the video model."""
    if reward.denoiser_calls():
        raise PluginError(
            f"Reward {name!r} judges with the video model, which only the search's own process has. Leave `where` out."
        )
    return Offer(name=name, max_bytes=max_bytes, **{key: getattr(reward, key) for key in DECLARED})


def pack_input(inp: RewardInput) -> bytes:
    """An input as bytes."""
    plain = {name: getattr(inp, name) for name in _Input.model_fields if name != "new_frames"}
    rest = _Input(new_frames=inp.new_frames.indices(inp.video.shape[1])[:2], **plain)
    # Cloned: safetensors refuses tensors that share memory, as an anchor does that is a view of the video.
    tensors = {"video": inp.video} if inp.anchor is None else {"video": inp.video, "anchor": inp.anchor.clone()}
    return _saved(tensors, {"input": rest.model_dump_json()})


def unpack_input(data: bytes) -> RewardInput:
    """The input that `data` holds. Raises `PluginError` for any other bytes."""
    tensors, metadata = _loaded(data)
    try:
        rest = _Input.model_validate_json(metadata["input"])
        video, anchor = tensors["video"], tensors.get("anchor")
    except (KeyError, ValidationError) as error:
        raise PluginError(f"The request is not a reward's input: {error}.") from error
    if video.ndim != 5 or len(video) != len(rest.prompts) or (anchor is not None and len(anchor) != len(video)):
        raise PluginError(f"The request has {len(rest.prompts)} prompts and a video of shape {tuple(video.shape)}.")
    return RewardInput(video, anchor=anchor, **{**dict(rest), "new_frames": slice(*rest.new_frames)})


def pack_output(output: RewardOutput) -> bytes:
    """An output as bytes; scores in float32. Raises `PluginError` for scores or parts that are no real numbers."""
    output = checked(output, "The reward")
    tensors = {"scores": output.scores} | {PART + name: part for name, part in output.parts.items()}
    copies = {name: tensor.float().clone() for name, tensor in tensors.items()}  # cloned: as in `pack_input`
    return _saved(copies if output.valid is None else {**copies, "valid": output.valid}, {})


def unpack_output(data: bytes) -> RewardOutput:
    """The output that `data` holds. Raises `PluginError` for any other bytes."""
    tensors, _ = _loaded(data)
    if "scores" not in tensors:
        raise PluginError("The answer has no scores.")
    parts = {name.removeprefix(PART): part for name, part in tensors.items() if name.startswith(PART)}
    return RewardOutput(tensors["scores"], parts, tensors.get("valid"))


def _saved(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    return bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def _loaded(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. A file begins with 8 bytes of length and a header of JSON, which `load` has checked."""
    with foreign_code("Reading bytes as safetensors"):
        tensors = load(data)
        (size,) = struct.unpack("<Q", data[:8])
        return dict(tensors), json.loads(data[8 : 8 + size]).get("__metadata__", {})
