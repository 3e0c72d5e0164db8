"""Bytes on the wire: what is sent arrives bit by bit, and other bytes are a `PluginError`."""

from __future__ import annotations

import json
import math
import struct
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamt1_basic.rewards import Flicker
from streamt1_plugins.api.reward import RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError
from streamt1_plugins.evaluation.remote import wire
from tests.evaluation.remote.serving import example

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8)
SIZES = st.integers(0, 2)
NUMBERS = st.integers(-(2**40), 2**40)


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...] = DTYPES) -> torch.Tensor:
    """Any bits, so also any NaN and infinity."""
    dtype = draw(st.sampled_from(dtypes))
    size = math.prod(shape) * dtype.itemsize
    data = bytearray(draw(st.binary(min_size=size, max_size=size)))
    return torch.frombuffer(data, dtype=dtype).reshape(shape) if data else torch.empty(shape, dtype=dtype)


@st.composite
def inputs(draw: st.DrawFn) -> RewardInput:
    count, frames, height, width = draw(st.integers(1, 3)), draw(SIZES), draw(SIZES), draw(SIZES)
    video = draw(tensors((count, frames, 3, height, width)))
    shares = draw(st.booleans())
    anchor = video[:, :1] if shares else draw(st.none() | tensors((count, draw(SIZES), 3, height, width)))
    row = st.lists(st.tuples(st.text(), NUMBERS), min_size=frames, max_size=frames).map(tuple)
    start = draw(st.integers(0, frames))
    return RewardInput(
        video=video,
        prompts=tuple(draw(st.lists(st.text(), min_size=count, max_size=count))),
        fps=draw(st.floats()),
        chunk=draw(NUMBERS),
        chunk_count=draw(NUMBERS),
        new_frames=slice(start, draw(st.integers(start, frames))),
        anchor=anchor,
        frame_ids=tuple(draw(st.just([]) | st.lists(row, min_size=count, max_size=count))),
    )


@st.composite
def outputs(draw: st.DrawFn) -> RewardOutput:
    count = draw(st.integers(0, 4))
    numbers = tensors((count,), (torch.float32,))
    scores = draw(numbers)
    parts = draw(st.dictionaries(st.text(), numbers | st.just(scores), max_size=3))
    valid = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=torch.bool)
    return RewardOutput(scores, parts, draw(st.none() | st.just(valid)))


def same(one: Any, other: Any) -> bool:
    """Whether two tensors (or Nones) have the same type, shape and bits."""
    if one is None or other is None:
        return one is other
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


@EXAMPLES
@given(inputs())
def test_an_input_arrives_as_it_was_sent(inp: RewardInput) -> None:
    got = wire.unpack_input(wire.pack_input(inp))
    assert same(got.video, inp.video)
    assert same(got.anchor, inp.anchor)
    assert repr(got.fps) == repr(inp.fps)  # NaN is not equal to itself
    rest: dict[str, Any] = {"video": None, "anchor": None, "fps": 0.0}
    assert replace(got, **rest) == replace(inp, **rest)


@EXAMPLES
@given(outputs())
def test_an_output_arrives_as_it_was_sent(output: RewardOutput) -> None:
    got = wire.unpack_output(wire.pack_output(output))
    assert same(got.scores, output.scores)
    assert same(got.valid, output.valid)
    assert got.parts.keys() == output.parts.keys()
    assert all(same(got.parts[name], part) for name, part in output.parts.items())


@EXAMPLES
@given(inputs(), outputs(), st.data())
def test_truncated_bytes_are_refused(inp: RewardInput, output: RewardOutput, data: st.DataObject) -> None:
    for packed, unpack in ((wire.pack_input(inp), wire.unpack_input), (wire.pack_output(output), wire.unpack_output)):
        with pytest.raises(PluginError):
            unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


@EXAMPLES
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    for unpack in (wire.unpack_input, wire.unpack_output):
        with pytest.raises(PluginError):
            unpack(data)


def file_of(header: Any, data: bytes = b"") -> bytes:
    """A file with this header, as safetensors has it."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HEADERS = st.dictionaries(
    st.sampled_from(["scores", "video", "valid"]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F8_E8M0", "F4", "I64", "?"]),
            "shape": st.lists(st.sampled_from([0, 1, 2, 2**31, 2**62]), max_size=5),
            "data_offsets": st.tuples(*[st.sampled_from([0, 4, 8, 2**62])] * 2),
        }
    ),
)


@EXAMPLES
@given(HEADERS, st.binary(max_size=16))
def test_a_header_that_lies_raises_nothing_but_plugin_errors(header: dict[str, Any], data: bytes) -> None:
    for unpack in (wire.unpack_input, wire.unpack_output):
        with suppress(PluginError):
            unpack(file_of(header, data))


@EXAMPLES
@given(inputs(), st.data())
def test_a_changed_byte_raises_nothing_but_plugin_errors(inp: RewardInput, data: st.DataObject) -> None:
    packed = bytearray(wire.pack_input(inp))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with suppress(PluginError):
        wire.unpack_input(bytes(packed))


def test_an_output_is_not_an_input() -> None:
    with pytest.raises(PluginError, match="not a reward's input"):
        wire.unpack_input(wire.pack_output(RewardOutput(torch.ones(1))))
    with pytest.raises(PluginError, match="no scores"):
        wire.unpack_output(wire.pack_input(example()))


def test_an_input_needs_one_prompt_for_each_video() -> None:
    with pytest.raises(PluginError, match="3 prompts and a video of shape"):
        wire.unpack_input(wire.pack_input(replace(example(), prompts=("a",) * 3)))


def test_an_offer_of_an_older_server_has_its_license_under_the_old_name() -> None:
    offer = wire.offer("flicker", Flicker(), 2**20)
    old = json.loads(offer.model_dump_json())
    old["licence"] = old.pop("license")
    assert wire.Offer.model_validate_json(json.dumps(old)) == offer
