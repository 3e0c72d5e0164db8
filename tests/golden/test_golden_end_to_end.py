"""Whole searches under the `stream-t1-paper` recipe against the authors' release: every decision, score and latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_plugins import hookimpl
from streamt1_plugins.api.adapter import Decoded, History
from streamt1_plugins.api.noise import initial
from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.api.run import Run
from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.config import load as recipe
from streamt1_plugins.config.schema import Recipe
from streamt1_plugins.evaluation.evaluator import Evaluator
from streamt1_plugins.evaluation.pool import RewardPool
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.given import Given
from streamt1_plugins.plugins.run_hooks import RunHooks
from streamt1_plugins.search.loop import Search
from tests.golden.replay import Case, adapter_of, call_of, load, paths, pipeline_of

if TYPE_CHECKING:
    from pathlib import Path

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.types import Chunk

ATOL = 5e-5


class ToyImage(Reward):
    """The recorded stand-in for the image reward."""

    def score(self, inp: RewardInput) -> RewardOutput:
        p = inp.video.double()
        sharp = (p[..., 1:] - p[..., :-1]).abs().mean((2, 3, 4))
        frames = 10 * p[:, :, 0].mean((2, 3)) - 5 * p[:, :, 1].mean((2, 3)) + 8 * sharp
        return RewardOutput(frames.mean(1))


class ToyVideo(Reward):
    """The recorded stand-in for the video reward."""

    def score(self, inp: RewardInput) -> RewardOutput:
        p = inp.video.double()
        count = p.shape[1]
        ramp = 2 * torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
        blue = (ramp * p[:, :, 2].mean((2, 3))).mean(1)
        return RewardOutput(12 * blue - 6 * (p[:, 1:] - p[:, :-1]).abs().mean((1, 2, 3, 4)))


class ToyDecode:
    """The adapter's session with the recorded toy decoder, which is always cold."""

    def __init__(self, session: Any, mix: torch.Tensor) -> None:
        self._session, self._mix = session, mix

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        return [Decoded(self._frames(z)) for z in latents]

    def _frames(self, z: torch.Tensor) -> torch.Tensor:
        g = z + 0.5 * torch.cat([torch.zeros_like(z[:, :1]), z[:, :-1]], dim=1)
        pictures = [self._picture(g[:, f], j) for f in range(g.shape[1]) for j in range(1 if f == 0 else 4)]
        return (0.5 * torch.stack(pictures) + 0.5).clamp(0, 1)

    def _picture(self, latent: torch.Tensor, j: int) -> torch.Tensor:
        return torch.tanh(torch.pixel_shuffle(torch.einsum("oc,chw->ohw", self._mix[j], latent), 2))


