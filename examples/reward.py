"""A reward in one file: it scores warm colors. No package is needed to try it.

    streamt1 --plugin examples/reward.py generate "a red circle" -o rewards.long.warmth.weight=0.5

`streamt1 new-reward NAME` writes a whole package with tests once it should be installed.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamt1_plugins import RegisterReward, Reward, RewardInput, RewardOutput, hookimpl


@dataclass
class Warmth(Reward):
    """Red minus blue, -1 to 1. strength: a factor. The fields of the class are the options that a recipe may set."""

    strength: float = 1.0

    def score(self, inp: RewardInput) -> RewardOutput:
        """One number per candidate, higher is better; ``inp.video`` is ``[N, T, 3, H, W]`` in ``[0, 1]``."""
        red, _, blue = inp.video.mean((1, 3, 4)).unbind(-1)
        return RewardOutput(self.strength * (red - blue))


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    # Plugins that are installed name their class as "module:Warmth" instead, so that it is imported on first use.
    register("warmth", target=Warmth)
