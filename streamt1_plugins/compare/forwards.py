"""Transformer forwards of one video under a recipe, counted by generating it: they depend on the model."""

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


def counter(comparison: Comparison, out: Path, pipelines: Pipelines) -> Callable[[Recipe], int]:
    """A function that counts the forwards of the comparison's first video under a recipe.

    Each count is written to ``out/forwards.jsonl``; a later call with the same recipe, model and call reads it there.
    """
    known = {row["key"]: int(row["forwards"]) for row in read(out, FORWARDS)}
    (prompt, call), seed = comparison.call_of(comparison.prompts[0]), comparison.seeds[0]
    call = {"output_type": "latent", **call}

    def count(recipe: Recipe) -> int:
        identity = f"{recipe.model_dump_json()}{sorted(call.items())}{comparison.model}{prompt}{seed}"
        key = sha256(identity.encode("utf-8", "replace")).hexdigest()[:16]
        if key not in known:
            pipe = pipelines(recipe)
            pipe(prompt, generator=torch.Generator().manual_seed(seed), **call)
            known[key] = pipe.last_run.cost.forwards
            search = {"candidates": recipe.search.candidates, "top_k": recipe.search.top_k}
            make_folder(out)
            append(out, {"key": key, "description": recipe.description, **search, "forwards": known[key]}, FORWARDS)
        return known[key]

    return count
