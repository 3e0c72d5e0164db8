"""Trains a few-step student of the bundled model on the teacher's trajectories (see `trajectories.py`).

python -m streamt1_tinyworld.training.distill --lessons DIR --out DIR --steps 6000

Regression on trajectories (ODE distillation): at any point of a trajectory the student predicts its clean end. The text
encoder is the teacher's. The run resumes from its newest checkpoint, and leaves the averaged weights in
`OUT/transformer`, as the variant `student` of the teacher's.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from streamt1_tinyworld.training.dit import CHUNK, TEXT_LENGTH, Denoiser, Layout, block_forward, encode_text
from streamt1_tinyworld.training.evaluate import judge_all, plain, table
from streamt1_tinyworld.training.export import load
from streamt1_tinyworld.training.optim import Optimisers, average
from streamt1_tinyworld.training.sampler import Model, Schedule
from streamt1_tinyworld.training.trajectories import GRID, KINDS, Lessons, as_chunks, as_frames, frames_at, mask
from streamt1_tinyworld.world import prompts

STEPS = Schedule(first=4, later=4, shift=5.0)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistillOptions:
    """Options of the training. Rows are per step: first chunks, and of each other kind."""

    steps: int = 6000
    first_rows: int = 96
    memory_rows: int = 4
    lr: float = 1e-3
    ema: float = 0.998
    every: int = 200  # steps between checkpoints
    judged: int = 16  # prompts per checkpoint, 0 for none


class Library:
    """The shards of a folder; those that appear later are found by `refresh`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: dict[str, dict[str, Lessons]] = defaultdict(dict)

    def refresh(self) -> None:
        """Read the shards that are new."""
        for kind in KINDS:
            for path in sorted(self.folder.glob(f"{kind}-*.safetensors")):
                if path.name not in self.shards[kind]:
                    self.shards[kind][path.name] = Lessons.read(path)

    def draw(self, kind: str, rows: int) -> Lessons | None:
        """Random rows of one shard of a kind, None while there is none."""
        shards = list(self.shards[kind].values())
        if not shards or not rows:
            return None
        shard = shards[int(torch.randint(len(shards), ()))]
        picked = torch.randint(len(shard.tokens), (rows,))
        return Lessons(**{name: value[picked] for name, value in vars(shard).items()})


def learn(network: nn.Module, teacher: Model, lessons: Lessons) -> Tensor:
    """Add the gradient of these rows; returns the mean loss."""
    x, end, sigma = _points(lessons)
    rows, clean = lessons.clean.shape[:2]
    context = lessons.clean.float()
    spoiled = 0.15 * torch.rand(rows, clean, 1, 1, 1, 1) * (torch.rand(rows, clean, 1, 1, 1, 1) < 0.5)
    context = context + spoiled * torch.randn_like(context)
    levels = torch.cat([torch.zeros(rows, clean), sigma], 1).repeat_interleave(CHUNK, 1)
    layout = Layout(frames_at(lessons.index), mask(_everything_seen(lessons)) if clean else None)
    with torch.no_grad():
        lengths = torch.tensor([28, TEXT_LENGTH, 64, 128, 512])
        text = encode_text(teacher.text_encoder, lessons.tokens, lengths[torch.randint(len(lengths), (rows,))])
    with torch.autocast("cpu", torch.bfloat16):
        output = Denoiser(network, block_forward)(as_frames(torch.cat([context, x], 1)), levels, text, layout)
    velocity = as_chunks(output.velocity)[:, clean:]
    error = (x - sigma[..., None, None, None, None] * velocity - end).pow(2).mean((2, 3, 4, 5))
    # Root of the error of a chunk: blurred ends of ambiguous noise do not dominate those that can be predicted.
    loss = ((error + 0.01).sqrt() - 0.1).mean()
    torch.autograd.backward(loss)
    return loss.detach()


def _points(lessons: Lessons) -> tuple[Tensor, Tensor, Tensor]:
    """A random point of every trajectory, its clean end, and the point's noise level [R, Q]."""
    rows, wanted, points = lessons.paths.shape[:3]
    weights = torch.ones(points - 1)
    weights[0], weights[1::2] = 2.0, 0.5  # the first step decides; odd points are no steps of the default schedule
    at = torch.multinomial(weights, rows * wanted, replacement=True).view(rows, wanted)
    row, column = torch.arange(rows)[:, None], torch.arange(wanted)
    x = lessons.paths[row, column, at].float()
    return x, lessons.paths[:, :, -1].float(), torch.tensor(GRID)[at]


