"""Prompts of two and three scenes for the bundled world, a JSON line each, as `streamt1 compare --prompts` reads them.

python docs/evidence/scenes.py prompts_scenes.jsonl                      (32 videos of 60 s: 957 frames, 80 chunks)
python docs/evidence/scenes.py FILE --memory recache --frames 81 --count 4 --seed 7

Half of the videos have two scenes and half three, all scenes of a video equally long. In half of the three-scene ones
the third scene is the first one again, after an interlude; in the others it shows something else. Half of the videos
show one thing in each scene, half show two. Captions are of the test split, which no model was trained on, and scenes
of a video share neither a thing nor the background. `--memory` is what every cut does; it changes nothing else, so that
files of the three policies are comparable line by line.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from streamt1_tinyworld.judge import CHUNK, FIRST_CHUNK
from streamt1_tinyworld.world import Spec, caption, sample_split

KINDS = ("two", "back", "two", "other")
"""In turns: two scenes; three, the first one again at the end; two; three different ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--memory", choices=("keep", "recache", "flush"), default="flush")
    parser.add_argument("--frames", type=int, default=957)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--seed", type=int, default=60)
    options = parser.parse_args()
    lines = entries(options.count, chunks_of(options.frames), options.memory, options.seed)
    command = f"docs/evidence/scenes.py --memory {options.memory} --frames {options.frames} --count {options.count}"
    written = [f"# {command} --seed {options.seed}", *map(json.dumps, lines)]
    options.file.write_text("\n".join(written) + "\n", encoding="utf-8")


def chunks_of(frames: int) -> int:
    """The chunks of a video of the bundled model: 81 frames are 7, 477 are 40, 957 are 80."""
    rest, left = divmod(frames - FIRST_CHUNK, CHUNK)
    if rest < 2 or left:
        raise SystemExit(f"{frames} frames do not make three or more whole chunks: {FIRST_CHUNK} + {CHUNK} a chunk.")
    return rest + 1


def entries(count: int, chunks: int, memory: str, seed: int) -> list[dict[str, object]]:
    """The first `count` entries, the same for the same seed whatever the memory and the length are."""
    rng = random.Random(f"scenes {seed}")
    return [_entry(_scenes(KINDS[i % 4], 1 + i // 4 % 2, rng), chunks, memory) for i in range(count)]


def _entry(scenes: list[str], chunks: int, memory: str) -> dict[str, object]:
    begins = [round(index * chunks / len(scenes)) for index in range(len(scenes))]
    later = list(zip(begins, scenes, strict=True))[1:]
    return {
        "prompt": scenes[0],
        "schedule": [{"chunk": chunk, "prompt": prompt, "memory": memory} for chunk, prompt in later],
    }


def _scenes(kind: str, things: int, rng: random.Random) -> list[str]:
    specs: list[Spec] = []
    while len(specs) < (3 if kind == "other" else 2):
        (spec,) = sample_split("test", 1, rng, two=float(things == 2))
        if all(_is_other(spec, earlier) for earlier in specs):
            specs.append(spec)
    return [caption(spec) for spec in ([*specs, specs[0]] if kind == "back" else specs)]


def _is_other(spec: Spec, earlier: Spec) -> bool:
    """Whether two scenes share neither the background nor the colour of a thing."""
    colours = ({thing.colour for thing in each.things} for each in (spec, earlier))
    return spec.background != earlier.background and not set.intersection(*colours)


if __name__ == "__main__":
    main()
