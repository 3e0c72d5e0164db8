"""Calls of one reward: in batches that it can take, checked for purity, failures handled by the recipe's `on_error`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streamt1_plugins.api.image_reward import ImageReward
from streamt1_plugins.api.shared_frames import admit
from streamt1_plugins.errors import ContractError, PluginError, UnreachableError, foreign_code, message_of
from streamt1_plugins.evaluation.outputs import scores_of
from streamt1_plugins.evaluation.pool import note_changes
from streamt1_plugins.evaluation.purity import purity_check
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch

    from streamt1_plugins.api.reward import Reward, RewardInput
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.schema import SearchSettings
    from streamt1_plugins.evaluation.pool import BoundReward, RewardPool
else:
    torch = deferred("torch")


class Verdict(NamedTuple):
    """One reward's raw score of one candidate; `problem` is why the candidate is invalid, None where it is not."""

    raw: float
    problem: str | None = None


@dataclass(frozen=True)
class RewardCalls:
    """Calls the rewards of a run. `pool` loads them where they are not loaded yet."""

    run: Run
    pool: RewardPool

    def verdicts(self, bound: BoundReward, inp: RewardInput) -> list[Verdict] | None:
        """One verdict per candidate; None where the reward failed and the recipe leaves it out (``on_error: skip``).

        Raises `PluginError` with ``on_error: raise``, and `ContractError` always.
        """
        settings = bound.settings
        admit(inp.video)
        if settings.device != "auto":
            with foreign_code(f"Moving the inputs of reward {bound.name!r} to {settings.device!r}"):
                inp = inp.to(settings.device)
        self.run.cost.readings += len(inp.prompts)
        try:
            self.pool.load(bound, self.run)
            with self.run.cost.judging(f"{bound.horizon}.{bound.name}", len(inp.prompts)):
                return [Verdict(raw) for raw in self._raw(bound, inp)]
        except ContractError:
            raise
        except PluginError as error:
            if settings.on_error == "raise":
                raise
            if settings.on_error == "skip":
                self._note_skipped(bound.name, inp, error)
                return None
            return self._blamed(bound, inp, error)

    def _raw(self, bound: BoundReward, inp: RewardInput) -> list[float]:
        count = len(inp.prompts)
        most = call_limit(self.run.recipe.search, bound.reward) or count
        batches = [inp.take(range(start, min(start + most, count))) for start in range(0, count, most)]
        return [score for batch in batches for score in self._call(bound, batch)]

    def _call(self, bound: BoundReward, inp: RewardInput) -> list[float]:
        """The scores of one call; a candidate that the reward marks as not valid gets NaN."""
        self.run.cost.reward_calls += 1
        source = f"Reward {bound.name!r}"
        with purity_check(source, inp) as changes, foreign_code(source, passes=PluginError), torch.inference_mode():
            scores = scores_of(bound.reward.score(inp), source, len(inp.prompts))
        note_changes(self.run, source, changes)
        return scores

    def _blamed(self, bound: BoundReward, inp: RewardInput, error: PluginError) -> list[Verdict]:
        """A failing call is repeated candidate by candidate to find those that it fails on."""
        count = len(inp.prompts)
        if count == 1 or isinstance(error, UnreachableError):
            return [Verdict(math.nan, message_of(error))] * count
        found: list[Verdict] = []
        for row in range(count):
            try:
                found.append(Verdict(self._raw(bound, inp.take([row]))[0]))
            except ContractError:
                raise
            except PluginError as alone:
                found.append(Verdict(math.nan, message_of(alone)))
        return found

    def _note_skipped(self, name: str, inp: RewardInput, error: PluginError) -> None:
        """Noted once per reward; which chunks lack it stands in their readings."""
        start = f"Reward {name!r} failed and was left out"
        if not any(note.startswith(start) for note in self.run.tree.notes):
            self.run.tree.note(f"{start} where it did, first in chunk {inp.chunk}: {message_of(error)}")


def call_limit(search: SearchSettings, reward: Reward) -> int | None:
    """The most candidates per call, None for any number.

    One where the search is exact (``search.batch: 1``) and the others in a call could change a score's last bits.
    """
    if isinstance(reward, ImageReward):  # its limit counts frames
        return None
    return reward.batch_limit if reward.batch_exact or search.batch > 1 else 1
