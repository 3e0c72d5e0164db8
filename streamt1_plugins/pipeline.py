"""What `wrap` returns: the same call and the same output as the pipeline inside, plus the tree of the search."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins import own_call, prompts
from streamt1_plugins.api.adapter import HasOutline, HasOwnCall, HasThreads, OutlinedSession
from streamt1_plugins.api.run import Cost, Run
from streamt1_plugins.api.scenes import prompts_of, scenes_of
from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.config import load as recipes
from streamt1_plugins.config.schedule import plain
from streamt1_plugins.config.schema import Recipe
from streamt1_plugins.config.vocabulary import unknown_words
from streamt1_plugins.errors import (
    InputError,
    ReadOnlyError,
    StreamT1Error,
    UnsupportedPipelineError,
    foreign_code,
    shown,
)
from streamt1_plugins.evaluation.evaluator import Evaluator
from streamt1_plugins.evaluation.pool import RewardPool
from streamt1_plugins.own_call import OWN_ARGUMENTS, OwnSignature
from streamt1_plugins.plugins import build, scenes
from streamt1_plugins.plugins.acting import agreed
from streamt1_plugins.plugins.check import readable
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.given import FIXED, NOTHING_GIVEN, Given, check_scalars
from streamt1_plugins.plugins.observing import Observing
from streamt1_plugins.plugins.resolve import completed, model_folder, resolve, resolve_adapter
from streamt1_plugins.plugins.run_hooks import RunHooks, decides
from streamt1_plugins.policies.revision import limits_of
from streamt1_plugins.process import placement, progress, threads
from streamt1_plugins.process.imports import uncollected
from streamt1_plugins.process.stepwise import stepwise
from streamt1_plugins.runs.observers.callback import OnChunkEnd
from streamt1_plugins.runs.way_on import is_command
from streamt1_plugins.search import cost_estimate
from streamt1_plugins.search.distributed.launch import join
from streamt1_plugins.search.exclusive import lock_of
from streamt1_plugins.search.loop import Search
from streamt1_plugins.search.running import running
from streamt1_plugins.search.streaming import handed_out, note_of_reach
from streamt1_plugins.take import take as takes
from streamt1_plugins.take.take import Host, Take

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from streamt1_plugins.api.adapter import Outline, Session
    from streamt1_plugins.api.register import PolicyKind, Vocabulary
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.evaluation.pool import BoundReward
    from streamt1_plugins.search.cost_estimate import CostEstimate
    from streamt1_plugins.search.streaming import StreamedChunk

log = logging.getLogger("streamt1")


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

    recipe: a shipped name, a YAML file, plain data or a `Recipe`. overrides: single keys, ``["search.top_k=3"]``.
    pipe: a diffusers pipeline, or one that is wrapped already, which keeps its adapter. adapter: needed where the
    pipeline's class is ambiguous (a `WanPipeline` may be causal or not).
    rewards: `Reward` objects by name, besides the recipe's. The recipe's settings of that name apply; one that it does
    not name counts with weight 1 on every horizon it serves. policies: objects by kind (`width`, `noise`, `scoring`,
    `revision`, `selection`, `memory`) that take the place of the recipe's. observers: objects with event hooks, by
    name, or the options of a registered one (``{"console": {}}``), besides those that the recipe names. trust: True
    agrees to the programs, addresses and paths that a recipe file names; a recipe agrees to those that it names itself.

    Raises `UnsupportedPipelineError`, `RecipeError`, `InputError`, `UnknownNameError` or `TrustError`.
    """
    check_scalars(adapter, trust)
    given, model = Given(rewards or {}, policies or {}), None
    if isinstance(pipe, StreamPipeline):
        pipe, adapter, model = pipe.pipe, adapter or pipe.recipe.adapter.name, pipe.recipe.model
    loaded = agreed(recipes.load(recipe, overrides), trust, unused=("model",))  # before anything is made of it
    # The recipe records what ran: a pipeline loaded elsewhere is not the model that it names.
    loaded = loaded.model_copy(update={"model": model})
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

    model: an adapter with a bundled model (default "tinyworld-student"), a folder or a hub id. device: where it runs,
    with the recipe's `placement.offload`; by default `cuda` where there is one, else the CPU. The rest as for `wrap`.
    """
    check_scalars(adapter, trust)
    given, where = Given(rewards or {}, policies or {}), placement.chosen(device)
    loaded = agreed(recipes.load(recipe, overrides), trust, unused=() if model is None else ("model",))
    resolved = resolve(loaded, model, adapter=adapter, given=given)
    folder = model_folder(str(resolved.model))
    loading = f"Loading the model {resolved.model!r} with adapter {resolved.adapter.name!r}"
    # New modules draw their first weights, and loading imports what the model's classes need.
    with torch.random.fork_rng(devices=[]), uncollected(), foreign_code(loading):
        pipe = build.adapter(resolved).load(folder)
    placement.place(pipe, resolved.placement, where)
    return StreamPipeline(pipe, resolved, observers or {}, given)


class StreamPipeline:
    """A pipeline that searches. Call it like the pipeline inside, whose attributes it shares.

    It passes for the pipeline: ``isinstance(wrapped, type(pipe))`` is true, and `inspect.signature` and `dir` show the
    pipeline's own. Every attribute that is not listed here is read from the pipeline and set there.

    `recipe` is complete (defaults written out), and with the objects in `given` reproduces the search; ``run.recipe``
    has the seed of the last call too. `run` and `tree` belong to that call. `workers`: processes that share candidates.
    A copy has the same settings, and has not been called. What the wrapper was made with is fixed: wrap the pipeline
    again for another recipe or other rewards, and set other observers with `set_observers`.
    """

    _STATE = (
        "_workers",
        "_adapter",
        "_rewards",
        "_policies",
        "_observing",
        "_lock",
        "_stopping",
        "_own_tree",
    )
    pipe: Any
    recipe: Recipe
    given: Given
    run: Run | None
    _observing: Observing
    _OWN = frozenset({"workers", "_interrupt", *_STATE})

    def __init__(
        self, pipe: Any, recipe: Recipe, observers: Mapping[str, object], given: Given = NOTHING_GIVEN
    ) -> None:
        vars(self).update(pipe=pipe, recipe=recipe, given=given, run=None)
        self._own_tree: Tree | None = None
        self._stopping = False
        self._lock = lock_of(pipe)
        self._workers: Workers | None = None
        self._adapter = build.adapter(recipe)
        self._rewards = RewardPool(build.rewards(recipe, given))
        self._policies = build.policies(recipe, given)
        self.set_observers(observers)

    @property
    def last_run(self) -> Run:
        """The run of the last call. Raises `InputError` before the first one."""
        if self.run is None and self._own_tree is not None:
            raise InputError(f"The last call has no run. {self._own_tree.notes[0]}")
        if self.run is None:
            raise InputError("Nothing has been generated yet: call the pipeline first.")
        return self.run

    @property
    def tree(self) -> Tree:
        """Every candidate of the last call; empty, with a note, where the pipeline's own call made the video."""
        return self.last_run.tree if self._own_tree is None else self._own_tree

    @property
    def workers(self) -> Workers:
        """The processes of a search: those that were set, or that the recipe names, or this one alone."""
        if self._workers is not None:
            return self._workers
        return join(self.recipe.parallel).workers if self.recipe.parallel.candidates else SingleProcess()

    @workers.setter
    def workers(self, workers: Workers) -> None:
        if not isinstance(getattr(workers, "rank", None), int):
            raise InputError(f"`workers` are processes that share candidates (`Workers`), got {shown(workers)}.")
        self._workers = workers

    @property
    def _interrupt(self) -> bool:
        """Diffusers' stop button: the plain pipeline skips its further steps, a search ends after this chunk."""
        return self._stopping or bool(getattr(self.pipe, "_interrupt", False))

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        self._stopping = bool(value)
        # Within a search the pipeline itself is not interrupted: that would leave half-denoised candidates.
        if not value or self.run is None or self.run.is_plain:
            self.pipe._interrupt = value

    @property  # type: ignore[misc]  # `object` lets it be set, which would change what the wrapper is
    def __class__(self) -> type:
        """The pipeline's class, so that hosts recognise the wrapper as one of its kind; ``type(wrapped)`` is ours."""
        return type(self.pipe) if "pipe" in vars(self) else StreamPipeline

    def __getattr__(self, name: str) -> Any:
        if name == "__signature__" and "pipe" in vars(self):
            return own_call.signature(self.pipe)
        if "pipe" not in vars(self) or (name.startswith("__") and name.endswith("__")):  # while being copied
            raise AttributeError(name)
        return getattr(self.pipe, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Attributes of the inner pipeline are set there: ``wrapped.scheduler = other`` must not be lost.

        Raises `ReadOnlyError` for what the wrapper was made with and for its results: setting them would do nothing.
        """
        if name in self._OWN:
            object.__setattr__(self, name, value)
        elif name == "recipe" and self.recipe.has_parts_of(value):
            observing = self._observing if value.observers == self.recipe.observers else None
            vars(self)["recipe"] = value
            self._observing = Observing(value, self._observing.given) if observing is None else observing
        elif self._is_fixed(name):
            way = FIXED.get(name, "It is the wrapper's own.")
            raise ReadOnlyError(f"{name!r} of a wrapped pipeline cannot be set. {way}")
        else:
            setattr(self.pipe, name, value)

    def _is_fixed(self, name: str) -> bool:
        """Whether an attribute that is set would be lost: it is the wrapper's, or an argument of `wrap` alone."""
        ours = not name.startswith("_") and (name in vars(self) or hasattr(StreamPipeline, name))
        return ours or (name in FIXED and not hasattr(self.pipe, name))

    def __delattr__(self, name: str) -> None:
        delattr(self.pipe, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self), *dir(self.pipe)})

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are built anew from the settings; locks, sessions and loaded rewards are not carried."""
        return StreamPipeline, (self.pipe, self.recipe, self._observing.given, self.given), {"_workers": self._workers}

    def __repr__(self) -> str:
        search = self.recipe.search
        counts = [f"candidates={search.candidates}", f"top_k={search.top_k}"] if search.is_wide else ["plain"]
        rewards = [f"rewards={', '.join(names)}"] if (names := dict.fromkeys(map(_name, self._rewards.bound))) else []
        parts = [type(self.pipe).__name__, f"adapter={self.recipe.adapter.name}", *counts, *rewards]
        return f"StreamPipeline({', '.join([*parts, *map(repr, self._trees())])})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return "".join([f"<code>{escape(repr(self))}</code>", *(tree._repr_html_() for tree in self._trees())])

    def _trees(self) -> list[Tree]:
        """The tree of the last call, if there is one."""
        return [self.run.tree] if self.run is not None else [self._own_tree] if self._own_tree is not None else []

    def unwrap(self) -> Any:
        """The pipeline inside, as it was before it was wrapped; the wrapper keeps working too."""
        return self.pipe

    def set_progress_bar_config(self, **config: Any) -> None:
        """As the pipeline's own: `disable=True` switches the bars of the pipeline and of the search off."""
        own = getattr(self.pipe, "set_progress_bar_config", None)
        if own is None:
            setattr(self.pipe, progress.CONFIG, config)
        else:
            own(**config)

    def cost(self, *args: Any, **call: Any) -> CostEstimate:
        """What a call with these arguments will spend, at most; nothing is generated.

        The prompt may be left out where the adapter can plan a video without one. `print` it, or read its counts.
        Raises `InputError` for arguments that the call would refuse.
        """
        given = self._named(args, call)
        count = prompts.videos(given)
        if isinstance(self._adapter, HasOutline) and given.keys() <= {"prompt", "num_frames", "num_videos_per_prompt"}:
            with foreign_code(f"The outline of adapter {self.recipe.adapter.name!r}"):
                outline: Outline | int = self._adapter.outline(given.get("num_frames"))
        else:
            outline = self._opened_outline(prompts.split(given, 0)[0])
        return cost_estimate.at_most(self.recipe, self._rewards.bound, outline, self._policies).times(count)

    def _opened_outline(self, call: Mapping[str, Any]) -> Outline | int:
        """The forwards of a call, from a session that is closed at once; its chunks where the session cannot tell."""
        last = {name: vars(self)[name] for name in ("run", "_own_tree", "_stopping")}
        run = self.begin(**{**call, "generator": torch.Generator().manual_seed(0)})  # the caller's is not drawn from
        try:
            return run.session.outline() if isinstance(run.session, OutlinedSession) else run.session.num_chunks
        finally:
            run.close()
            vars(self).update(last)

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that the model knows, by kind; empty where the adapter declares none."""
        entry = discovery().adapters.get(str(self.recipe.adapter.name))
        return entry.vocabulary or {} if entry is not None else {}

    @property
    def run_folder(self) -> Path:
        """The folder that records the last call. Raises `InputError` where there is none."""
        found = self._observing.folder_of(self.last_run, self.last_run.prompt)
        if found is None:
            raise InputError("The last call was not recorded: wrap with observers=record_to(FOLDER).")
        return found

    def set_observers(self, observers: Mapping[str, object]) -> None:
        """Replace the caller's observers, from the next call on."""
        self._observing = Observing(self.recipe, observers)

    def to(self, *args: Any, **kwargs: Any) -> StreamPipeline:
        """Move the inner pipeline, with the recipe's `placement.offload`; returns the wrapper, which still searches."""
        placement.move(self.pipe, self.recipe.placement, *args, **kwargs)
        return self

    @OwnSignature
    def __call__(self, *args: Any, **call: Any) -> Any:
        """Search a video; arguments and output are those of the wrapped pipeline.

        One more argument mirrors `callback_on_step_end`: ``on_chunk_end(pipe, chunk_index, callback_kwargs)``, see
        `runs.observers.callback.OnChunkEnd`; it may set ``pipe._interrupt = True`` to end the video with this chunk.
        A list of prompts and `num_videos_per_prompt` make a search per video; `run` and `tree` are then the last one's.

        Without a search, a call that cannot be made chunk by chunk to the last bit (a batch, `callback_on_step_end`,
        `latents`, ...) goes to the pipeline itself, unless something observes its chunks. Two calls at once, from two
        threads, come one after the other.
        """
        call = self._named(args, call)
        if self._is_observed(call) or not self._has_own_call or call.get("schedule"):
            return self._made(call)
        reason = own_call.beyond_sessions(call)
        if reason is not None:
            return self._passed_on(call, reason)
        try:
            run = self.begin(**call)
        except (InputError, UnsupportedPipelineError) as error:
            return self._passed_on(call, str(error).rstrip("."), error)
        return self.complete(run)

    def _check_several(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Raise `InputError` before the first of several videos where a later one could not be made or kept."""
        if len(calls) > 1:
            self._observing.refuse_several(f"this call makes {len(calls)}")
            rewards = [(bound.name, bound.reward) for bound in self._rewards.bound]
            for each in calls:
                if isinstance(prompt := each.get("prompt"), str):
                    later = scenes_of(each.get("schedule") or [], prompt)
                    for text in (prompt, *(scene.prompt for scene in later)):
                        readable(text, rewards)

    def complete(self, run: Run) -> Any:
        """Search an open run to its end and close it; returns what the call returns."""
        try:
            for _ in self.steps(run):
                pass
            return run.session.finish(run.beams[0].history)
        finally:
            run.close()

    def stream(self, *args: Any, **call: Any) -> Iterator[StreamedChunk]:
        """Yield a `StreamedChunk` for every chunk, in order, each as soon as all surviving beams share it.

        Its `frames` are ``[T, 3, H, W]`` in ``[0, 1]``; those of all chunks together are the video that the call
        returns, and ``run`` and `tree` are as after a call. A pipeline that blends chunks revises the end of the last
        one, which is therefore held back. A revision policy that may go back holds back as many chunks as it declares
        (`limits.reach`), and a note in the tree says so. A stream that is not iterated to its end has to be closed.
        """
        run = self._begin("a stream of this pipeline (iterate to its end, or call its `close()`)", args, call)
        steps = self.steps(run)
        late = note_of_reach(self.search(run).revising.reach, run.recipe.revision.name)
        if late is not None:
            run.tree.note(late)
        try:
            yield from handed_out(run, steps)
        finally:
            steps.close()
            run.close()

    def begin(self, *args: Any, **call: Any) -> Run:
        """Open a session for one call, with nothing generated yet. Close it with ``run.close()``.

        Until then the pipeline is in use: a call from another thread waits, one from this thread is refused. Raises
        `InputError` for arguments that cannot be used.
        """
        return self._begin("a run that `begin` opened (call its `close()`, or `complete` it)", args, call)

    def steps(self, run: Run) -> Generator[Chunk, None, None]:
        """Search chunk by chunk; observers are informed of the end, however it comes."""
        search = self.search(run)  # outside: whether it shows a bar follows from the pipeline's own setting
        yield from stepwise(self._steps(search), partial(self._quiet, run))

    def _steps(self, search: Search) -> Generator[Chunk, None, None]:
        with self._running(search), closing(search.chunks()) as chunks:
            for chunk in chunks:
                self._heed_interrupt(search.run)
                yield chunk

    def _quiet(self, run: Run) -> AbstractContextManager[None]:
        """What surrounds a step of a search: the pipeline's own progress bars are off."""
        return nullcontext() if run.is_plain and not is_command() else progress.silenced(self.pipe)

    def _running(self, search: Search) -> AbstractContextManager[None]:
        """What surrounds a search; see `search.running`."""
        return running(search, self.pipe, self._policies["width"])

    def search(self, run: Run) -> Search:
        """The search of an open run: this pipeline's policies, rewards and observers at work on it."""
        return self._search(run, self._observing)

    def take(self, *args: Any, reach: int | None = None, **call: Any) -> Take:
        """Open a `Take`: the video is made chunk by chunk, by hand where you wish, by the policies elsewhere.

        Arguments are those of the call. reach: how many chunks the take can go back, None for all; the memories of as
        many are kept. Until the take is saved or closed the pipeline is in use. Raises `InputError`.
        """
        takes.check(self.recipe, prompts.videos(self._named(args, call)), self.workers)
        return self.take_over(self._begin(takes.IN_USE, args, call), reach=reach)

    def take_over(self, run: Run, *, reach: int | None = None) -> Take:
        """A `Take` of an open run, such as the ``last_run`` of what `branch` returns. reach: as for `take`."""
        takes.check(run.recipe, 1, self.workers)
        search = partial(self._search, is_stepwise=True)
        host = Host(self, search, self._running, self._quiet, self._session, self._observing)
        return Take(host, run, reach=reach)

    def _search(self, run: Run, observing: Observing, *, is_stepwise: bool = False) -> Search:
        workers = self.workers
        hooks = self._run_hooks(run, workers, observing, is_stepwise)
        limits = limits_of(self._policies["revision"])
        return Search(run, hooks, Evaluator(run, self._rewards, workers), workers, limits)

    def _begin(self, what: str, args: Sequence[Any], call: Mapping[str, Any]) -> Run:
        """Open a session with these arguments. `what` holds the pipeline, in words, until the session is closed."""
        given = self._named(args, call)
        hold = self._lock.acquire(what)
        with ExitStack() as stack:
            stack.callback(hold.release)
            generator = given["generator"] = self._generator(given)
            unknown = own_call.is_global(generator) and not own_call.is_fresh(generator)
            stack.callback(generator.set_state, generator.get_state())  # a refused call draws nothing
            ours = {name: given.pop(name) for name in OWN_ARGUMENTS if name in given}
            self._stopping = False
            if getattr(self.pipe, "_interrupt", False):
                self.pipe._interrupt = False
            count = self._thread_count(given)
            session = self._session(given, count)
            if (
                self._is_observed(given | ours)
                and own_call.is_global(generator)
                and session.capabilities.stochastic_steps
            ):
                # A record has one seed, and these steps draw from other generators too.
                session.close()
                generator = given["generator"] = torch.Generator().manual_seed(own_call.drawn_seed())
                session = self._session(given, count)
            hold.release_with(session)
            seed = generator.initial_seed()
            recipe = self.recipe.model_copy(update={"seed": seed})
            run = Run(recipe, session, Tree(), session.prompt, seed, call={**given, **ours}, device=self._device())
            run.cost, run.released, run.threads = Cost(forwards=session.forwards), hold.release, count
            self._own_tree, vars(self)["run"] = None, run
            stack.pop_all()
        if unknown:
            run.tree.note(own_call.UNSEEDED)
        for prompt in prompts_of(session):
            self._warn_of_unknown_words(prompt)
        return run

    def _session(self, call: Mapping[str, Any], count: int | None) -> Session:
        """A session of this call, whose prompt changes where the call has a schedule."""
        with threads.limited(count):
            session: Session = self._adapter.open(self.pipe, call, self.recipe.sinks)
        with ExitStack() as stack:
            stack.callback(session.close)
            scenes.check_session(str(self.recipe.adapter.name), session, call.get("schedule"))
            stack.pop_all()
        return session

    def _named(self, args: Sequence[Any], call: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name; sizes that it leaves out are those of the recipe."""
        given = own_call.by_name(self.pipe, args, call)
        if given.get("schedule"):
            scenes.check_adapter(str(self.recipe.adapter.name))
            given["schedule"] = plain(given["schedule"])  # as a record can hold it
        elif given.get("schedule", ...) in (None, [], ()):
            given.pop("schedule", None)  # no schedule
        return given | {name: size for name, size in self.recipe.video.given.items() if given.get(name) is None}

    def _generator(self, call: Mapping[str, Any]) -> torch.Generator:
        """The call's generator, or where it has none, one of the recipe's seed.

        Without a search, and without a seed in the recipe, it is torch's global one, as for the pipeline itself. Where
        a record or the tree alone has to lead to the same video again, it begins with a seed drawn from that.
        """
        given = call.get("generator")
        if isinstance(given, torch.Generator):
            return given
        if isinstance(given, list):
            raise InputError(f"One video has {len(given)} generators. Pass one torch.Generator: every seed follows it.")
        if given is not None:
            raise InputError(f"`generator` has to be a torch.Generator, got {type(given).__name__}: {given!r}.")
        if self._has_seed:
            return torch.Generator().manual_seed(self.recipe.seed)
        torchs = own_call.global_generator(self._device())
        is_recorded = self._is_observed(call) and not own_call.is_fresh(torchs)
        workers = self.workers
        if self._has_own_call and not is_recorded and workers.size == 1:
            return torchs
        return torch.Generator().manual_seed(workers.all_gather(own_call.drawn_seed())[0])

    @property
    def _has_seed(self) -> bool:
        """Whether the recipe's seed counts: always in a search; in a plain call, where the caller wrote it."""
        return self.recipe.search.is_wide or "seed" in self.recipe.model_fields_set

    @property
    def _has_own_call(self) -> bool:
        """Whether the pipeline's own call makes the same video as this recipe."""
        return isinstance(self._adapter, HasOwnCall) and not self.recipe.search.is_wide

    def _is_observed(self, call: Mapping[str, Any]) -> bool:
        """Whether something needs the chunks of this call."""
        return bool(self._observing.built or self._rewards.bound or call.get(own_call.CHUNK_END))

    def _made(self, call: Mapping[str, Any]) -> Any:
        """The videos of a call, a session each."""
        calls = prompts.split(call, self.recipe.seed if self._has_seed else None)
        self._check_several(calls)
        outputs = prompts.made(calls, lambda each: self.complete(self._opened(each)))
        return outputs[0] if len(calls) == 1 else prompts.joined(outputs)

    def _opened(self, call: Mapping[str, Any]) -> Run:
        """An open run of this call. Where that is refused and the pipeline itself may take it, the error adds how."""
        try:
            return self.begin(**call)
        except (InputError, UnsupportedPipelineError) as error:
            if not self._has_own_call or call.get("schedule"):
                raise
            own_call.check_names(self.pipe, {name: value for name, value in call.items() if name not in OWN_ARGUMENTS})
            raise type(error)(f"{error} {own_call.UNOBSERVED}") from error

    def _passed_on(self, call: Mapping[str, Any], reason: str, refusal: StreamT1Error | None = None) -> Any:
        """What the pipeline's own call returns. `refusal`: the session's error, which replaces the pipeline's own."""
        given = {name: value for name, value in call.items() if name not in OWN_ARGUMENTS}
        own_call.check_names(self.pipe, given)
        if given.get("generator") is None and self._has_seed:
            given["generator"] = torch.Generator().manual_seed(self.recipe.seed)
        assert isinstance(self._adapter, HasOwnCall)
        with self._lock.acquire("a call of this pipeline (which has to return first)"):
            self._stopping, vars(self)["run"], self._own_tree = False, None, Tree()
            self._own_tree.note(own_call.OWN.format(reason=reason))
            with threads.limited(self._thread_count(given)), own_call.explained(given, refusal):
                output, remarks = own_call.passed_on(self.pipe, self._adapter.own_call(self.pipe, given))
            for remark in remarks:
                self._own_tree.note(remark)
                log.warning("%s", remark)
        return output

    def _heed_interrupt(self, run: Run) -> None:
        """Hand the stop button on: to the plain pipeline, however late it was pressed, or to the search."""
        if self._interrupt:
            self.pipe._interrupt = True
            run.stop = run.stop or not self._has_own_call

    def _run_hooks(self, run: Run, workers: Workers, observing: Observing, is_stepwise: bool) -> RunHooks:
        """The hooks of the policies and observers, and of the call's callback; no bar between the steps of a take."""
        policies = {f"{kind}.{getattr(run.recipe, kind).name}": policy for kind, policy in self._policies.items()}
        callback = {name: OnChunkEnd(self, run.call[name]) for name in OWN_ARGUMENTS if run.call.get(name)}
        if workers.rank:  # one record, one progress bar, one callback: the first process has them
            every = observing.built | callback
            observers = {name: each for name, each in every.items() if decides(each)}
        else:
            bar = {} if is_stepwise else observing.progress(self.pipe)
            observers = bar | observing.of(run, run.prompt) | callback
        return RunHooks(run, (policies | observers).items())

    def _warn_of_unknown_words(self, prompt: str) -> None:
        if (known := self.vocabulary) and (remark := unknown_words(prompt, known)):
            log.warning("%s", remark)

    def _thread_count(self, call: Mapping[str, Any]) -> int | None:
        """The CPU threads of a call, None for those that there are."""
        declared = None
        if isinstance(self._adapter, HasThreads) and placement.is_cpu(self._device()):
            with foreign_code(f"The threads of adapter {self.recipe.adapter.name!r}"):
                declared = self._adapter.threads(self.pipe, call)
        return threads.chosen(self.recipe.placement.threads, declared)

    def _device(self) -> str:
        return str(getattr(self.pipe, "_execution_device", None) or getattr(self.pipe, "device", "cpu"))


def _name(bound: BoundReward) -> str:
    return bound.name
