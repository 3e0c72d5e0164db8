"""The hooks of a run: which parts answer them, in which order, and what becomes of their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins.run_hooks import RunHooks
from tests.parts import Diary, Last, Misspelt, hookimpl, run


class Full:
    @hookimpl
    def streamt1_run_finished(self) -> None:
        raise OSError("the disk is full")


@pytest.mark.parametrize("order", [("full", "diary"), ("diary", "full")])
def test_run_finished_reaches_every_part_even_when_one_fails(order: tuple[str, str]) -> None:
    parts = {"full": Full(), "diary": Diary()}
    with pytest.raises(PluginError, match="'full' at the end of the run failed: OSError: the disk is full"):
        run(observers={name: parts[name] for name in order})
    assert parts["diary"].of("finished")


def test_a_part_that_fails_at_the_end_does_not_hide_why_the_run_ended(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="the pipeline broke"):
        run(observers={"full": Full()}, fail_at=1)
    assert "the disk is full" in caplog.text


class Plus:
    def __init__(self, amount: float, seen: list[float]) -> None:
        self.amount, self.seen = amount, seen

    @hookimpl(wrapper=True)
    def streamt1_score(self, candidate: Any) -> Any:
        score = yield
        self.seen.append(score)
        return score + self.amount


def test_wrappers_compose_around_the_one_answer() -> None:
    first: list[float] = []
    second: list[float] = []
    plain = run()
    pipe = run(observers={"one": Plus(1, first), "ten": Plus(10, second)})
    assert [b - a for a, b in zip(first, second, strict=True)] == pytest.approx([1] * len(first))
    assert pipe.tree.chunk(0)[0].score == pytest.approx(plain.tree.chunk(0)[0].score + 11)


@dataclass(frozen=True)
class Twin:
    """Equal to every other one: pluggy alone would refuse the second."""


def test_equal_parts_may_stand_side_by_side() -> None:
    assert run(observers={"a": Twin(), "b": Twin()}).tree.winner


def test_parts_are_named_as_in_the_recipe() -> None:
    with pytest.raises(PluginError, match=r"streamt1_select has 2 answers in this run \(selection.top_k, other\)"):
        run(observers={"other": Last()})


class WrongArgument:
    @hookimpl
    def streamt1_select(self, candidate_list: Any) -> Any: ...


@pytest.mark.parametrize(("part", "wrong"), [(Misspelt(), "streamt1_selekt"), (WrongArgument(), "candidate_list")])
def test_a_part_with_an_unknown_hook_or_argument_is_named(part: object, wrong: str) -> None:
    with pytest.raises(PluginError, match=rf"(?s)'odd' cannot take part in the run: .*{wrong}"):
        RunHooks(None, [("odd", part)])
