from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from streamt1_tinyworld import model_dir
from streamt1_tinyworld.training.data import tokenize
from streamt1_tinyworld.training.distill import DistillOptions, Library, distill
from streamt1_tinyworld.training.dit import (
    Denoiser,
    Layout,
    block_forward,
    encode_text,
    make_text_encoder,
    make_tokenizer,
    make_transformer,
)
from streamt1_tinyworld.training.export import load
from streamt1_tinyworld.training.rows import CLEAN, NOISY, visibility
from streamt1_tinyworld.training.trajectories import KINDS, Lessons, shard
from streamt1_tinyworld.training.vae import decode, encode, make_vae, whole_clips


def noisy_transformer() -> torch.nn.Module:
    torch.manual_seed(0)
    model = make_transformer(width=64, layers=2, text_width=32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@torch.no_grad()
def test_the_training_forward_is_the_stock_forward() -> None:
    model, tokenizer = noisy_transformer(), make_tokenizer()
    encoder = make_text_encoder(len(tokenizer), width=32).eval()
    text = replace(encode_text(encoder, tokenize(tokenizer, ["a red circle", "a star moving up"])), bias=None)
    latents, sigma = torch.randn(2, 16, 3, 8, 8), torch.tensor([0.3, 0.9])
    ours = Denoiser(model, block_forward)(latents, sigma[:, None].expand(-1, 3), text, Layout(torch.arange(3)[None]))
    torch.testing.assert_close(ours.velocity, model(latents, 1000 * sigma, text.states).sample, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_whole_clips_go_through_the_vae_as_the_cached_way_does() -> None:
    torch.manual_seed(0)
    vae, frames = whole_clips(make_vae().eval()), torch.rand(1, 9, 3, 64, 64)
    latents = encode(vae, frames)[0]
    torch.testing.assert_close(
        latents, vae.encode(frames.transpose(1, 2) * 2 - 1).latent_dist.mean, atol=1e-5, rtol=1e-4
    )
    official = (vae.decode(latents).sample.transpose(1, 2) + 1) / 2
    torch.testing.assert_close(decode(vae, latents).clamp(0, 1), official, atol=1e-5, rtol=1e-4)


def test_a_chunk_sees_its_memory_and_itself() -> None:
    torch.manual_seed(0)
    index = torch.tensor([[0, 7, 20, 21, 22, 23, 24, 24, 24, 24, 24, 25]]).expand(64, -1)
    sinks = torch.zeros(64, CLEAN, dtype=torch.bool)
    sinks[:, 1] = True
    seen = visibility(index, sinks) == 0
    assert not seen[:, :, CLEAN:].masked_fill(torch.eye(CLEAN + NOISY, dtype=torch.bool)[:, CLEAN:], False).any()
    usual = [
        True,
        True,
        False,
        False,
        True,
        True,
        False,
        True,
        False,
        False,
        False,
        False,
    ]  # chunk 24 sees 0, 7, 22, 23
    assert (seen[:, CLEAN] == torch.tensor(usual)).all(1).float().mean() > 0.5
    assert not seen[:, CLEAN, CLEAN - 1].any()  # the clean copy of what it is to predict
    assert seen[:, :, 1][:, 1:CLEAN].all()


@pytest.mark.slow
def test_the_command_leaves_a_pipeline(tmp_path: Path) -> None:
    from diffusers import WanPipeline

    command = [sys.executable, "-m", "streamt1_tinyworld.training.train", "--out", str(tmp_path)]
    subprocess.run([*command, "--scale", "0.0003", "--device", "cpu"], check=True, capture_output=True, timeout=300)
    assert "step 1" in json.loads((tmp_path / "figures.json").read_text())
    pipeline = WanPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    settings = {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 1, "guidance_scale": 1.0}
    frames = pipeline("a red circle", max_sequence_length=64, output_type="np", **settings).frames
    assert frames.shape == (1, 9, 64, 64, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_lessons_lead_from_noise_to_a_chunk_and_are_read_as_written(kind: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    made = shard(load(Path(model_dir()), torch.device("cpu")), kind, 2, seed=1)
    assert made.paths.isfinite().all()
    assert made.paths.shape[2:] == (9, 16, 3, 8, 8)
    noise, end = made.paths[:, :, 0].float(), made.paths[:, :, -1].float()
    assert noise.std().item() == pytest.approx(1, abs=0.1)
    assert torch.corrcoef(torch.stack([noise.flatten(), end.flatten()]))[0, 1].abs() < 0.9
    made.save(tmp_path / f"{kind}-000.safetensors")
    read = Lessons.read(tmp_path / f"{kind}-000.safetensors")
    assert all(torch.equal(value, vars(read)[name]) for name, value in vars(made).items())


def test_a_student_that_was_interrupted_continues_from_its_checkpoint(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    teacher = load(Path(model_dir()), torch.device("cpu"))
    shard(teacher, "memory", 2, seed=1).save(tmp_path / "memory-000.safetensors")
    library = Library(tmp_path)
    library.refresh()
    options = DistillOptions(steps=2, memory_rows=1, every=1, judged=0)
    distill(teacher, library, tmp_path, replace(options, steps=1))
    first = torch.load(tmp_path / "newest.pt", weights_only=True)
    distill(teacher, library, tmp_path, options)
    second = torch.load(tmp_path / "newest.pt", weights_only=True)
    assert (first["step"], second["step"]) == (1, 2)
    moved = [not torch.equal(first["network"][name], value) for name, value in second["network"].items()]
    assert any(moved)