class Recorder:
    """Keeps the tensors the tree does not."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], Candidate] = {}

    @hookimpl
    def streamt1_candidate_scored(self, chunk: Chunk, candidate: Candidate) -> None:
        self.seen[chunk.index, candidate.ordinal] = candidate


def recipe_of(case: Case) -> Recipe:
    c = case.config
    frames = c["num_frame_per_block"]
    return recipe.load(
        "stream-t1-paper",
        [
            f"seed={c['seed']}",
            f"search.candidates={c['beam_size']}",
            f"search.top_k={c['top_k']}",
            f"noise.sigma={c['noise_fusion_sigma']}",
            f"scoring.cap={c['alpha_cap']}",
            f"memory.short_threshold={c['short_threshold']}",
            f"memory.long_threshold={c['long_threshold']}",
            f"sinks.sink_chunks={c['sink_size'] // frames}",
            f"sinks.window_chunks={(c['local_attn_size'] - c['sink_size']) // frames}",
            f"sinks.max_sink_chunks={c['max_sink_size'] // frames}",
            f"sinks.ema_decay={c['compression_alpha']}",
            f"rewards.window={c['sliding_window_size']}",
            "rewards.pixels=float",  # the recorded rewards saw unquantised pixels
            "rewards.short={image: {}}",
            "rewards.long={video: {}}",
        ],
    )


def replay(case: Case) -> tuple[Run, Recorder, list[float]]:
    """The run, its candidates, and the scores of its whole videos, best first; no search needs that of a single one."""
    paper = recipe_of(case)
    pipe = pipeline_of(case)
    call = call_of(case) | {"generator": torch.Generator().manual_seed(paper.seed)}
    session = adapter_of(case).open(pipe, call, paper.sinks)
    recorder = Recorder()
    run = Run(paper, ToyDecode(session, case.tensors["vae.A"]), Tree(), "", paper.seed)  # type: ignore[arg-type]
    hooks = RunHooks(run, [*build.policies(paper).items(), ("recorder", recorder)])
    rewards = build.rewards(paper, Given({"image": ToyImage(), "video": ToyVideo()}))
    workers = SingleProcess()
    search = Search(run, hooks, Evaluator(run, RewardPool(rewards), workers), workers)
    for _ in search.chunks():
        pass
    whole = search.evaluator.evaluate_whole_videos()
    session.close()
    return run, recorder, whole


@pytest.mark.parametrize("path", paths("end_to_end"), ids=lambda path: path.stem)
def test_whole_search(path: Path) -> None:
    torch.set_num_threads(1)
    case = load(path)
    run, recorder, whole = replay(case)
    for chunk in case.info["chunks"]:
        nodes = run.tree.chunk(chunk["chunk"])
        kept = sorted((node for node in nodes if node.rank is not None), key=lambda node: node.rank)
        assert [node.ordinal for node in kept] == chunk["kept"]
        assert len(nodes) == len(chunk["candidates"])
        for recorded in chunk["candidates"]:
            check_candidate(case, chunk["chunk"], recorded, recorder.seen[chunk["chunk"], recorded["cand"]])
    check_final(case, run, whole)


def check_candidate(case: Case, index: int, recorded: dict[str, Any], candidate: Candidate) -> None:
    assert candidate.seed == recorded["seed"]
    assert [*(node.seed for node in candidate.beam.path), candidate.seed] == recorded["history_seeds"]
    assert candidate.beam.rank == recorded["parent"]
    assert candidate.route == recorded["route"]
    for name in ("short", "long", "score"):
        assert getattr(candidate, name) == pytest.approx(recorded[name], abs=ATOL)
    sinks = candidate.beam.history.memory.sinks
    # The recorded state is the one after this chunk's clean pass; in the first chunk that chunk is itself the sink.
    frames = case.config["num_frame_per_block"]
    assert max(sum(block.frames for block in sinks), frames) == recorded["sink_frames"]
    assert [block.start for block in sinks if block.start >= case.config["sink_size"]] == recorded[
        "append_start_frames"
    ]
    prefix = f"chunk{index:02d}.cand{recorded['cand']}"
    close(initial(candidate.noise), case.tensors[f"{prefix}.noise"])
    close(candidate.latents, case.tensors[f"{prefix}.latent"])


def check_final(case: Case, run: Run, whole: list[float]) -> None:
    final, scores = case.info["final"], {beam.path[-1].id: each for beam, each in zip(run.beams, whole, strict=True)}
    by_rank = sorted(run.beams, key=lambda beam: beam.rank)
    assert [[node.seed for node in beam.path] for beam in by_rank] == final["beam_history_seeds"]
    assert [beam.path[-1].score for beam in by_rank] == pytest.approx(final["beam_last_chunk_scores"], abs=ATOL)
    # A single survivor is the winner whatever its whole video scores, so neither side need have judged it.
    assert run.tree.final == (scores if len(run.beams) > 1 else {})
    if len(run.beams) > 1 or final.get("beam_final_scores"):
        assert [scores[b.path[-1].id] for b in by_rank] == pytest.approx(final["beam_final_scores"], abs=ATOL)
    assert run.beams[0].rank == final["best_beam"]
    close(torch.cat(run.beams[0].history.latents, dim=2), case.tensors["final.best"])


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours.transpose(1, 2), theirs, atol=ATOL, rtol=0)
