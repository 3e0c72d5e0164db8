"""FramePack by interrupt-replay: exact, forkable, blended seams and all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from streamt1_framepack.adapter import FramepackAdapter
from streamt1_framepack.session import FramepackSession
from streamt1_plugins.adapter import History, MemoryPlan
from tests.adapters.tiny import seeded
from tests.adapters.tiny_framepack import tiny_framepack
from tests.adapters.tiny_skyreels import picture

CALL: dict[str, Any] = {"prompt": "a red circle", "image": picture(), "height": 32, "width": 32, "num_frames": 27}
CALL |= {"sampling_type": "vanilla", "latent_window_size": 3, "num_inference_steps": 2, "max_sequence_length": 16}
"""Three sections of 3 latent frames."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_framepack()


def opened(pipe: Any, **changes: Any) -> FramepackSession:
    return FramepackAdapter().open(pipe, {**CALL, **changes}, MemoryPlan())


def rolled(session: FramepackSession, seed: int | None = None) -> History:
    """The whole video, one candidate per chunk: the plain stream, or one generator per chunk."""
    history = session.root()
    for index in range(session.num_chunks):
        generator = None if seed is None else seeded(seed + index)
        latents = session.generate(history, session.draw(history, generator), [generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    return history


def ours(pipe: Any, **changes: Any) -> tuple[Any, torch.Tensor]:
    """What a session makes of the plain stream, and the state the caller's generator is left in."""
    generator = seeded(3)
    session = opened(pipe, generator=generator, **changes)
    result = session.finish(rolled(session))
    session.close()
    return result, generator.get_state()


def theirs(pipe: Any, **changes: Any) -> tuple[Any, torch.Tensor]:
    generator = seeded(3)
    return pipe(**{**CALL, **changes}, generator=generator), generator.get_state()


MATRIX: dict[str, dict[str, Any]] = {
    "vanilla": {},
    "one section": {"num_frames": 9},
    "five sections": {"num_frames": 45},
    "one latent frame per section": {"latent_window_size": 1, "num_frames": 3},
    "real guidance": {"true_cfg_scale": 3.0, "negative_prompt": "blue"},
    "unused negative prompt": {"negative_prompt": "blue"},
    "two prompts": {"prompt_2": "a blue square"},
    "sigmas": {"sigmas": [1.0, 0.4]},
}


@pytest.mark.parametrize("case", MATRIX)
def test_exact(pipe: Any, case: str) -> None:
    """Latents after every section, frames and the caller's generator: all as the plain pipeline leaves them."""
    expected, state = theirs(pipe, output_type="latent", **MATRIX[case])
    found, our_state = ours(pipe, output_type="latent", **MATRIX[case])
    assert len(found.frames) == len(expected.frames)
    assert all(map(torch.equal, found.frames, expected.frames))
    assert torch.equal(state, our_state)
    expected, found = theirs(pipe, output_type="pt", **MATRIX[case])[0], ours(pipe, output_type="pt", **MATRIX[case])[0]
    assert torch.equal(found.frames, expected.frames)
