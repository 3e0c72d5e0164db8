"""What `wrap` returns: the same call and the same output as the pipeline inside, plus the tree of the search."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins import prompts as many
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.api.run import Run
from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.config import load as recipes
from streamt1_plugins.errors import InputError, foreign_code
from streamt1_plugins.evaluation.evaluator import Measurer
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.resolve import completed, model_folder, resolve, resolve_adapter
from streamt1_plugins.plugins.run_hooks import RunHooks, decides
from streamt1_plugins.runs.observers.callback import OnChunkEnd
from streamt1_plugins.search import early_pruning as early
from streamt1_plugins.search import memory_estimate
from streamt1_plugins.search.distributed.launch import join
from streamt1_plugins.search.loop import search
from streamt1_plugins.search.streaming import chunks, shared

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.search.streaming import StreamedChunk


OWN_ARGUMENTS = ("on_chunk_end",)
"""Arguments of the call that are ours, not the inner pipeline's."""


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
    return StreamPipeline(pipe, completed(loaded, entry), observers or {})


def load(
    model: str | None = None,
    recipe: str | Path | Mapping[str, Any] | Recipe = "stream-t1",
    *,
    adapter: str | None = None,
    overrides: Sequence[str] = (),
    observers: Mapping[str, object] | None = None,
) -> StreamPipeline:
    """Load a model and wrap it. model: an adapter with a bundled model (default "tinyworld"), a folder or a hub id."""
    resolved = resolve(recipe, model, adapter=adapter, overrides=overrides)
    folder = model_folder(str(resolved.model))
    with foreign_code(f"Loading the model {resolved.model!r} with adapter {resolved.adapter.name!r}"):
        pipe = build.adapter(resolved).load(folder)
    return StreamPipeline(pipe, resolved, observers or {})


