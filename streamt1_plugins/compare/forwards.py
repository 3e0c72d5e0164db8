"""How many transformer forwards a recipe takes for one video: measured, for only the model knows."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.compare.run import append, make_folder, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamt1_plugins.compare.comparison import Comparison
    from streamt1_plugins.compare.run import Pipelines
    from streamt1_plugins.config.schema import Recipe

FORWARDS = "forwards.jsonl"


def measuring(comparison: Comparison, out: Path, pipelines: Pipelines) -> Callable[[Recipe], int]:
    """A function that makes the comparison's first video under a recipe and counts; ``out`` remembers what it found."""
    known = {row["key"]: int(row["forwards"]) for row in read(out, FORWARDS)}
    prompt, seed = comparison.prompts[0], comparison.seeds[0]
    call = {"output_type": "latent", **(comparison.call or {})}

    def measure(recipe: Recipe) -> int:
        asked = f"{recipe.model_dump_json()}{sorted(call.items())}{comparison.model}{prompt}{seed}"
        key = sha256(asked.encode("utf-8", "replace")).hexdigest()[:16]
        if key not in known:
            pipe = pipelines(recipe)
            pipe(prompt, generator=torch.Generator().manual_seed(seed), **call)
            known[key] = pipe.last_run.cost.forwards
            search = {"candidates": recipe.search.candidates, "top_k": recipe.search.top_k}
            make_folder(out)
            append(out, {"key": key, "description": recipe.description, **search, "forwards": known[key]}, FORWARDS)
        return known[key]

    return measure
