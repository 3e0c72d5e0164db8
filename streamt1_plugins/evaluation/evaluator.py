"""Reward measurement: candidates to calibrated readings, rewards loaded and unloaded, failures as the recipe says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

from streamt1_plugins.api.candidate import is_here
from streamt1_plugins.api.run import names
from streamt1_plugins.api.types import Node, Reading
from streamt1_plugins.errors import InputError, RecipeError, foreign_code
from streamt1_plugins.evaluation import cascade
from streamt1_plugins.evaluation import inputs as views
from streamt1_plugins.evaluation.calibration import calibrate, combine
from streamt1_plugins.evaluation.calls import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.reward import Reward, RewardInput
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Horizon
    from streamt1_plugins.config.rewards import RewardPart
    from streamt1_plugins.evaluation.calls import Answer
    from streamt1_plugins.evaluation.cascade import Named

AnyNode = TypeVar("AnyNode", bound=Node)


@dataclass
class Measurer:
    """Measures candidates with the rewards a recipe names, all candidates of a chunk in one call per reward."""

    rewards: Mapping[Named, Reward]
    _loaded: dict[int, Reward] = field(default_factory=dict, repr=False)
    _run: Run | None = field(default=None, repr=False)

    def start(self, run: Run) -> None:
        """Load the rewards of a run and check that they can serve it; those that stay loaded are not loaded again.

        Raises `PluginError` for a reward that does not load, `InputError` where one needs a prompt and there is none.
        """
        for (horizon, name), reward in self.rewards.items():
            part = _part(run, horizon, name)
            if not part.offload:
                self._load(run, name, part, reward)
            _check(run, horizon, name, reward)
        self._remember(run)

    def finish(self, run: Run) -> None:
        """Free what the recipe wants freed when a run ends."""
        for (horizon, name), reward in self.rewards.items():
            if _part(run, horizon, name).unload and id(reward) in self._loaded:
                del self._loaded[id(reward)]
                with foreign_code(f"Unloading reward {name!r}"):
                    reward.unload()
        self._run = None

    def measure(
        self, run: Run, chunk: Chunk, candidates: Sequence[Candidate], score: Callable[[Candidate], float]
    ) -> list[Candidate]:
        """The candidates with `readings`, `short` and `long`.

        Those a reward failed on get a `problem`; those that an early stage of rewards left behind, by `score`, get
        its `stage` and no further readings.
        """
        self._remember(run)
        here = [each for each in candidates if is_here(each) and each.is_finished]
        seen, judged = views.Views(run, chunk, here), list(candidates)
        stages = cascade.stages(run.recipe.rewards)
        for number, parts in enumerate(stages, 1):
            judged = cascade.veto(run, self._stage(run, parts, judged, seen), parts)
            if number < len(stages):
                judged = cascade.thin(run, judged, next(iter(parts.values())).stage, score)
        self._offload(run)
        return judged

    def previews(self, run: Run, chunk: Chunk, drafts: Sequence[Candidate]) -> list[Candidate]:
        """Unfinished candidates with the readings that the first stage of rewards takes of their previews.

        Previews are blurred in a way of their own, so they are calibrated among themselves alone, and no veto, which is
        meant for finished frames, looks at them.
        """
        self._remember(run)
        seen = views.Views(run, chunk, [each for each in drafts if is_here(each)], are_drafts=True)
        judged = self._stage(run, cascade.stages(run.recipe.rewards)[0], list(drafts), seen)
        self._offload(run)
        return judged

    def whole_videos(self, run: Run) -> list[float]:
        """The long reward of each surviving beam's whole video; NaN where there is none."""
        self._remember(run)
        whole = cache(lambda: views.whole_videos(run))
        nodes = [replace(beam.path[-1], readings={}, problem=None) for beam in run.beams]
        for name, part in run.recipe.rewards.long.items():
            answers = self._answers(run, ("long", name), part, range(len(nodes)), lambda rows: whole().take(rows))
            nodes = _with_answers(("long", name), part, nodes, answers, _earlier(run, "long", name))
        self._offload(run)
        return [node.long if node.is_valid else math.nan for node in nodes]

    def _stage(
        self, run: Run, parts: Mapping[Named, RewardPart], candidates: list[Candidate], seen: views.Views
    ) -> list[Candidate]:
        """One stage's rewards for the candidates still in the running; all of them in the first stage."""
        judged = list(candidates)
        rows = [row for row, candidate in enumerate(candidates) if candidate.is_eligible]
        run.cost.readings_saved += len(parts) * sum(candidate.stage is not None for candidate in candidates)
        if not rows:
            return judged
        for (horizon, name), part in parts.items():
            asked = [judged[row] for row in rows]
            show = partial(seen.some, horizon, self.rewards[horizon, name].lead_frames, asked)
            answers = self._answers(run, (horizon, name), part, [each.ordinal for each in asked], show)
            earlier = [] if seen.are_drafts else _earlier(run, horizon, name)
            read = _with_answers((horizon, name), part, asked, answers, earlier)
            for row, candidate in zip(rows, read, strict=True):
                judged[row] = candidate
        return judged

    def _answers(
        self,
        run: Run,
        named: Named,
        part: RewardPart,
        ordinals: Sequence[int],
        show: Callable[[list[int]], RewardInput],
    ) -> list[Answer] | None:
        """What one reward says of candidates, each asked about where it was made; None where it is left out."""
        (_, name), reward = named, self.rewards[named]

        def work(rows: list[int]) -> list[Answer | None]:
            run.team.doing(f"asking reward {name!r} about " + names(run, [ordinals[row] for row in rows]))
            answers = ask(run, name, reward, part, show(rows), lambda: self._load(run, name, part, reward))
            return [None] * len(rows) if answers is None else [*answers]

        answers = run.team.share(run, ordinals, work)
        found = [answer for answer in answers if answer is not None]
        return found if len(found) == len(answers) else None

    def _load(self, run: Run, name: str, part: RewardPart, reward: Reward) -> None:
        if id(reward) not in self._loaded:
            with foreign_code(f"Loading reward {name!r}"):
                reward.load(run.device if part.device == "auto" else part.device)
            self._loaded[id(reward)] = reward

    def _offload(self, run: Run) -> None:
        for (horizon, name), reward in self.rewards.items():
            if _part(run, horizon, name).offload and id(reward) in self._loaded:
                del self._loaded[id(reward)]
                with foreign_code(f"Offloading reward {name!r}"):
                    reward.offload()

    def _remember(self, run: Run) -> None:
        """Frame keys name other pixels in another run: what rewards keep by them is dropped when the run changes."""
        if self._run is not run:
            self._run = run
            for (_, name), reward in self.rewards.items():
                with foreign_code(f"Resetting reward {name!r}"):
                    reward.reset()


