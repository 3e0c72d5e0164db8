"""What several rewards make of the same frames is made once, and is what each would have made alone."""

from __future__ import annotations

import torch

from streamt1_plugins.api.shared_frames import admit, once, sharing


class Counting:
    """Doubles frames, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return frames * 2


def test_the_same_part_of_an_input_is_made_once() -> None:
    video, make = torch.rand(2, 6, 3, 4, 4), Counting()
    with sharing():
        admit(video)
        first, second = (once(video[0][2:5], "twice", make) for _ in range(2))
    assert first is second
    assert torch.equal(first, video[0, 2:5] * 2)
    assert make.calls == 1


def test_another_part_or_another_function_is_made_anew() -> None:
    video, make = torch.rand(2, 6, 3, 4, 4), Counting()
    with sharing():
        admit(video)
        for part in (video[0], video[1], video[0, ::2], video[0, :3], video[0, :3].flip(-1), video[0, :, :1]):
            assert torch.equal(once(part, "twice", make), part * 2)
        once(video[0], "another", make)
    assert make.calls == 7


def test_a_tensor_of_the_rewards_own_is_not_remembered() -> None:
    video, make = torch.rand(1, 6, 3, 4, 4), Counting()
    with sharing():
        admit(video)
        for level in range(20):  # the allocator gives the same address again
            own = torch.full((6, 3, 4, 4), float(level))
            assert torch.equal(once(own, "twice", make), own * 2)
            del own


def test_nothing_is_remembered_outside_or_from_one_set_of_candidates_to_the_next() -> None:
    video, make = torch.rand(1, 6, 3, 4, 4), Counting()
    admit(video)
    once(video[0], "twice", make)
    for _ in range(2):
        with sharing():
            admit(video)
            once(video[0], "twice", make)
    once(video[0], "twice", make)
    assert make.calls == 4
