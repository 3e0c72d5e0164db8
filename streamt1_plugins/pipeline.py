"""What `wrap` returns: the same call and the same output as the pipeline inside, plus the tree of the search."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins import placement, prompts
from streamt1_plugins.api.run import Cost, Run
from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.config import load as recipes
from streamt1_plugins.errors import InputError, foreign_code
from streamt1_plugins.evaluation.evaluator import Evaluator
from streamt1_plugins.evaluation.pool import RewardPool
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.acting import agreed
from streamt1_plugins.plugins.build import NOTHING_GIVEN, Given
from streamt1_plugins.plugins.resolve import completed, model_folder, resolve, resolve_adapter
from streamt1_plugins.plugins.run_hooks import RunHooks, decides
from streamt1_plugins.runs.observers.callback import OnChunkEnd
from streamt1_plugins.search import early_pruning, memory_estimate
from streamt1_plugins.search.distributed.launch import join
from streamt1_plugins.search.loop import Search
from streamt1_plugins.search.streaming import chunks, shared

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.api.register import PolicyKind
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.search.streaming import StreamedChunk

OWN_ARGUMENTS = ("on_chunk_end",)
"""Arguments of the call that the wrapper handles; the inner pipeline does not get them."""


def wrap(  # noqa: PLR0913  every argument but the first two has a default, and a name
    pipe: Any,
    recipe: str | Path | Mapping[str, Any] | Recipe = "stream-t1",
    *,
    adapter: str | None = None,
    overrides: Sequence[str] = (),
    rewards: Mapping[str, Reward] | None = None,
    policies: Mapping[PolicyKind, object] | None = None,
    observers: Mapping[str, object] | None = None,
    trust: bool | Recipe = False,
) -> StreamPipeline:
    """A diffusers pipeline with test-time scaling: the same call, the same output, a search inside.

    recipe: a shipped name, a YAML file, plain data or a `Recipe`. overrides: single keys, ``"search.top_k=3"``.
    pipe: a diffusers pipeline, or one that is wrapped already, which keeps its adapter. adapter: needed where the
    pipeline's class is ambiguous (a `WanPipeline` may be causal or not).
    rewards: `Reward` objects by name. The recipe's settings of that name apply; one that the recipe does not name
    counts with weight 1 on every horizon it serves. policies: objects by kind (`width`, `noise`, `scoring`,
    `selection`, `memory`) that take the place of the recipe's. observers: objects with event hooks, by name, besides
    those that the recipe names. trust: True agrees to the programs, addresses and paths that a recipe file names; a
    recipe agrees to those that it names itself.

    Raises `UnsupportedPipelineError`, `RecipeError`, `InputError`, `UnknownNameError` or `TrustError`.
    """
    given = Given(rewards or {}, policies or {})
    if isinstance(pipe, StreamPipeline):
        pipe, adapter = pipe.pipe, adapter or pipe.recipe.adapter.name
    loaded = agreed(recipes.load(recipe, overrides), trust)  # before anything is made of it
    entry = resolve_adapter(pipe, adapter or loaded.adapter.name)
    return StreamPipeline(pipe, completed(loaded, entry, given), observers or {}, given)


def load(  # noqa: PLR0913  as `wrap`, and the device
    model: str | None = None,
    recipe: str | Path | Mapping[str, Any] | Recipe = "stream-t1",
    *,
    adapter: str | None = None,
    device: object = None,
    overrides: Sequence[str] = (),
    rewards: Mapping[str, Reward] | None = None,
    policies: Mapping[PolicyKind, object] | None = None,
    observers: Mapping[str, object] | None = None,
    trust: bool | Recipe = False,
) -> StreamPipeline:
    """A model, loaded, wrapped and placed.

    model: an adapter with a bundled model (default "tinyworld"), a folder or a hub id. device: where it runs, with the
    recipe's `placement.offload`; by default `cuda` where there is one, else the CPU. The rest is as for `wrap`.
    """
    given, where = Given(rewards or {}, policies or {}), placement.chosen(device)
    loaded = agreed(recipes.load(recipe, overrides), trust, unused=() if model is None else ("model",))
    resolved = resolve(loaded, model, adapter=adapter, given=given)
    folder = model_folder(str(resolved.model))
    with foreign_code(f"Loading the model {resolved.model!r} with adapter {resolved.adapter.name!r}"):
        pipe = build.adapter(resolved).load(folder)
    placement.place(pipe, resolved.placement, where)
    return StreamPipeline(pipe, resolved, observers or {}, given)


class StreamPipeline:
    """A pipeline that searches. Call it like the pipeline inside, whose attributes it shares.

    `recipe` is complete (defaults written out), and with the objects in `given` reproduces the search; ``run.recipe``
    has the seed of the last call too. `run` and `tree` belong to that call. `workers`: processes that share candidates.
    """

    _OWN = frozenset({"given", "pipe", "recipe", "run", "workers"})

    def __init__(
        self, pipe: Any, recipe: Recipe, observers: Mapping[str, object], given: Given = NOTHING_GIVEN
    ) -> None:
        self.pipe = pipe
        self.recipe = recipe
        self.given = given
        self.run: Run | None = None
        self._workers: Workers | None = None
        self._adapter = build.adapter(recipe)
        self._rewards = RewardPool(build.rewards(recipe, given))
        self._policies = build.policies(recipe, given)
        self.set_observers(observers)

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

    @property
    def workers(self) -> Workers:
        """The processes of a search: those that were set, or that the recipe names, or this one alone."""
        if self._workers is not None:
            return self._workers
        return join(self.recipe.parallel).workers if self.recipe.parallel.candidates else SingleProcess()

    @workers.setter
    def workers(self, workers: Workers) -> None:
        self._workers = workers

    def __getattr__(self, name: str) -> Any:
        if "pipe" not in self.__dict__:  # while being copied
            raise AttributeError(name)
        return getattr(self.pipe, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Attributes of the inner pipeline are set there: ``wrapped.scheduler = other`` must not be lost."""
        if name in self._OWN or name.startswith("_") or not hasattr(self.pipe, name):
            object.__setattr__(self, name, value)
        else:
            setattr(self.pipe, name, value)

    def set_observers(self, observers: Mapping[str, object]) -> None:
        """Replace the caller's observers, from the next call on."""
        # Those given by the caller come first: what the recipe adds, such as wandb, may show the files they wrote.
        added = {name: each for name, each in build.observers(self.recipe).items() if name not in observers}
        self._observers = dict(observers) | added

    def to(self, *args: Any, **kwargs: Any) -> StreamPipeline:
        """Move the inner pipeline, with the recipe's `placement.offload`; returns the wrapper, which still searches."""
        placement.move(self.pipe, self.recipe.placement, *args, **kwargs)
        return self

    def __call__(self, prompt: str | Sequence[str] | None = None, **call: Any) -> Any:
        """Search a video; arguments and output are those of the wrapped pipeline.

        One more argument mirrors `callback_on_step_end`: ``on_chunk_end(pipe, chunk_index, callback_kwargs)``, see
        `runs.observers.callback.OnChunkEnd`; it may set ``pipe._interrupt = True`` to end the video with this chunk.
        A list of prompts and `num_videos_per_prompt` make a search per video; `run` and `tree` are then the last one's.
        """
        if prompt is not None:
            call["prompt"] = prompt
        calls = prompts.split(call, self.recipe.seed)
        outputs = [self.complete(self.begin(**each)) for each in calls]
        return outputs[0] if len(calls) == 1 else prompts.joined(outputs)

    def complete(self, run: Run) -> Any:
        """Search an open run to its end and close it; returns what the call returns."""
        try:
            for _ in self.steps(run):
                pass
            return run.session.finish(run.beams[0].history)
        finally:
            run.session.close()

    def stream(self, prompt: str | None = None, **call: Any) -> Iterator[StreamedChunk]:
        """Yield chunks during the search, each as soon as all surviving beams share it.

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
        session = self._adapter.open(self.pipe, call, self.recipe.sinks)
        seed = generator.initial_seed()
        recipe = self.recipe.model_copy(update={"seed": seed})
        self._interrupt = False
        self.run = Run(recipe, session, Tree(), session.prompt, seed, call={**call, **ours}, device=self._device())
        self.run.cost = Cost(forwards=session.forwards)
        return self.run

    def steps(self, run: Run) -> Generator[Chunk, None, None]:
        """Search chunk by chunk; observers are informed of the end, however it comes."""
        search = self.search(run)
        if not run.session.capabilities.routes and run.recipe.memory.name != "fixed":
            run.tree.note("This pipeline's memory cannot be routed; the search runs without memory sinking.")
        for note in placement.notes(self.pipe, run.recipe, run.device):
            run.tree.note(note)
        with ExitStack() as stack:
            stack.push(lambda kind, error, trace: search.hooks.run_finished(error))
            stack.enter_context(search.workers.fail_together())
            early_pruning.check(run.recipe, run.session)
            memory_estimate.check(search, self.pipe, self._policies["width"])
            self._rewards.start(run)
            stack.callback(self._rewards.finish)
            yield from search.chunks()

    def search(self, run: Run) -> Search:
        """The search of an open run: this pipeline's policies, rewards and observers at work on it."""
        workers = self.workers
        return Search(run, self._run_hooks(run, workers), Evaluator(run, self._rewards, workers), workers)

    def _run_hooks(self, run: Run, workers: Workers) -> RunHooks:
        """The hooks of the policies and observers, and of the call's callback."""
        policies = {f"{kind}.{getattr(run.recipe, kind).name}": policy for kind, policy in self._policies.items()}
        callback = {name: OnChunkEnd(self, run.call[name]) for name in OWN_ARGUMENTS if run.call.get(name)}
        observers = self._observers | callback
        if workers.rank:  # one record, one progress bar, one callback: the first process has them
            observers = {name: each for name, each in observers.items() if decides(each)}
        return RunHooks(run, (policies | observers).items())

    def _device(self) -> str:
        return str(getattr(self.pipe, "_execution_device", None) or getattr(self.pipe, "device", "cpu"))
