"""A reward that changes its input or draws global random numbers ends the run."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import ContractError
from streamt1_plugins.evaluation.purity import purity_check
from tests.toy import Bright, ToyPipeline


@pytest.mark.parametrize("what", ["video", "anchor"])
def test_a_reward_that_changes_its_input_ends_the_run_and_is_named(what: str) -> None:
    class Vandal(Bright):
        def score(self, inp: Any) -> Any:
            out = super().score(inp)
            if getattr(inp, what) is not None:
                getattr(inp, what).zero_()
            return out

    with pytest.raises(ContractError, match="Reward 'mine' changed its input in place"):
        run_with(Vandal())


def test_a_reward_that_draws_global_random_numbers_is_named_and_the_state_put_back() -> None:
    class Gambler(Bright):
        def score(self, inp: Any) -> Any:
            return streamt1.RewardOutput(torch.rand(len(inp.prompts)))

    before = torch.get_rng_state()
    with pytest.raises(ContractError, match="Reward 'mine' drew from torch's global random generator"):
        run_with(Gambler())
    assert torch.equal(before, torch.get_rng_state())


def test_the_watch_sees_changes_torch_does_not_count() -> None:
    """Tensors made under inference_mode have no version counter, and `data` goes around it."""
    with torch.inference_mode():
        uncounted = torch.full((1, 2, 3, 4, 4), math.nan)
    for video in (uncounted, torch.rand(1, 2, 3, 4, 4)):
        inp = streamt1.RewardInput(video, ("a",), 8.0, 0, 1, slice(0, 2))
        with purity_check("Reward 'x'", inp):
            pass
        with pytest.raises(ContractError), purity_check("Reward 'x'", inp), torch.inference_mode():
            inp.video.data.fill_(3.0)


def run_with(reward: streamt1.Reward, *overrides: str, horizon: str = "short") -> streamt1.StreamPipeline:
    """A run of the toy in which `reward` counts on one horizon, as `mine`; the toy's own reward on the other one."""
    other = "long" if horizon == "short" else "short"
    named = [f"rewards.{horizon}.mine={{}}", *([] if overrides else [f"rewards.{other}.bright={{}}"])]
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[*named, *overrides], rewards={"mine": reward})
    pipe("a prompt")
    return pipe
