"""What the two units can change on the bundled model: the share of the initial noise, and the effect of each route.

python docs/evidence/units.py docs/evidence/units.json        (about four minutes on one thread)

Noise: in every chunk, SEEDS initial noises x SEEDS streams of re-noise are denoised from the same history. How much of
the latents' variance goes with the initial noise is all that noise propagation can act on.

Memory: a plain video of CHUNKS chunks is committed once with every route, so that only the sinks differ. The next chunk
is then generated from the same noises. `effect` is the RMS distance of its latents from those after `discard`, in units
of the RMS distance between two candidates of the same history.

Routes: how often `stream-t1` took each in 30 seconds, counted over all candidates.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.plugins import build

PROMPTS = (
    "a red circle moving right slowly on a white background",
    "a yellow square moving right slowly and a white square moving down slowly on a green background",
)
SEEDS, CHUNKS = 6, 16
PLANS = {
    "recommended": MemoryPlan(),
    "ema_decay 0.9": MemoryPlan(ema_decay=0.9),
}


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def noise_share(session: Any, history: Any) -> dict[str, float]:
    """Two-way analysis of variance: initial noise against the stream of re-noise."""
    noises = [session.draw(history, stream(seed)) for seed in range(SEEDS)]
    table = torch.stack(
        [
            torch.cat([session.generate(history, noise, [stream(100 + seed)]) for seed in range(SEEDS)])
            for noise in noises
        ]
    )
    mean = table.mean((0, 1))
    total = (table - mean).square().mean()
    return {
        "chunk": history.index,
        "initial_noise": round(float((table.mean(1) - mean).square().mean() / total), 8),
        "re_noise": round(float((table.mean(0) - mean).square().mean() / total), 8),
    }


def advanced(session: Any, latents: list[torch.Tensor], route: str) -> Any:
    """The history of these chunks, each stored with the same route."""
    history = session.root()
    for chunk in latents:
        history = session.commit(history, chunk, session.decode(history, chunk)[0], route)
    return history


def candidates(session: Any, history: Any) -> list[torch.Tensor]:
    noises = [(session.draw(history, generator), generator) for generator in map(stream, range(SEEDS))]
    return [session.generate(history, noise, [generator]) for noise, generator in noises]


def routes(prompt: str) -> dict[str, int]:
    pipe = streamt1.load(recipe="stream-t1")
    pipe(prompt, num_frames=477, generator=stream(0), output_type="latent")
    return dict(Counter(node.route for node in pipe.tree if node.route))


def main(out: Path) -> None:
    pipe = streamt1.load(recipe="plain")
    adapter = build.adapter(pipe.recipe)
    found: dict[str, Any] = {"noise": [], "memory": []}
    frames = 9 + 12 * CHUNKS  # one chunk more than is committed
    for prompt in PROMPTS:
        for name, plan in PLANS.items():
            session = adapter.open(pipe.pipe, {"prompt": prompt, "num_frames": frames}, plan)
            history, latents = session.root(), []
            for number in range(CHUNKS):
                if name == "recommended" and number < 4:
                    found["noise"].append({"prompt": prompt} | noise_share(session, history))
                generator = stream(number)
                latents.append(session.generate(history, session.draw(history, generator), [generator]))
                history = session.commit(history, latents[-1], session.decode(history, latents[-1])[0], "discard")
            base = candidates(session, history)
            apart = sum(distance(a, b) for a, b in combinations(base, 2)) / (SEEDS * (SEEDS - 1) / 2)
            for route in ("ema", "append"):
                other = candidates(session, advanced(session, latents, route))
                moved = sum(map(distance, other, base)) / SEEDS
                found["memory"].append(
                    {"prompt": prompt, "plan": name, "route": route, "effect": round(moved / apart, 4)}
                )
            session.close()
    found["routes"] = [{"prompt": prompt} | routes(prompt) for prompt in PROMPTS]
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
