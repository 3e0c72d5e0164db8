"""Evaluates an exported model: the judge's score, best-of-N per chunk, and the effect of wrong words.

python -m streamt1_tinyworld.training.evaluate --model DIR --steps 16 4
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from streamt1_tinyworld.judge import Verdict, judge
from streamt1_tinyworld.training.data import Clips, tokenize
from streamt1_tinyworld.training.dit import CHUNK, Denoiser, Layout, block_forward, encode_text
from streamt1_tinyworld.training.sampler import Model, Sampler, Schedule
from streamt1_tinyworld.world import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SPEEDS, Spec, caption, parse, prompts

FIGURES = ("score", "background", "object", "shape", "direction", "speed", "jerk", "persistence")
DRIFTS = ("size_drift", "colour_drift", "background_drift")
Reward = Callable[[Tensor, list[str]], Tensor]  # frames [N, T, 3, 64, 64] of one chunk, N prompts -> [N]
log = logging.getLogger(__name__)


def table(verdicts: list[Verdict]) -> dict[str, float]:
    """Mean of every figure over the clips where it was measured, and the standard error of the score."""
    result = {}
    for name in (*FIGURES, *DRIFTS):
        known = [value for verdict in verdicts if (value := getattr(verdict, name)) is not None]
        result[name] = round(sum(known) / max(1, len(known)), 3)
    scores = torch.tensor([verdict.score for verdict in verdicts])
    result["standard_error"] = round(float(scores.std() / len(scores) ** 0.5), 3) if len(verdicts) > 1 else 0.0
    return result


def judge_all(frames: Tensor, texts: list[str]) -> list[Verdict]:
    """One verdict per clip [N, T, 3, 64, 64]."""
    return [judge(clip, text) for clip, text in zip(frames, texts, strict=True)]


def plain(model: Model, texts: list[str], chunks: int, schedule: Schedule, seed: int = 0) -> Tensor:
    """Frames [N, T, 3, 64, 64] of the plain pipeline: one candidate, no guidance."""
    return Sampler(model, schedule, seed).sample(texts, chunks)


@torch.no_grad()
def best_of(
    model: Model, texts: list[str], chunks: int, reward: Reward, schedule: Schedule, candidates: int = 4
) -> Tensor:
    """Frames [N, T, 3, 64, 64] when each chunk is the best of some candidates by a reward of its frames."""
    sampler = Sampler(model, schedule, seed=0)
    state, count = sampler.start(texts), len(texts)
    branch = torch.arange(count, device=sampler.device).repeat_interleave(candidates)
    repeated = [text for text in texts for _ in range(candidates)]
    for index in range(chunks):
        branches = state.rows(branch)
        proposed = sampler.propose(branches)
        frames = model.decode(torch.cat([branches.latents, proposed], 2))
        scores = reward(frames[:, -4 * CHUNK - (index > 0) :], repeated).view(count, candidates)
        best = scores.argmax(1) + candidates * torch.arange(count, device=scores.device)
        state = sampler.commit(state, proposed[best.to(proposed.device)])
    return model.decode(state.latents)


def colour_reward(frames: Tensor, texts: list[str]) -> Tensor:
    """Share [N] of pixels of the prompt's colours, up to the size of a thing: ignores shape and motion."""
    return torch.tensor([_colour_score(clip[::4] * 255, parse(text)) for clip, text in zip(frames, texts, strict=True)])


def _colour_score(pixels: Tensor, spec: Spec) -> float:
    background = pixels.new_tensor(BACKGROUNDS[spec.background or "black"])
    seen = pixels.flatten(2).median(2).values
    score = -float((seen - background).norm(dim=1).clamp(max=120).mean()) / 60
    for thing in spec.things:
        colour = pixels.new_tensor(COLOURS[thing.colour or "red"])[:, None, None]
        area = ((pixels - colour).norm(dim=1) < 60).sum((1, 2)).float()
        score += float((area / 120).clamp(max=1).mean())
    return score


def oracle_reward(frames: Tensor, texts: list[str]) -> Tensor:
    """The judge's scores [N], as an upper bound; not part of the package's rewards."""
    return torch.tensor([verdict.score - 0.05 * (verdict.jerk or 0) for verdict in judge_all(frames, texts)])


@torch.no_grad()
def words_obeyed(model: Model, clips: Clips) -> dict[str, float]:
    """How much worse, in per cent, the denoising of things gets at noise 0.8 when one word of the caption is wrong."""
    picked = [i for i, s in enumerate(clips.specs) if len(s.things) == 1 and s.things[0].motion != "bouncing"][:256]
    specs, device = [clips.specs[i] for i in picked], clips.latents.device
    latents = clips.latents[picked, :, :CHUNK].float()
    weight = 0.1 + (2 * clips.masks[picked, :CHUNK].float().sum(2) / 255).clamp(max=1)
    noise = torch.randn(latents.shape, generator=torch.Generator(device).manual_seed(2), device=device)
    sigmas, layout = (
        torch.full((len(picked), CHUNK), 0.8, device=device),
        Layout(torch.arange(CHUNK, device=device)[None]),
    )
    losses = {}
    for word in ("", "colour", "shape", "motion", "speed"):
        tokens = tokenize(model.tokenizer, [caption(_altered(spec, word)) for spec in specs]).to(device)
        text = encode_text(model.text_encoder, tokens)
        denoiser = Denoiser(model.transformer, block_forward)
        velocity = denoiser(0.2 * latents + 0.8 * noise, sigmas, text, layout).velocity
        losses[word] = float(((velocity - (noise - latents)).pow(2).mean(1) * weight).sum() / weight.sum())
    return {word: round(100 * (loss / losses[""] - 1), 1) for word, loss in losses.items() if word}


def _altered(spec: Spec, attribute: str) -> Spec:
    vocabulary = {"colour": tuple(COLOURS), "shape": SHAPES, "motion": tuple(DIRECTIONS), "speed": tuple(SPEEDS)}
    if not attribute:
        return spec
    words, thing = vocabulary[attribute], spec.things[0]
    wrong = words[(words.index(getattr(thing, attribute)) + 1) % len(words)]
    return Spec(spec.background, (replace(thing, **{attribute: wrong}),))


def report(model: Model, schedule: Schedule, count: int = 32, long_chunks: int = 40) -> dict[str, dict[str, float]]:
    """The figures of the README, on test prompts: plain at 7 and at more chunks, two things, best of 4 by colours."""
    one, two = prompts("test", count, seed=1), prompts("test", count, seed=1, things=2)
    runs: dict[str, tuple[list[str], Callable[[], Tensor]]] = {
        "plain, 7 chunks": (one * 2, lambda: plain(model, one * 2, 7, schedule)),
        "two things, 7 chunks": (two, lambda: plain(model, two, 7, schedule)),
        "best of 4 by colours, 7 chunks": (one, lambda: best_of(model, one, 7, colour_reward, schedule)),
        f"plain, {long_chunks} chunks": (one, lambda: plain(model, one, long_chunks, schedule)),
    }
    results = {}
    for name, (texts, run) in runs.items():
        results[name] = table(judge_all(run(), texts))
        log.info("%s: %s", name, json.dumps(results[name]))
    return results


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="an exported pipeline folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", type=int, default=32, help="prompts")
    parser.add_argument("--steps", type=int, nargs=2, default=(16, 4), help="of the first chunk and of later ones")
    parser.add_argument("--long-chunks", type=int, default=40)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from streamt1_tinyworld.training.export import load

    model, schedule = load(options.model, torch.device(options.device)), Schedule(*options.steps)
    results = report(model, schedule, options.count, options.long_chunks)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
