"""The contract of a reward."""

from __future__ import annotations

import warnings

import pytest
import torch

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput


def test_the_old_spelling_of_license_still_counts_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"Old\.licence is deprecated: declare `license`") as caught:

        class Old(Reward):
            licence = "MIT"

            def score(self, inp: RewardInput) -> RewardOutput:
                return RewardOutput(torch.zeros(len(inp.prompts)))

    assert Old.license == "MIT"
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Child(Old):
            pass

    assert Child.license == "MIT"
    assert Reward.license == "Apache-2.0"
