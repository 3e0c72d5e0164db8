"""Trains the model from scratch, up to a `WanPipeline` folder, in one command.

    python -m streamt1_tinyworld.training.train --out DIR --seed 0

All clips are rendered, none with a held-out combination. Lengths are in steps, so a run can be repeated.
`--scale 0.01` runs every stage briefly, as a test.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from transformers import PreTrainedTokenizerFast

from streamt1_tinyworld.scene import stage
from streamt1_tinyworld.training.data import Clips, make_clips, standardise, statistics
from streamt1_tinyworld.training.dit import make_tokenizer
from streamt1_tinyworld.training.evaluate import judge_all, plain, table, words_obeyed
from streamt1_tinyworld.training.export import export, stock_vae
from streamt1_tinyworld.training.fit import FitOptions, Network, Pools, fit
from streamt1_tinyworld.training.sampler import Model, Schedule
from streamt1_tinyworld.training.vae import PHASES, Phase, measure_psnr, train_vae, whole_clips
from streamt1_tinyworld.world import prompts, sample_split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Sizes of every stage."""

    phases: tuple[Phase, ...] = PHASES
    scenes: int = 8192  # staged for the VAE
    first: int = 32768  # clips of one chunk
    short: int = 4096  # clips of 8 chunks
    long: int = 512  # clips of 40 chunks
    two: float = 0.4  # share of clips with two things
    judged: int = 32  # prompts per checkpoint
    fit: FitOptions = field(default_factory=FitOptions)

    def scaled(self, scale: float) -> Plan:
        """Every count times `scale`; below 1 the batches shrink too."""

        def some(count: int, least: int = 2) -> int:
            return max(least, round(count * scale))

        small = min(1.0, 4 * scale)
        phases = [Phase(p.frames, max(2, round(p.batch * small)), some(p.steps, 1)) for p in self.phases]
        options = replace(
            self.fit,
            steps=some(self.fit.steps, 1),
            first_rows=max(4, round(self.fit.first_rows * small)),
            memory_rows=max(2, round(self.fit.memory_rows * small)),
        )
        counts = {name: some(getattr(self, name)) for name in ("scenes", "first", "short", "long")}
        return replace(self, phases=tuple(phases), judged=min(self.judged, some(self.judged)), fit=options, **counts)


def train(out: Path, plan: Plan, seed: int, device: torch.device) -> dict[str, object]:
    """Run every stage; writes `model/`, `checkpoints/` and `figures.json` to `out` and returns the figures."""
    rng, tokenizer = random.Random(f"training {seed}"), make_tokenizer()
    figures: dict[str, object] = {}
    torch.manual_seed(seed)
    with _timed("vae"):
        scenes = stage(sample_split("train", plan.scenes, rng, plan.two), seed).to(device)
        vae = train_vae(scenes, plan.phases)
    tests = stage(sample_split("test", max(2, plan.judged // 2), rng), seed).to(device)
    figures["vae psnr, dB, 81 frames, test clips"] = round(measure_psnr(vae, tests), 2)
    log.info("figures so far: %s", figures)
    with _timed("clips"):
        pools, stock = make_pools(vae, tokenizer, plan, rng, seed)

    def checkpoint(step: int, network: Network) -> None:
        export(out / "checkpoints" / f"step-{step}", tokenizer, stock, network)
        model = Model(tokenizer, network.text_encoder, network.transformer, whole_clips(stock.to(device)))
        texts = prompts("test", plan.judged, seed=1)
        figures[f"step {step}"] = {
            "word penalty, %": words_obeyed(model, pools.first),
            "plain, 7 chunks": table(judge_all(plain(model, texts, 7, Schedule()), texts)),
        }
        log.info("figures at step %d: %s", step, json.dumps(figures[f"step {step}"]))

    with _timed("dit"):
        network = fit(pools, len(tokenizer), plan.fit, checkpoint)
    export(out / "model", tokenizer, stock, network)
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def make_pools(
    vae: AutoencoderKLWan, tokenizer: PreTrainedTokenizerFast, plan: Plan, rng: random.Random, seed: int
) -> tuple[Pools, AutoencoderKLWan]:
    """Encoded, standardised clips, and the stock VAE with their statistics."""

    def pool(count: int, chunks: int, offset: int) -> Clips:
        return make_clips(vae, tokenizer, sample_split("train", count, rng, plan.two), chunks, seed + offset)

    pools = Pools(pool(plan.first, 1, 1), pool(plan.short, 8, 2), pool(plan.long, 40, 3))
    mean, std = statistics(pools.short)
    for clips in (pools.first, pools.short, pools.long):
        standardise(clips, mean, std)
    return pools, stock_vae(vae, mean, std)


@contextmanager
def _timed(name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    log.info("stage %s: %.0f s", name, time.perf_counter() - started)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, checkpoints and figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every count")
    parser.add_argument("--compile", action="store_true", help="compile the transformer block, for a GPU")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    plan = Plan().scaled(options.scale) if options.scale != 1 else Plan()
    plan = replace(plan, fit=replace(plan.fit, compiled=options.compile))
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    figures = train(options.out, plan, options.seed, torch.device(options.device))
    log.info("done: %s", json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
