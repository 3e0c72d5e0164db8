from dataclasses import dataclass

from streamt1_plugins import Reward, RewardInput, RewardOutput


@dataclass
class Redness(Reward):
    """How much red stands out. gain: factor of the difference to green and blue."""

    gain: float = 1.0

    def score(self, inp: RewardInput) -> RewardOutput:
        red, green, blue = inp.video.mean((1, 3, 4)).unbind(1)
        return RewardOutput(self.gain * (red - (green + blue) / 2))
