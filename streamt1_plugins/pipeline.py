"""What `wrap` returns: the same call and the same output as the pipeline inside, plus the tree of the search."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins import parts
from streamt1_plugins import recipe as recipes
from streamt1_plugins.adapter import MemoryPlan
from streamt1_plugins.contracts import Run
from streamt1_plugins.errors import InputError, RecipeError, UnsupportedPipelineError
from streamt1_plugins.hooks import RunHooks, discovery
from streamt1_plugins.measure import Measurer
from streamt1_plugins.registry import load_target
from streamt1_plugins.search import search
from streamt1_plugins.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from streamt1_plugins.adapter import Adapter
    from streamt1_plugins.contracts import Beam
    from streamt1_plugins.recipe import Recipe
    from streamt1_plugins.registry import AdapterEntry

BUNDLED = "tinyworld"
"""The model used when nobody names one: small, trained, inside the package."""


@dataclass(frozen=True)
class StreamedChunk:
    """A chunk all surviving branches agree on, so it will not change: frames ``[T, 3, H, W]`` in ``[0, 1]``."""

    index: int
    frames: Tensor
    latents: Tensor


def wrap(
    pipe: Any,
    recipe: str | Path | Mapping[str, Any] | Recipe = "stream-t1",
    *,
    adapter: str | None = None,
    overrides: Sequence[str] = (),
    observers: Mapping[str, object] | None = None,
) -> StreamPipeline:
    """Give a diffusers pipeline test-time scaling.

    recipe: a shipped name, a YAML file, plain data or a `Recipe`; overrides: ``"search.top_k=3"`` and the like.
    adapter: needed where the pipeline's class does not tell (a `WanPipeline` may be causal or not).
    observers: objects with event hooks, by name, besides those the recipe names.
    Raises `UnsupportedPipelineError`, `RecipeError` or `UnknownNameError`, each saying what would be right.
    """
    if isinstance(pipe, StreamPipeline):
        pipe = pipe.pipe
    loaded = recipes.load(recipe, overrides)
    entry = resolve_adapter(pipe, adapter or loaded.adapter.name)
    return StreamPipeline(pipe, _completed(loaded, entry), observers or {})


def load(
    model: str | None = None,
    recipe: str | Path | Mapping[str, Any] | Recipe = "stream-t1",
    *,
    adapter: str | None = None,
    overrides: Sequence[str] = (),
    observers: Mapping[str, object] | None = None,
) -> StreamPipeline:
    """Load a model and wrap it. model: an adapter with a bundled model (default "tinyworld"), a folder or a hub id."""
    loaded = recipes.load(recipe, overrides)
    model = model or loaded.model or BUNDLED
    bundled = discovery().adapters.entries.get(model)
    name = adapter or loaded.adapter.name or (bundled.name if bundled else None)
    if name is None:
        raise UnsupportedPipelineError(
            f"Which adapter drives {model!r}? Name it with adapter=... (command line: -o adapter.name=...). {_known()}"
        )
    entry = discovery().adapters[name]
    folder = load_target(bundled.model, bundled.name)() if bundled and bundled.model else model
    completed = _completed(loaded.model_copy(update={"model": model}), entry)
    pipe = _adapter(completed).load(folder)
    return StreamPipeline(pipe, completed, observers or {})


def resolve_adapter(pipe: Any, name: str | None) -> AdapterEntry:
    """The adapter a user named, or the only one that claims the pipeline's class."""
    adapters = discovery().adapters
    if name is not None:
        return adapters[name]
    classes = [kind.__name__ for kind in type(pipe).__mro__]
    claims = [entry for entry in adapters.entries.values() if set(entry.pipelines) & set(classes)]
    sure = [entry for entry in claims if entry.explicit is None]
    if len(sure) == 1:
        return sure[0]
    if sure:
        rivals = ", ".join(f"{entry.name} ({entry.origin})" for entry in sure)
        raise UnsupportedPipelineError(f"Several adapters claim {classes[0]}: {rivals}. Choose one with adapter=...")
    if claims:
        offers = " or ".join(f"adapter={entry.name!r}" for entry in claims)
        raise UnsupportedPipelineError(f"{classes[0]}: {claims[0].explicit} If it fits, say so with {offers}.")
    raise UnsupportedPipelineError(f"No adapter drives {classes[0]}. {_known()}")


def _known() -> str:
    lines = [f"{e.name} ({', '.join(e.pipelines) or 'named only'})" for e in discovery().adapters.entries.values()]
    return f"Adapters: {'; '.join(lines) or 'none installed'}."