class StreamPipeline:
    """A pipeline that searches. Call it like the pipeline inside; attributes it lacks are the inner pipeline's.

    `recipe` is complete (defaults written out); `team` may be set to processes that share the candidates
    (`parallel.groups.join`); `run` and `tree` belong to the last call. ``run.recipe`` has the seed
    of that call too, so it alone reproduces the search.
    """

    _OWN = frozenset({"pipe", "recipe", "run", "team"})

    def __init__(self, pipe: Any, recipe: Recipe, observers: Mapping[str, object]) -> None:
        self.pipe = pipe
        self.recipe = recipe
        self.run: Run | None = None
        self.team: Workers | None = None
        self.watched_by(observers)
        self._adapter = build.adapter(recipe)
        self._measurer = Measurer(build.rewards(recipe))
        self._policies = build.policies(recipe)

    @property
    def last_run(self) -> Run:
        """The run of the last call. Raises `InputError` before the first one."""
        if self.run is None:
            raise InputError("Nothing has been generated yet: call the pipeline first.")
        return self.run

    @property
    def tree(self) -> Tree:
        """Every candidate of the last call."""
        return self.last_run.tree

    def __getattr__(self, name: str) -> Any:
        if "pipe" not in self.__dict__:  # while being copied
            raise AttributeError(name)
        return getattr(self.pipe, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """What the inner pipeline has is set there: ``wrapped.scheduler = other`` must not be lost."""
        if name in self._OWN or name.startswith("_") or not hasattr(self.pipe, name):
            object.__setattr__(self, name, value)
        else:
            setattr(self.pipe, name, value)

    def watched_by(self, observers: Mapping[str, object]) -> None:
        """Replace the caller's observers, for the next call."""
        # Those given by the caller come first: what the recipe adds, such as wandb, may show what they wrote.
        added = {name: part for name, part in build.observers(self.recipe).items() if name not in observers}
        self._observers = dict(observers) | added

    def to(self, *args: Any, **kwargs: Any) -> StreamPipeline:
        """Move the inner pipeline; returns the wrapper, so that ``pipe = pipe.to("cuda")`` keeps searching."""
        self.pipe.to(*args, **kwargs)
        return self

    def __call__(self, prompt: str | Sequence[str] | None = None, **call: Any) -> Any:
        """Search a video; arguments and output are those of the wrapped pipeline.

        One more argument mirrors `callback_on_step_end`: ``on_chunk_end(pipe, chunk_index, callback_kwargs)``, see
        `observers.callback.OnChunkEnd`; it may set ``pipe._interrupt = True`` to end the video with this chunk.
        A list of prompts and `num_videos_per_prompt` make a search per video; `run` and `tree` are then the last one's.
        """
        if prompt is not None:
            call["prompt"] = prompt
        calls = many.split(call, self.recipe.seed)
        outputs = [self.complete(self.begin(**each)) for each in calls]
        return outputs[0] if len(calls) == 1 else many.joined(outputs)

    def complete(self, run: Run) -> Any:
        """Search an open run to its end and close it; returns what the call returns."""
        try:
            for _ in self.steps(run):
                pass
            return run.session.finish(run.beams[0].history)
        finally:
            run.session.close()

    def stream(self, prompt: str | None = None, **call: Any) -> Iterator[StreamedChunk]:
        """Yield chunks while the search goes on, each as soon as all surviving beams share it.

        A pipeline that blends chunks revises the end of the last one, which is therefore held back.
        """
        run = self.begin(prompt, **call)
        steps, sent = self.steps(run), 0
        held_back = int(run.session.capabilities.decode == "blended")
        try:
            for _ in steps:
                settled = shared(run.beams) - held_back
                yield from chunks(run.beams[0], sent, settled)
                sent = max(sent, settled)
            yield from chunks(run.beams[0], sent, run.session.num_chunks)
        finally:
            steps.close()
            run.session.close()

    def begin(self, prompt: str | None = None, **call: Any) -> Run:
        """Open a session for one call, with nothing generated yet. Close it with ``run.session.close()``.

        Raises `InputError` for arguments that cannot be used.
        """
        if prompt is not None:
            call["prompt"] = prompt
        generator = call.get("generator")
        if isinstance(generator, (list, tuple)):
            raise InputError("Pass one torch.Generator: its seed is the root of every candidate's seed.")
        if generator is None:
            call["generator"] = generator = torch.Generator().manual_seed(self.recipe.seed)
        ours = {name: call.pop(name) for name in OWN_ARGUMENTS if name in call}
        session = self._adapter.open(self.pipe, call, MemoryPlan(**self.recipe.sinks.model_dump()))
        seed = generator.initial_seed()
        recipe = self.recipe.model_copy(update={"seed": seed})
        self._interrupt = False
        self.run = Run(recipe, session, Tree(), session.prompt, seed, call={**call, **ours}, device=self._device())
        self.run.team = self.team or self._named_team()
        return self.run

    def steps(self, run: Run) -> Generator[Chunk, None, None]:
        """Search chunk by chunk; every part is told how it ended, whatever happens in between."""
        hooks = self.run_hooks(run)
        if not run.session.capabilities.routes and run.recipe.memory.name != "fixed":
            run.tree.note("This pipeline's memory cannot be routed; the search runs without memory sinking.")
        with ExitStack() as stack:
            stack.push(lambda kind, error, trace: hooks.run_finished(run, error))
            stack.enter_context(run.team.together())
            early.check(run)
            memory_estimate.check(run, self.pipe, self._measurer.rewards.values(), self._policies["width"])
            self._measurer.start(run)
            stack.callback(self._measurer.finish, run)
            yield from search(run, hooks, self._measurer)

    def _named_team(self) -> Workers:
        """Where the recipe asks for processes that share the candidates, those; else each makes videos of its own."""
        return join(self.recipe.parallel).team if self.recipe.parallel.candidates else SingleProcess()

    def _device(self) -> str:
        return str(getattr(self.pipe, "_execution_device", None) or getattr(self.pipe, "device", "cpu"))

    def run_hooks(self, run: Run) -> RunHooks:
        """The hooks of this pipeline's policies and observers, and of the call's callback."""
        policies = {f"{kind}.{getattr(run.recipe, kind).name}": part for kind, part in self._policies.items()}
        callback = {name: OnChunkEnd(self, run.call[name]) for name in OWN_ARGUMENTS if run.call.get(name)}
        watching = self._observers | callback
        if run.team.rank:  # one record, one progress bar, one callback: the first process has them
            watching = {name: part for name, part in watching.items() if decides(part)}
        return RunHooks((policies | watching).items())
