"""A reward in one file, which scores warm colors, in the two ways that need no package.

    python examples/reward.py                  # an object, passed to the pipeline
    streamt1 --plugin examples/reward.py generate "a red circle" -o rewards.long.warmth.weight=0.5      # a plugin

`streamt1 new-reward NAME` writes a package with tests, for a reward that others install.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamt1_plugins as streamt1
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
    # An installed plugin names its class as "module:Warmth" instead, so that it is imported on first use.
    register("warmth", target=Warmth)


def main() -> None:
    """A search with a `Warmth` object as its only reward; it needs no name in a registry."""
    alone = ["rewards.replace=true"]  # without it, the object joins the rewards of the recipe
    pipe = streamt1.load("tinyworld", overrides=alone, rewards={"warmth": Warmth(strength=2)})
    pipe("a circle moving right", num_frames=33)
    for node in pipe.tree.path(pipe.tree.winner[-1]):
        print(f"chunk {node.chunk}: kept {node.id}, warmth {node.readings['long']['warmth'].raw:+.2f}")


if __name__ == "__main__":
    main()
