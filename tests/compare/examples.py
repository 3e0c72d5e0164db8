"""Comparisons, recipes and rows for the tests of the room."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import streamt1_plugins.compare
from streamt1_plugins.compare.comparison import Comparison
from streamt1_plugins.config import load as recipe
from streamt1_plugins.config.schema import Recipe

NASTY = """<img src=x onerror="alert(1)"><script>alert(2)</script>{{ 7 * 7 }}"""


def comparison(**changes: Any) -> Comparison:
    recipes = {"plain": recipe.load("plain"), "beam": recipe.load("beam", ["rewards.long={bright: {}}"])}
    settings = {"recipes": recipes, "prompts": ["a", "b"], "seeds": [0], "judge": "short-only", "model": "toy"}
    return Comparison(**(settings | changes))


def sized(candidates: int, top_k: int) -> Recipe:
    return recipe.load("beam", [f"search.candidates={candidates}", f"search.top_k={top_k}"])


def row(label: str, prompt: str, score: float | None, seed: int = 0, **more: Any) -> dict[str, Any]:
    """A row as `run` writes it; `chunks` are the scores of single chunks, `forwards` what the video took."""
    chunks = {f"chunk_{i:02d}": value for i, value in enumerate(more.pop("chunks", ()), start=1)}
    cost = {"candidates": 4, "latent_frames_decoded": 12, "reward_calls": 0, "seconds": {}}
    cost["forwards"] = more.pop("forwards", 4)
    return {"recipe": label, "prompt": prompt, "seed": seed, "seconds": 0.5, "cost": cost, **more} | {
        "judge": {"score": score, **chunks}
    }


def remove_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make matplotlib look as if it were not installed, also to the modules that have imported it."""
    for module in ("page", "plots"):
        monkeypatch.delitem(sys.modules, f"streamt1_plugins.compare.{module}", raising=False)
        monkeypatch.delattr(streamt1_plugins.compare, module, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
