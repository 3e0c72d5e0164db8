"""The bundled model's preview decoder: small, trained, and like the frames that it stands for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import HasPreview
from streamt1_tinyworld import PREVIEW, model_dir
from streamt1_tinyworld.adapter import TinyWorldAdapter
from streamt1_tinyworld.preview import PreviewDecoder
from streamt1_tinyworld.training.preview import Pairs, train

PROMPT = "a red circle moving right on a blue background"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return TinyWorldAdapter().load(model_dir())


def opened(pipe: Any, adapter: TinyWorldAdapter | None = None) -> Any:
    call = {"prompt": PROMPT, "num_frames": 33, "generator": torch.Generator().manual_seed(0)}
    return (adapter or TinyWorldAdapter()).open(pipe, call, streamt1.MemoryPlan())


def test_the_shipped_file_is_small() -> None:
    assert (Path(model_dir()) / PREVIEW).stat().st_size <= 200_000
    assert sum(weight.numel() for weight in PreviewDecoder().parameters()) < 100_000


@torch.no_grad()
def test_previews_look_like_the_frames(pipe: Any) -> None:
    """25 dB is far from what another decoder, or one without its weights, would give."""
    session = opened(pipe)
    assert isinstance(session, HasPreview)
    history, state, errors = session.root(), None, []
    for index in range(2):
        generator = torch.Generator().manual_seed(index)
        latents = session.generate(history, session.draw(history, generator), [generator])
        decoded, shown = session.decode(history, latents)[0], session.preview(latents, state)[0]
        errors.append((decoded.frames - shown.frames).pow(2).mean())
        history, state = session.commit(history, latents, decoded, "discard"), shown.state
    session.close()
    assert -10 * torch.stack(errors).mean().log10() > 25


@pytest.mark.parametrize("kind", ["missing", "layout", "elsewhere"])
def test_a_model_without_the_file_has_no_previews(tmp_path: Path, pipe: Any, kind: str) -> None:
    file = tmp_path / "other.safetensors"
    if kind == "layout":
        save_file({"read.weight": torch.zeros(1)}, file)
    problem = opened(pipe, TinyWorldAdapter(preview=str(file))).preview_problem
    if kind == "elsewhere":  # a copy of the model without the decoder
        folder = tmp_path / "model"
        shutil.copytree(model_dir(), folder, ignore=shutil.ignore_patterns(PREVIEW))
        problem = opened(TinyWorldAdapter().load(str(folder))).preview_problem
    assert problem is not None
    assert (PREVIEW if kind == "elsewhere" else str(file)) in problem


def test_training_gives_a_decoder_of_the_shipped_layout() -> None:
    pairs = Pairs(torch.randn(2, 16, 2, 4, 4).half(), torch.randint(0, 256, (2, 5, 3, 32, 32), dtype=torch.uint8))
    decoder = train(pairs, steps=2, batch=1, seed=0)
    shipped = PreviewDecoder().state_dict()
    assert {name: weight.shape for name, weight in decoder.state_dict().items()} == {
        name: weight.shape for name, weight in shipped.items()
    }
