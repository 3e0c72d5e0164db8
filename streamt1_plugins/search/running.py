"""What surrounds a search from its first chunk to its end: checks, rewards in their places, the report of the end."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.scenes import prompts_of
from streamt1_plugins.errors import InputError
from streamt1_plugins.process import placement, threads
from streamt1_plugins.search import denoiser, early_pruning, memory_estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.search.loop import Search


@contextmanager
def running(search: Search, pipe: Any, width: object) -> Iterator[None]:
    """Check the run and load its rewards; at the end free them and inform the observers, however it comes.

    width: the run's width policy. Raises `InputError` or `RecipeError` for what cannot be searched.
    """
    run, rewards = search.run, search.evaluator.pool
    if not run.session.capabilities.routes and run.recipe.memory.name != "fixed":
        run.tree.note("This pipeline's memory cannot be routed; the search runs without memory sinking.")
    for note in placement.notes(pipe, run.recipe, run.device):
        run.tree.note(note)
    with ExitStack() as stack:
        stack.enter_context(search.workers.fail_together())  # the observers are still to save what there is
        stack.push(lambda kind, error, trace: search.hooks.run_finished(error))
        stack.enter_context(search.workers.fail_together())
        _check_same(search)
        early_pruning.check(run.recipe, run.session)
        denoiser.check(run, rewards.bound)
        run.predictions = denoiser.predictions(run.recipe, rewards.bound)
        memory_estimate.check(search, pipe, width)
        with threads.limited(run.threads):
            rewards.start(run)
        stack.push(lambda kind, error, trace: rewards.finish(error))
        yield


def _check_same(search: Search) -> None:
    """Raise `InputError` where the processes that share candidates were called for different videos."""
    run = search.run
    calls = search.workers.all_gather((*prompts_of(run.session), run.seed))
    if len(set(calls)) > 1:
        listed = ", ".join(f"{'; '.join(map(repr, prompts))} with seed {seed}" for *prompts, seed in calls)
        raise InputError(f"The processes search different videos: {listed}. Give all the same prompt and seed.")
