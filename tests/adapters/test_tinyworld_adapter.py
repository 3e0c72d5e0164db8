"""The bundled model through its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_tinyworld import model_dir
from streamt1_tinyworld.adapter import TinyWorldAdapter
from tests.adapters.tiny import seeded

if TYPE_CHECKING:
    from diffusers import WanPipeline

PROMPT = "a red circle moving right slowly on a blue background"


@pytest.fixture(scope="module")
def pipe() -> WanPipeline:
    torch.set_num_threads(1)
    return TinyWorldAdapter().load(model_dir())


def sample(pipe: WanPipeline, **call: Any) -> tuple[Any, int]:
    session = TinyWorldAdapter().open(pipe, {"prompt": PROMPT, "generator": seeded(0), **call}, MemoryPlan())
    history = session.root()
    for _ in range(session.num_chunks):
        latents = session.generate(history, session.draw(history, session.generator), [session.generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    frames = session.finish(history).frames
    session.close()
    return frames, session.forwards


def test_the_model_is_packaged_and_loads_in_float32(pipe: WanPipeline) -> None:
    assert Path(model_dir(), "model_index.json").is_file()
    assert {pipe.transformer.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float32}


def test_defaults_make_the_videos_it_was_trained_on(pipe: WanPipeline) -> None:
    video, forwards = sample(pipe)
    assert video.shape == (1, 81, 64, 64, 3)
    assert forwards == 16 + 6 * 4 + 6
    assert 0 <= video.min() < video.max() <= 1


def test_same_seed_same_video(pipe: WanPipeline) -> None:
    first, second, other = (sample(pipe, num_frames=21, generator=seeded(s))[0] for s in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_the_prompt_matters(pipe: WanPipeline) -> None:
    """A blue background is bluer than a white one."""
    blue, _ = sample(pipe, num_frames=9)
    white, _ = sample(pipe, num_frames=9, prompt="a red circle moving right slowly on a white background")
    assert blue[..., 2].mean() - blue[..., 0].mean() > white[..., 2].mean() - white[..., 0].mean() + 0.1


def test_words_it_does_not_know_get_a_warning(pipe: WanPipeline, caplog: pytest.LogCaptureFixture) -> None:
    wrapped = streamt1.wrap(pipe, "plain", adapter="tinyworld")
    wrapped.begin("a red circle moving right", num_frames=9).close()
    assert not caplog.records
    wrapped.begin("a dog on the moon", num_frames=9).close()
    (record,) = caplog.records
    assert "does not know the words 'dog', 'moon'" in record.getMessage()
    assert "shapes: circle, square, triangle, star" in record.getMessage()


def test_options_are_validated() -> None:
    options = TypeAdapter(TinyWorldAdapter)
    assert options.validate_python({"steps": [8, 2], "shift": 5}).steps == (8, 2)
    assert options.validate_python({"steps": None}).steps is None
    for wrong in ({"steps": []}, {"steps": [0]}, {"shift": 0}, {"chunk_frames": 0}, {"rms_norm": "fast"}, {"fps": -1}):
        with pytest.raises(ValidationError):
            options.validate_python(wrong)
    with pytest.raises(ValidationError, match="fall from noisy to clean"):
        options.validate_python({"timesteps": [250, 500]})


def test_the_student_makes_every_chunk_in_four_steps_from_the_same_files() -> None:
    student, teacher = streamt1.load("tinyworld-student", recipe="plain"), streamt1.load("tinyworld", recipe="plain")
    video = student(PROMPT, generator=seeded(0), output_type="pt").frames[0]
    assert video.shape == (81, 3, 64, 64)
    assert student.run is None or student.run.session.forwards == 7 * 4 + 6
    same = [torch.equal(a, b) for a, b in zip(*(e.transformer.parameters() for e in (student, teacher)), strict=True)]
    assert not all(same)
    for part in ("vae", "text_encoder"):
        pairs = zip(*(getattr(each, part).parameters() for each in (student, teacher)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert student.cost().forwards == 7 * 4 + 6


def test_the_student_has_the_object_of_the_prompt_in_its_first_chunk() -> None:
    """What four steps of the teacher often miss: the object is there, in its color."""
    pipe = streamt1.load("tinyworld-student", recipe="plain")
    for seed in (0, 1, 2):
        frames = pipe(PROMPT, num_frames=9, generator=seeded(seed), output_type="pt").frames[0]
        red = (frames[:, 0] > 0.5) & (frames[:, 1:].amax(1) < 0.4)
        assert (red.flatten(1).float().mean(1) > 0.01).all()


def test_a_variant_that_a_folder_does_not_have_is_an_error_with_its_name() -> None:
    with pytest.raises(streamt1.UnknownNameError, match=r"'studnet'.*Did you mean 'student'"):
        streamt1.load("tinyworld", recipe="plain", overrides=["adapter.variant=studnet"])