def _part(run: Run, horizon: Horizon, name: str) -> RewardPart:
    part: RewardPart = getattr(run.recipe.rewards, horizon)[name]
    return part


def _check(run: Run, horizon: Horizon, name: str, reward: Reward) -> None:
    if horizon not in reward.horizons:
        raise RecipeError(f"rewards.{horizon}.{name}: {name!r} serves only the horizons {', '.join(reward.horizons)}.")
    if reward.needs_prompt and not run.prompt.strip():
        raise InputError(f"Reward {name!r} judges by the prompt, and the prompt is empty. Give one, or leave it out.")
    if not reward.deterministic:
        run.tree.note(f"Reward {name!r} is not deterministic: the same seed may give another video.")


def _earlier(run: Run, horizon: Horizon, name: str) -> list[float]:
    """What a reward has said of finished candidates so far in the run."""
    finished = [node.readings.get(horizon, {}) for node in run.tree if node.is_finished]
    return [readings[name].raw for readings in finished if name in readings]


def _with_answers(
    named: Named,
    part: RewardPart,
    nodes: Sequence[AnyNode],
    answers: Sequence[Answer] | None,
    earlier: Sequence[float],
) -> list[AnyNode]:
    """One reward's readings for all nodes, and what they make of the horizon's mean; `earlier` raw ones calibrate."""
    if answers is None:
        return list(nodes)
    raws = [raw for raw, _ in answers]
    values = calibrate(raws, earlier, part.calibration)
    readings = [Reading(raw, value, part.weight) for raw, value in zip(raws, values, strict=True)]
    problems = [problem for _, problem in answers]
    return [_with_reading(*row, named) for row in zip(nodes, readings, problems, strict=True)]


def _with_reading(node: AnyNode, reading: Reading, problem: str | None, named: Named) -> AnyNode:
    horizon, name = named
    readings = {**node.readings.get(horizon, {}), name: reading}
    if problem is None and reading.weight > 0 and not math.isfinite(reading.value):
        problem = f"Reward {name!r} gave a value that is not finite."
    changed = replace(node, readings={**node.readings, horizon: readings}, problem=node.problem or problem)
    value = combine(readings)
    return replace(changed, short=value) if horizon == "short" else replace(changed, long=value)
