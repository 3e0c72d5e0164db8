"""Evaluation of candidates: rewards to calibrated readings, stage by stage, shared among the processes of a search."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

from streamt1_plugins.api.scenes import scene_at
from streamt1_plugins.api.shared_frames import sharing
from streamt1_plugins.api.types import Node, Reading, node_id
from streamt1_plugins.evaluation import cascade
from streamt1_plugins.evaluation.calibration import calibrate, combine
from streamt1_plugins.evaluation.calls import RewardCalls, Verdict
from streamt1_plugins.evaluation.inputs import Frames, Inputs
from streamt1_plugins.evaluation.thinning import thinned

if TYPE_CHECKING:
    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.reward import Denoiser, RewardInput
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.evaluation.pool import BoundReward, RewardPool

AnyNode = TypeVar("AnyNode", bound=Node)
InFull = Callable[[Sequence["Candidate"]], list["Candidate"]]
"""Decodes the candidates that can survive in full; see `search.previews`."""
DenoiserOf = Callable[[Sequence["Candidate"]], "Denoiser"]
"""Gives rewards the video model for these candidates; see `search.denoiser`."""


@dataclass
class Evaluator:
    """Evaluates the candidates of one run with the rewards in `pool`, all candidates of a chunk in one call per reward.

    In a search of several processes each evaluates the candidates whose frames it has. `denoiser_of` is the search's.
    """

    run: Run
    pool: RewardPool
    workers: Workers
    denoiser_of: DenoiserOf | None = None

    @property
    def has_rewards(self) -> bool:
        """Whether the recipe names any reward."""
        return bool(self.pool.bound)

    @sharing()
    def evaluate(
        self, candidates: Sequence[Candidate], score: Callable[[Candidate], float], in_full: InFull = list
    ) -> list[Candidate]:
        """The candidates with `readings`, `short` and `long`.

        Those that a reward failed on get a `problem`. Those that an early stage of rewards pruned, by `score`, get its
        `stage` and no further readings. Before a stage that scores frames decoded in full, previewed ones go `in_full`.
        """
        self.pool.serve(self.run)
        judged, inputs = list(candidates), None
        stages = cascade.stages(self.pool.bound)
        for number, stage in enumerate(stages, 1):
            if self._are_needed_in_full(stage, judged):
                judged, inputs = in_full(judged), None
            inputs = inputs or self._inputs([each for each in judged if each.is_finished])
            judged = self._without_vetoed(stage, self._stage(stage, judged, inputs))
            if number < len(stages):
                scores = {each.ordinal: score(each) for each in judged if each.is_eligible}
                passing = cascade.best(scores, self.run.recipe.rewards.keep, self.run.recipe.search)
                judged = cascade.thinned(judged, scores.keys() - passing, stage[0].settings.stage)
        self.pool.offload()
        return judged

    @sharing()
    def evaluate_previews(self, drafts: Sequence[Candidate], in_full: InFull) -> list[Candidate]:
        """Unfinished candidates with the readings that the first stage of rewards takes of their previews.

        Previews are blurred in a way of their own, so they are calibrated among themselves alone, and vetoes, which are
        meant for finished frames, do not apply.
        """
        self.pool.serve(self.run)
        first = cascade.stages(self.pool.bound)[0]
        if self._are_needed_in_full(first, drafts):
            drafts = in_full(drafts)
        judged = self._stage(first, drafts, self._inputs(drafts, are_drafts=True))
        self.pool.offload()
        return judged

    def _inputs(self, candidates: Sequence[Candidate], *, are_drafts: bool = False) -> Inputs:
        """The inputs of those candidates whose frames this process has."""
        here = [each for each in candidates if each.location != "elsewhere"]
        return Inputs(Frames(self.run), here, are_drafts)

    def _are_needed_in_full(self, stage: Sequence[BoundReward], candidates: Sequence[Candidate]) -> bool:
        """Whether a stage of rewards scores frames of the carried decoder, and there are previews so far."""
        horizons = {bound.horizon for bound in stage}
        is_carried = any(self.run.recipe.rewards.decode_of(each) == "carried" for each in horizons)
        return is_carried and any(each.previewed for each in candidates)

    @sharing()
    def evaluate_whole_videos(self) -> list[float]:
        """The long reward of each surviving beam's whole video; NaN where there is none."""
        self.pool.serve(self.run)
        whole = cache(Frames(self.run).whole_videos)
        nodes = [replace(beam.path[-1], readings={}, problem=None) for beam in self.run.beams]
        for bound in self.pool.bound:
            if bound.horizon == "long":
                verdicts = (
                    self._along(bound)
                    if bound.denoiser_calls
                    else self._verdicts(bound, range(len(nodes)), partial(_whole_input, whole, bound))
                )
                nodes = with_verdicts(bound, nodes, verdicts, self._earlier(bound))
        self.pool.offload()
        return [node.long if node.is_valid else math.nan for node in nodes]

    def _without_vetoed(self, stage: Sequence[BoundReward], candidates: list[Candidate]) -> list[Candidate]:
        """The candidates, those below a reward's `veto` made invalid; a veto that would leave none is only noted."""
        for bound in stage:
            vetoed = cascade.vetoed(candidates, bound)
            if any(each.is_eligible for each in vetoed) or not any(each.is_eligible for each in candidates):
                candidates = vetoed
            else:
                note = f"reward {bound.name!r} vetoed every candidate, so its veto was ignored."
                self.run.tree.note(f"Chunk {candidates[0].chunk}: {note}")
        return candidates

    def _stage(self, stage: Sequence[BoundReward], candidates: Sequence[Candidate], inputs: Inputs) -> list[Candidate]:
        """One stage's rewards for the candidates that no earlier stage has pruned."""
        judged = list(candidates)
        rows = [row for row, candidate in enumerate(candidates) if candidate.is_eligible]
        self.run.cost.readings_saved += len(stage) * sum(candidate.stage is not None for candidate in candidates)
        for bound in stage if rows else ():
            chosen = [judged[row] for row in rows]
            show = partial(self._input, inputs, bound, chosen)
            verdicts = self._verdicts(bound, [each.ordinal for each in chosen], show)
            earlier = [] if inputs.are_drafts else self._earlier(bound)
            for row, candidate in zip(rows, with_verdicts(bound, chosen, verdicts, earlier), strict=True):
                judged[row] = candidate
        return judged

    def _verdicts(
        self, bound: BoundReward, ordinals: Sequence[int], show: Callable[[list[int]], RewardInput]
    ) -> list[Verdict] | None:
        """One reward's verdicts, each from the process that has the frames; None where the reward was left out."""
        chunk = self.run.chunk.index if self.run.chunk else 0

        def work(rows: list[int]) -> list[Verdict | None]:
            names = ", ".join(node_id(chunk, ordinals[row]) for row in rows)
            self.workers.set_status(f"evaluating candidate {names} with reward {bound.name!r}")
            found = RewardCalls(self.run, self.pool).verdicts(bound, show(rows))
            return [None] * len(rows) if found is None else [*found]

        verdicts = self.workers.map(self.run, ordinals, work)
        known = [verdict for verdict in verdicts if verdict is not None]
        return known if len(known) == len(verdicts) else None

    def _input(
        self, inputs: Inputs, bound: BoundReward, chosen: Sequence[Candidate], rows: Sequence[int]
    ) -> RewardInput:
        """A reward's input for those of the `chosen` candidates that `rows` picks."""
        some = [chosen[row] for row in rows]
        inp = inputs.of(bound.horizon, bound.reward.lead_frames, some, every=bound.settings.every)
        if not bound.denoiser_calls:
            return inp
        assert self.denoiser_of is not None, "only a search calls rewards that judge with the video model"
        return replace(inp, denoiser=self.denoiser_of(some))

    def _along(self, bound: BoundReward) -> list[Verdict] | None:
        """What a reward that judges chunks alone gave those of each surviving beam's last scene, on average.

        None where it was left out for one of them.
        """
        beams = self.run.beams
        first = scene_at(self.run.session, beams[0].history.index - 1).chunk
        found = [[node.readings.get(bound.horizon, {}) for node in beam.path if node.chunk >= first] for beam in beams]
        raws = [[each[bound.name].raw for each in along if bound.name in each] for along in found]
        return [Verdict(fmean(each)) for each in raws] if all(raws) else None

    def calibrated_together(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates of several rounds of a chunk, each reward's readings calibrated among all of them."""
        judged, own = list(candidates), {each.id for each in candidates}
        for bound in self.pool.bound:
            rows = [row for row, each in enumerate(judged) if _has_reading(each, bound)]
            chosen = [judged[row] for row in rows]
            verdicts = [Verdict(each.readings[bound.horizon][bound.name].raw, each.problem) for each in chosen]
            earlier = self._earlier(bound, without=own)
            for row, candidate in zip(rows, with_verdicts(bound, chosen, verdicts, earlier), strict=True):
                judged[row] = candidate
        return judged

    def _earlier(self, bound: BoundReward, without: Container[str] = ()) -> list[float]:
        """The reward's raw scores of finished candidates so far in the run, `without` those with these ids."""
        nodes = [node for node in self.run.tree if node.is_finished and node.id not in without]
        finished = [node.readings.get(bound.horizon, {}) for node in nodes]
        return [readings[bound.name].raw for readings in finished if bound.name in readings]


def _has_reading(node: Node, bound: BoundReward) -> bool:
    """Whether a reward has judged a whole candidate."""
    return node.is_finished and bound.name in node.readings.get(bound.horizon, {})


def _whole_input(whole: Callable[[], RewardInput], bound: BoundReward, rows: Sequence[int]) -> RewardInput:
    """A reward's input for the whole videos that `rows` picks."""
    return thinned(whole().take(rows), bound.settings.every, 0)


def with_verdicts(
    bound: BoundReward, nodes: Sequence[AnyNode], verdicts: Sequence[Verdict] | None, earlier: Sequence[float]
) -> list[AnyNode]:
    """The nodes with one reward's readings and the horizon's new mean; `earlier` raw scores count in calibration."""
    if verdicts is None:
        return list(nodes)
    values = calibrate([verdict.raw for verdict in verdicts], earlier, bound.settings.calibration)
    rows = zip(nodes, verdicts, values, strict=True)
    return [_with_verdict(bound, node, verdict, value) for node, verdict, value in rows]


def _with_verdict(bound: BoundReward, node: AnyNode, verdict: Verdict, value: float) -> AnyNode:
    reading = Reading(verdict.raw, value, bound.settings.weight)
    readings = {**node.readings.get(bound.horizon, {}), bound.name: reading}
    problem = verdict.problem
    if problem is None and reading.weight > 0 and not math.isfinite(value):
        problem = f"Reward {bound.name!r} gave a value that is not finite."
    changed = replace(node, readings={**node.readings, bound.horizon: readings}, problem=node.problem or problem)
    mean = combine(readings)
    return replace(changed, short=mean) if bound.horizon == "short" else replace(changed, long=mean)