def _everything_seen(lessons: Lessons) -> Tensor:
    """[R, S, S]: what clean and wanted chunks attend to. Clean ones were committed with the memory of their time."""
    clean = lessons.clean.shape[1]
    past, wanted = lessons.index[:, :clean], lessons.index[:, clean:]
    distance = past[:, :, None] - past[:, None]
    sinks = (lessons.seen & (wanted[:, :, None] - past[:, None] > 2)).any(1) | (past == 0)
    before = (distance > 0) & ((distance <= 2) | sinks[:, None])
    rows, slots = lessons.index.shape
    seen = torch.eye(slots, dtype=torch.bool).repeat(rows, 1, 1)
    seen[:, :clean, :clean] |= before
    seen[:, clean:, :clean] = lessons.seen
    return seen


class Training:
    """A student in training: its weights, their average, and the optimizers."""

    def __init__(self, teacher: Model, options: DistillOptions) -> None:
        self.teacher, self.options, self.step = teacher, options, 0
        self.network = copy.deepcopy(teacher.transformer).train().requires_grad_(True)
        self.slow = copy.deepcopy(teacher.transformer).eval().requires_grad_(False)
        matrices = [weight for weight in self.network.blocks.parameters() if weight.ndim == 2]
        self.optimisers = Optimisers(self.network, matrices, options.lr)

    def learn(self, library: Library) -> dict[str, float]:
        """One step on rows of every kind that the library has; returns their losses."""
        losses = {}
        for kind in KINDS:
            rows = self.options.first_rows if kind == "first" else self.options.memory_rows
            if (lessons := library.draw(kind, rows)) is not None:
                losses[kind] = float(learn(self.network, self.teacher, lessons))
        self.optimisers.step(self.step, self.options.steps)
        average(self.slow, self.network, self.step, self.options.ema)
        self.step += 1
        return losses

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        states = [part.state_dict() for part in self.optimisers.parts]
        made = {"network": self.network.state_dict(), "slow": self.slow.state_dict()}
        torch.save(made | {"optimisers": states, "step": self.step}, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint."""
        saved = torch.load(path, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.slow.load_state_dict(saved["slow"])
        for part, state in zip(self.optimisers.parts, saved["optimisers"], strict=True):
            part.load_state_dict(state)
        self.step = saved["step"]


def distill(teacher: Model, library: Library, out: Path, options: DistillOptions) -> WanTransformer3DModel:
    """Train from the teacher's weights, or from the newest checkpoint in `out`; returns the averaged student."""
    training, newest, began = Training(teacher, options), out / "newest.pt", time.perf_counter()
    if newest.exists():
        training.resume(newest)
    losses: dict[str, list[float]] = defaultdict(list)
    while training.step < options.steps:
        if training.step % 50 == 0:
            library.refresh()
        for kind, loss in training.learn(library).items():
            losses[kind].append(loss)
        if training.step % 25 == 0:
            means = {kind: round(sum(values) / len(values), 4) for kind, values in losses.items()}
            log.info("step %d  %s  %.0f s", training.step, means, time.perf_counter() - began)
            losses.clear()
        if training.step % options.every == 0 or training.step == options.steps:
            training.save(newest)
            if options.judged:
                log.info("step %d  %s", training.step, json.dumps(_judged(teacher, training.slow, options.judged)))
    return training.slow


def _judged(teacher: Model, student: nn.Module, count: int) -> dict[str, dict[str, float]]:
    """The judge's figures of plain videos with both samplers."""
    model = Model(teacher.tokenizer, teacher.text_encoder, student, teacher.vae)
    figures = {}
    for things in (1, 2):
        texts = prompts("test", count, seed=1, things=things)
        for euler in (False, True):
            schedule = Schedule(STEPS.first, STEPS.later, STEPS.shift, euler=euler)
            result = table(judge_all(plain(model, texts, 5, schedule), texts))
            figures[f"{things} things, {'euler' if euler else 'renoise'}"] = {
                name: result[name] for name in ("score", "object", "shape", "direction", "jerk")
            }
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent.parent / "model", help="the teacher")
    parser.add_argument("--lessons", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=DistillOptions.steps)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    options.out.mkdir(parents=True, exist_ok=True)
    teacher = load(options.model, torch.device("cpu"))
    library = Library(options.lessons)
    library.refresh()
    student = distill(teacher, library, options.out, DistillOptions(steps=options.steps))
    student.to(torch.bfloat16).save_pretrained(options.out / "transformer", variant="student")


if __name__ == "__main__":
    main()
