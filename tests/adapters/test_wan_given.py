"""Continuing an image or a video: given frames become committed chunks, and the search continues from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

import streamt1_plugins as streamt1
from streamt1_basic.rewards import Basic
from streamt1_plugins.api.adapter import History, MemoryPlan
from streamt1_plugins.errors import InputError
from streamt1_plugins.resuming import resume
from streamt1_plugins.runs.observers.record import record_to
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters.tiny import seeded, tiny_pipeline

if TYPE_CHECKING:
    from diffusers import WanPipeline

    from streamt1_wan.session import CausalWanSession

CALL: dict[str, Any] = {
    "prompt": "a red circle",
    "height": 32,
    "width": 32,
    "num_frames": 45,
    "max_sequence_length": 16,
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pipe() -> WanPipeline:
    return tiny_pipeline()


def clip(frames: int) -> torch.Tensor:
    """Smooth colours that drift, ``[T, 3, 32, 32]``."""
    time = torch.linspace(0, 1, frames).view(-1, 1, 1, 1)
    rows = torch.linspace(0, 1, 32).view(1, 1, -1, 1)
    shade = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1)
    return (0.4 * time + 0.4 * rows + 0.2 * shade).expand(frames, 3, 32, 32).contiguous()


def opened(pipe: WanPipeline, adapter: CausalWanAdapter | None = None, **changes: Any) -> CausalWanSession:
    return (adapter or CausalWanAdapter(timesteps=(1000, 500))).open(pipe, {**CALL, **changes}, MemoryPlan())


def test_a_video_becomes_committed_chunks(pipe: WanPipeline) -> None:
    session = opened(pipe, video=clip(21))
    root = session.root()
    assert (root.index, session.num_chunks, session.forwards) == (2, 4, 2)
    assert [len(frames) for frames in root.frames] == [9, 12]
    assert [block.start for block in root.memory.blocks] == [0, 3]
    whole = session.decode(History(), torch.cat(root.latents, dim=2))[0]
    assert torch.equal(torch.cat(root.frames), whole.frames)
    session.close()


def test_latents_are_those_of_the_stock_vae(pipe: WanPipeline) -> None:
    session = opened(pipe, video=clip(9))
    (latents,) = session.root().latents
    session.close()
    mean, std = (
        torch.tensor(getattr(pipe.vae.config, n)).view(1, -1, 1, 1, 1) for n in ("latents_mean", "latents_std")
    )
    with torch.no_grad():
        moments = pipe.vae.encode(clip(9).transpose(0, 1)[None] * 2 - 1).latent_dist
    torch.testing.assert_close(latents, (moments.mode() - mean) / std, atol=1e-6, rtol=0)


def test_what_follows_depends_on_what_was_given(pipe: WanPipeline) -> None:
    def third_chunk(video: torch.Tensor) -> torch.Tensor:
        session = opened(pipe, video=video)
        history = session.root()
        latents = session.generate(history, session.draw(history, seeded(0)), [seeded(0)])
        frames = session.decode(history, latents)[0].frames
        session.close()
        assert len(frames) == 12, "the decoder continues; a cold one would give 9 frames"
        return latents

    assert torch.equal(third_chunk(clip(21)), third_chunk(clip(21)))
    assert not torch.equal(third_chunk(clip(21)), third_chunk(clip(21).flip(2)))


def test_an_image_stands_still_for_the_first_chunk(pipe: WanPipeline) -> None:
    session = opened(pipe, image=clip(1)[0])
    still = opened(tiny_pipeline(), video=clip(1).expand(9, -1, -1, -1))
    assert session.root().index == 1
    assert torch.equal(session.root().latents[0], still.root().latents[0])
    session.close()
    still.close()


def test_a_frame_wise_model_takes_the_one_frame(pipe: WanPipeline) -> None:
    session = opened(pipe, CausalWanAdapter(chunk_frames=1, timesteps=(1000,)), image=clip(1), num_frames=9)
    root = session.root()
    assert (root.index, len(root.frames[0]), root.latents[0].shape[2], session.num_chunks) == (1, 1, 1, 3)
    session.close()


def forms() -> dict[str, Any]:
    video = (clip(9) * 255).round().to(torch.uint8)
    arrays = video.movedim(1, -1).numpy()
    return {
        "8-bit tensor": video,
        "batch of one": video[None],
        "float array": (arrays / 255.0).astype(np.float32),
        "8-bit array": arrays,
        "images": [Image.fromarray(each) for each in arrays],
        "list of arrays": list(arrays),
    }


@pytest.mark.parametrize("form", forms())
def test_every_form_of_frames(form: str, pipe: WanPipeline) -> None:
    session, plain = opened(pipe, video=forms()[form]), (clip(9) * 255).round() / 255
    found = session.root().latents[0]
    session.close()
    session = opened(pipe, video=plain)
    torch.testing.assert_close(found, session.root().latents[0], atol=1e-5, rtol=0)
    session.close()


REFUSED = [
    ({"video": clip(20)}, r"20 frames.*first has 9, every other one 12.*keep the last 9, or give 21"),
    ({"video": clip(3)}, "3 frames.*give 9 or 21"),
    ({"video": clip(45)}, "`num_frames` = 45 counts the whole video.*Ask for 57 frames or more"),
    ({"video": clip(9), "image": clip(1)}, "either `image` .* or `video`"),
    ({"image": clip(2)}, "`image` has 2 frames"),
    ({"video": clip(9)[..., :16]}, "32x16 .height x width., but the video is 32x32.*height=32, width=16"),
    ({"video": clip(9) * 2 - 1}, "values from -0.9.* expected 0 to 1"),
    ({"video": clip(9).log() * 0 + float("nan")}, "values from nan"),
    ({"video": torch.zeros(9, 1, 32, 32)}, r"shape \[9, 1, 32, 32\]"),
    ({"video": []}, "`video` is empty"),
    ({"image": "cat.png"}, "cannot be a str"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message[:24] for _, message in REFUSED])
def test_unusable_frames(changes: dict[str, Any], message: str, pipe: WanPipeline) -> None:
    with pytest.raises(InputError, match=message):
        opened(pipe, **changes)
    assert type(pipe.transformer.blocks[0].attn1.processor).__name__ == "WanAttnProcessor"


# Through the search.

SEARCH: dict[str, Any] = {
    "extends": "stream-t1",
    "adapter": {"name": "wan", "timesteps": [1000, 500]},
    "search": {"candidates": 2, "top_k": 2},
    "rewards": {"short": {"basic": {}}, "long": {"basic": {}}},
}


def searched(recipe: dict[str, Any] | None = None, **changes: Any) -> streamt1.StreamPipeline:
    wrapped = streamt1.wrap(tiny_pipeline(), {**SEARCH, **(recipe or {})})
    wrapped(**{**CALL, "video": clip(21), "output_type": "pt", **changes})
    return wrapped


def test_the_search_begins_after_the_given_chunks() -> None:
    wrapped = searched()
    chunks = {index: [node.parent for node in wrapped.tree.chunk(index)] for index in range(4)}
    assert chunks[0] == chunks[1] == []
    assert chunks[2] == [None] * 4, "the first searched chunk is as wide as a first chunk"
    assert len(chunks[3]) == 4
    assert None not in chunks[3]
    assert [node.route for node in wrapped.tree.chunk(2)] == [None] * 4, "there is no earlier score to compare with"
    assert all(node.route for node in wrapped.tree.chunk(3))
    assert len(wrapped.tree.winner) == 2
    assert [len(frames) for frames in wrapped.last_run.beams[0].history.frames] == [9, 12, 12, 12]


@pytest.mark.parametrize("decode", ["carried", "cold"])
def test_rewards_see_the_given_frames(decode: str) -> None:
    seen: list[Any] = []
    score = Basic.score

    def spy(self: Any, inp: Any) -> Any:
        seen.append(inp)
        return score(self, inp)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Basic, "score", spy)
        searched({"rewards": {**SEARCH["rewards"], "decode": decode}})
    first = next(inp for inp in seen if inp.chunk == 2)
    assert first.anchor is not None
    assert first.anchor.shape[1] == 9
    longest = max(inp.video.shape[1] for inp in seen)
    assert longest == 45


def test_streaming_gives_the_given_chunks_first() -> None:
    wrapped = streamt1.wrap(tiny_pipeline(), SEARCH)
    chunks = list(wrapped.stream(**{**CALL, "video": clip(21)}))
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3]
    assert [len(chunk.frames) for chunk in chunks] == [9, 12, 12, 12]


def test_a_run_that_continues_frames_can_be_resumed(tmp_path: Path) -> None:
    def stop(pipe: Any, index: int, arguments: Any) -> dict[str, Any]:
        if index == 2:
            raise KeyboardInterrupt
        return {}

    whole = searched().last_run
    wrapped = streamt1.wrap(tiny_pipeline(), SEARCH, observers=record_to(tmp_path / "run"))
    call = {**CALL, "video": clip(21), "output_type": "pt"}
    with pytest.raises(KeyboardInterrupt):
        wrapped(**call, on_chunk_end=stop)
    with pytest.raises(InputError, match="pass video again"):
        resume(tmp_path / "run", tiny_pipeline())
    found = resume(tmp_path / "run", tiny_pipeline(), video=clip(21)).frames
    expected = torch.cat(whole.beams[0].history.frames)
    assert torch.equal(found[0], expected)
