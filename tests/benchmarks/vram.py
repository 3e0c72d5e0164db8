"""GPU memory of Wan2.1-1.3B at 480x832, computed from shapes; the one measured number is named as such.

python tests/benchmarks/vram.py
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
LAYERS, WIDTH, TOKENS = 30, 1536, 1560  # of the transformer; tokens per latent frame
CHUNK = 3  # latent frames
TRANSFORMER, VAE, TEXT_ENCODER = 1.4190e9, 0.1269e9, 5.6809e9  # parameters
DECODER_STATE = 1.76  # GiB in bfloat16, counted by running the decoder without memory (meta device)
EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence" / "causal_wan_gpu.json"

KV_CHUNK = LAYERS * 2 * CHUNK * TOKENS * WIDTH * 2 / GIB
WEIGHTS = 2 * (TRANSFORMER + VAE) / GIB
TEXT = 2 * TEXT_ENCODER / GIB


@dataclass(frozen=True)
class Need:
    """What one recipe holds: `blocks` remembered chunks per beam, at most `beams` of them unshared, `chunks` long."""

    blocks: int
    beams: int
    chunks: int
    folded: bool = False

    def parts(self) -> dict[str, float]:
        """GiB by part, all in bfloat16 and without the text encoder; a folded sink is float32."""
        block = KV_CHUNK * (self.blocks + self.folded)
        frames = (12 * self.chunks - 3) * 3 * 480 * 832 * 2 / GIB
        return {
            "weights": WEIGHTS,
            "remembered": self.beams * block,
            "context": KV_CHUNK * (self.blocks + 1),
            "decode": decode_peak(),
            "decoder states": DECODER_STATE * (self.beams - 1),
            "frames": frames,
        }

    @property
    def total(self) -> float:
        return sum(self.parts().values())


def decode_peak() -> float:
    """What decoding a chunk takes at its highest, old and new state included: the measured peak less what is known."""
    rows = {row["name"]: row for row in json.loads(EVIDENCE.read_text(encoding="utf-8"))["rows"]}
    held = WEIGHTS + 3 * KV_CHUNK + 4 * KV_CHUNK  # a sink, two chunks of window; the context with room for a chunk
    return float(rows["plain, decoded"]["peak_gib"]) - held


LONGLIVE = Need(blocks=3, beams=2, chunks=40, folded=True)
NEEDS = {
    "longlive": LONGLIVE,
    "longlive, 5 sinks": Need(blocks=7, beams=2, chunks=40, folded=True),
    "longlive, search.top_k=1": Need(blocks=3, beams=1, chunks=40, folded=True),
    "self-forcing": Need(blocks=6, beams=2, chunks=7),
    "causal-forcing": Need(blocks=6, beams=2, chunks=7),
    "causvid": Need(blocks=6, beams=2, chunks=7),
}


def table() -> str:
    """The rows of docs/adapters/wan.md."""
    names = list(LONGLIVE.parts())
    lines = [f"| recipe | {' | '.join(names)} | GiB in all |", f"|---|{'---|' * (len(names) + 1)}"]
    for name, need in NEEDS.items():
        cells = [f"{value:.1f}" for value in need.parts().values()]
        lines.append(f"| {name} | {' | '.join(cells)} | **{need.total:.0f}** |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"chunk {KV_CHUNK:.3f} GiB, weights {WEIGHTS:.2f}, text encoder {TEXT:.2f}\n{table()}\n")
