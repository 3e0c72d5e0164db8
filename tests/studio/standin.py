"""A hand without a model: nodes with made-up scores and small pictures, as quick as a test wants it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from PIL import Image

from streamt1_plugins.errors import InputError

CHUNKS, WIDTH, FRAMES, SIZE = 7, 4, 6, 64


class StandIn:
    """Takes of `CHUNKS` chunks with `WIDTH` candidates each."""

    pause = 0.0  # seconds that a step takes

    def __init__(self, folder: Path, prompt: str, seed: str = "0") -> None:
        self.folder, self.text, self.seed = folder, prompt, seed
        self.nodes: dict[str, dict[str, Any]] = {}
        self.path: list[str] = []
        self.pool: list[str] = []
        self.closed = False
        (folder / "strips").mkdir(parents=True, exist_ok=True)
        start = {"event": "started", "prompt": prompt, "seed": 0, "recipe_name": "stand-in", "chunks": CHUNKS, "fps": 8}
        (folder / "journal.jsonl").write_text(json.dumps(start) + "\n")

    @classmethod
    def begun(cls, pipe: Any, folder: Path, prompt: str, call: dict[str, Any]) -> StandIn:
        if prompt == "refused":
            raise InputError("The prompt <b>refused</b> is refused.")
        return cls(folder, prompt)

    @classmethod
    def reopened(cls, pipe: Any, folder: Path) -> StandIn:
        found = json.loads((folder / "standin.json").read_text())
        made = cls(folder, found["text"])
        made.nodes, made.path = found["nodes"], found["path"]
        return made

    @classmethod
    def branched(cls, pipe: Any, run: Path, node: str, out: Path) -> StandIn:
        made = cls.reopened(pipe, run)
        path, name = [], node
        while name is not None:
            path.insert(0, name)
            name = made.nodes[name]["parent"]
        other = cls(out, made.text)
        other.nodes, other.path = made.nodes, path
        return other

    @property
    def done(self) -> int:
        return len(self.path)

    @property
    def is_complete(self) -> bool:
        return self.done == CHUNKS

    @property
    def is_closed(self) -> bool:
        return self.closed

    @property
    def needs_roll(self) -> bool:
        return not (self.closed or self.is_complete or self.pool)

    def roll(self) -> None:
        if not self.pool and not self.is_complete:
            self.reroll(None, None)

    def step(self) -> None:
        if self.is_complete:
            self.finish()
        elif self.pool:
            self.keep(None)
        else:
            self.roll()

    def reroll(self, count: int | None, refine: str | None) -> None:
        time.sleep(self.pause)
        taken = sum(node["chunk"] == self.done for node in self.nodes.values())
        for ordinal in range(taken, taken + (count or WIDTH)):
            name = f"{self.done:03d}.{ordinal:02d}"
            draw = random.Random(name)
            parent = self.path[-1] if self.path else None
            self.nodes[name] = {
                "id": name, "chunk": self.done, "parent": parent, "seed": str(draw.getrandbits(60)), "route": None,
                "score": draw.random(), "short": draw.random(), "long": draw.random(), "fate": None, "rank": None,
                "problem": None, "rewards": {"short": {"bright": {"raw": draw.random()}}}, "by": None,
            }  # fmt: skip
            self._draw(name, draw)
            self.pool.append(name)
        self._save()

    def _draw(self, name: str, draw: random.Random) -> None:
        strip = Image.new("RGB", (FRAMES * SIZE, SIZE), (40, 44, 52))
        color = tuple(draw.randrange(80, 255) for _ in range(3))
        for frame in range(FRAMES):
            x = frame * SIZE + 6 + (self.done * 5 + frame * 2) % 36
            strip.paste(color, (x, 16 + draw.randrange(8), x + 18, 40))
        strip.save(self.folder / "strips" / f"{name}-{FRAMES}.webp")

    def keep(self, node: str | None) -> None:
        if node is not None and node not in self.pool:
            raise InputError(f"There is no candidate {node!r}.")
        best = max(self.pool, key=lambda name: self.nodes[name]["score"]) if self.pool else None
        chosen = node or best
        assert chosen is not None
        for name in self.pool:
            self.nodes[name] |= {"fate": "kept" if name == chosen else "pruned", "rank": 0 if name == chosen else None}
        self.nodes[chosen] |= {"by": "person" if node else "policy"}
        self.path.append(chosen)
        self.pool = []
        self._save()

    def back_to(self, chunk: int) -> None:
        if not 0 <= chunk <= self.done:
            raise InputError(f"Chunk {chunk} is not behind.")
        self.path = self.path[:chunk]
        for node in self.nodes.values():
            if node["chunk"] >= chunk:
                node["fate"] = "left"
        self.pool = []

    def prompt(self, text: str, memory: str) -> None:
        self.text = text
        self._save()

    def finish(self) -> None:
        if not self.is_complete:
            raise InputError("Chunks are missing.")
        (self.folder / "video.mp4").write_bytes(b"not a video")
        self._save()
        self.closed = True

    def park(self) -> None:
        self._save()
        self.closed = True

    def _save(self) -> None:
        saved = {"text": self.text, "nodes": self.nodes, "path": self.path}
        (self.folder / "standin.json").write_text(json.dumps(saved))
        tree = {"nodes": list(self.nodes.values()), "winner": self.path if self.is_complete else [], "notes": []}
        (self.folder / "tree.json").write_text(json.dumps(tree))
        if self.is_complete:
            summary = {"chunks": {"done": CHUNKS, "of": CHUNKS}, "error": None, "cost": {"candidates": len(self.nodes)}}
            (self.folder / "summary.json").write_text(json.dumps(summary))
            (self.folder / "video.mp4").write_bytes(b"not a video")

    def pictures(self) -> dict[str, tuple[int, bytes]]:
        return {}

    def view(self) -> dict[str, Any]:
        best = sorted(self.pool, key=lambda name: -self.nodes[name]["score"])
        return {
            "prompt": self.text,
            "scenes": [{"chunk": 0, "prompt": self.text}],
            "seed": self.seed,
            "chunks": CHUNKS,
            "done": self.done,
            "fps": 8,
            "path": list(self.path),
            "candidates": list(self.pool),
            "choice": best[:1],
            "nodes": [dict(node) for node in self.nodes.values()],
            "memory": {"window": 3, "sinks": 1},
            "notes": [],
            "cost": {"candidates": len(self.nodes), "forwards": 0},
        }