def _completed(recipe: Recipe, entry: AdapterEntry) -> Recipe:
    """The recipe with every default of its parts written out: it alone reproduces the run."""
    data = recipe.model_dump(mode="json")
    data["adapter"] = {"name": entry.name, **parts.options_of(parts.build(entry, recipe.adapter.options, "adapter"))}
    for kind, policy in parts.policies(recipe).items():
        data[kind] = {"name": getattr(recipe, kind).name, **parts.options_of(policy)}
    if recipe.search.is_wide and not recipe.rewards.are_named:
        data["rewards"] |= _suggested(entry)
    return recipes.load(data)


def _suggested(entry: AdapterEntry) -> dict[str, Any]:
    """What the adapter's author judges its videos by, where the recipe leaves it open."""
    if not entry.rewards:
        known = ", ".join(discovery().rewards.entries) or "none"
        raise RecipeError(
            f"The recipe searches but names no rewards, and the adapter {entry.name!r} suggests none. "
            f"Name at least one, for example -o rewards.long.basic={{}}. Known: {known}."
        )
    return {horizon: dict(named) for horizon, named in entry.rewards.items()}


def _adapter(recipe: Recipe) -> Adapter:
    entry = discovery().adapters[str(recipe.adapter.name)]
    built: Adapter = parts.build(entry, recipe.adapter.options, "adapter")
    return built


class StreamPipeline:
    """A pipeline that searches. Call it like the pipeline inside; attributes it lacks are the inner pipeline's.

    `recipe` is complete (defaults written out); `run` and `tree` belong to the last call.
    """

    def __init__(self, pipe: Any, recipe: Recipe, observers: Mapping[str, object]) -> None:
        self.pipe = pipe
        self.recipe = recipe
        self.run: Run | None = None
        self._observers = {**parts.observers(recipe), **observers}
        self._adapter = _adapter(recipe)
        self._measurer = Measurer(parts.rewards(recipe))
        self._policies = parts.policies(recipe)
        self._loaded = False

    @property
    def tree(self) -> Tree:
        """Every candidate of the last call."""
        return self.run.tree if self.run else Tree()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["pipe"], name)

    def __call__(self, prompt: str | None = None, **call: Any) -> Any:
        """Search a video; arguments and output are those of the wrapped pipeline."""
        run, steps = self._start(prompt, call)
        try:
            for _ in steps:
                pass
            return run.session.finish(run.beams[0].history)
        finally:
            run.session.close()

    def stream(self, prompt: str | None = None, **call: Any) -> Iterator[StreamedChunk]:
        """Yield chunks while the search goes on, each as soon as all surviving beams share it."""
        run, steps = self._start(prompt, call)
        sent = 0
        try:
            for _ in steps:
                settled = _shared(run.beams)
                yield from _chunks(run.beams[0], sent, settled)
                sent = max(sent, settled)
            yield from _chunks(run.beams[0], sent, run.session.num_chunks)
        finally:
            steps.close()
            run.session.close()

    def _start(self, prompt: str | None, call: dict[str, Any]) -> tuple[Run, Any]:
        if prompt is not None:
            call["prompt"] = prompt
        generator = call.get("generator")
        if isinstance(generator, (list, tuple)):
            raise InputError("Pass one torch.Generator: its seed is the root of every candidate's seed.")
        if generator is None:
            call["generator"] = generator = torch.Generator().manual_seed(self.recipe.seed)
        session = self._adapter.open(self.pipe, call, MemoryPlan(**self.recipe.sinks.model_dump()))
        run = Run(self.recipe, session, Tree(), session.prompt, generator.initial_seed())
        self.run = run
        return run, self._steps(run)

    def _steps(self, run: Run) -> Iterator[None]:
        """The search with its beginning and end told to every part, whatever happens in between."""
        hooks = RunHooks([*((p.__class__.__name__, p) for p in self._policies.values()), *self._observers.items()])
        if not run.session.capabilities.routes and run.recipe.memory.name != "fixed":
            run.tree.note("This pipeline's memory cannot be routed; the search runs without memory sinking.")
        with ExitStack() as stack:
            stack.push(lambda kind, error, trace: hooks.run_finished(run, error))
            self._load_rewards()
            for _ in search(run, hooks, self._measurer):
                yield

    def _load_rewards(self) -> None:
        if not self._loaded:
            device = str(getattr(self.pipe, "_execution_device", None) or getattr(self.pipe, "device", "cpu"))
            for reward in {id(reward): reward for reward in self._measurer.rewards.values()}.values():
                reward.load(device)
            self._loaded = True


def _shared(beams: Sequence[Beam]) -> int:
    """How many first chunks all beams have in common."""
    paths = [[node.id for node in beam.path] for beam in beams]
    steps = zip(*paths, strict=True)
    return next((i for i, ids in enumerate(steps) if len(set(ids)) > 1), len(paths[0]))


def _chunks(beam: Beam, start: int, stop: int) -> Iterator[StreamedChunk]:
    history = beam.history
    for index in range(start, min(stop, history.index)):
        yield StreamedChunk(index, history.frames[index], history.latents[index])
