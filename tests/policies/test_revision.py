"""What a revision policy declares."""

from __future__ import annotations

import pytest

from streamt1_plugins import RevisionLimits
from streamt1_plugins.policies.revision import NEVER, NoRevision, limits_of, share, widening


def test_limits_are_those_that_a_policy_declares() -> None:
    class Declared:
        limits = RevisionLimits(reach=4, returns=1)

    class Wrong:
        limits = 4

    assert limits_of(NoRevision()) == NEVER
    assert limits_of(Declared()).reach == 4
    assert limits_of(Wrong()) == limits_of(object()) == RevisionLimits(reach=0, returns=None, rounds=None)


@pytest.mark.parametrize(
    ("width", "rounds", "expected"), [(4, 2, [2, 2]), (5, 2, [3, 2]), (1, 3, [1, 0, 0]), (7, 3, [3, 2, 2])]
)
def test_rounds_share_a_width(width: int, rounds: int, expected: list[int]) -> None:
    assert share(width, rounds) == expected


def test_rounds_that_do_not_share_the_width_add_to_it() -> None:
    assert widening(NEVER) == widening(RevisionLimits()) == widening(RevisionLimits(rounds=3, shared=True)) == 1
    assert widening(RevisionLimits(rounds=3)) == 3
