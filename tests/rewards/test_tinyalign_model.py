from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

import streamt1_tinyalign
from streamt1_tinyalign.clips import FAULTS, alter, clean_clips, faulty_clips, is_true, make_pool
from streamt1_tinyalign.model import TinyAlign, load
from streamt1_tinyalign.training import draw, loss_of
from streamt1_tinyworld.scene import render, stage
from streamt1_tinyworld.world import WORDS, caption, parse, prompts

WEIGHTS = Path(streamt1_tinyalign.__file__).parent / "weights"


@pytest.fixture(scope="module")
def model() -> TinyAlign:
    return load(WEIGHTS)


@pytest.fixture(scope="module")
def clips() -> tuple[Tensor, list[str]]:
    texts = prompts("test", 32, seed=11)
    return render(stage([parse(text) for text in texts], seed=11), 0, 12), texts


def wrong(texts: list[str], attribute: str) -> list[str]:
    return [caption(alter(parse(text), attribute, random.Random(0))) for text in texts]


@pytest.mark.parametrize("attribute", ["colour", "background", "motion", "speed"])
def test_a_wrong_word_scores_lower(model: TinyAlign, clips: tuple[Tensor, list[str]], attribute: str) -> None:
    video, texts = clips
    right = model.score(video, texts) > model.score(video, wrong(texts, attribute))
    assert right.float().mean() >= 0.85


def test_scores_are_cosines_of_any_length_and_wording(model: TinyAlign) -> None:
    for frames in (5, 9, 33):
        scores = model.score(torch.rand(3, frames, 3, 64, 64), ["a red circle", "", "unheard of words"])
        assert scores.shape == (3,)
        assert scores.abs().max() <= 1.001


def test_unknown_words_are_ignored(model: TinyAlign, clips: tuple[Tensor, list[str]]) -> None:
    video, texts = clips
    decorated = [f"cinematic {text}, 4k" for text in texts]
    torch.testing.assert_close(model.score(video, decorated), model.score(video, texts))


def test_the_weights_are_small_and_survive_saving(model: TinyAlign, tmp_path: Path) -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 2 * 1024**2
    model.save(tmp_path)
    video = torch.rand(1, 9, 3, 64, 64)
    torch.testing.assert_close(load(tmp_path).score(video, ["a star"]), model.score(video, ["a star"]))


def test_a_caption_is_true_of_whatever_shows_it() -> None:
    pool = make_pool(TinyAlign(WORDS).tokenize, "train", 24, seed=0)
    assert is_true(pool.said[:, 0], pool.shown).diagonal().all()
    assert not is_true(pool.shown, pool.twin_shown).diagonal().any()


def test_faults_change_the_clip_they_are_made_of() -> None:
    pool, rows = make_pool(TinyAlign(WORDS).tokenize, "train", 4, seed=1), torch.arange(4)
    good = clean_clips(pool, rows, 13, 0)
    for kind in range(len(FAULTS)):
        bad = faulty_clips(pool, rows, 13, 0, torch.full((4,), kind))
        assert bad.shape == good.shape
        assert not torch.equal(bad[:, -1], good[:, -1])


def test_a_training_step_lowers_the_loss() -> None:
    torch.manual_seed(0)
    fresh = TinyAlign(WORDS, width=16)
    batch = draw(make_pool(fresh.tokenize, "train", 32, seed=0), None, limit=8)
    optimiser, losses = torch.optim.Adam(fresh.parameters(), 3e-3), []
    for _ in range(6):
        losses.append(loss_of(fresh, batch))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0]
