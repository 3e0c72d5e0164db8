"""The hooks of one object: read without touching it, checked, and named where they fail."""

from __future__ import annotations

from typing import Any

import pytest

from streamt1_plugins import hookimpl
from streamt1_plugins.errors import InputError, PluginError
from streamt1_plugins.plugins.implementations import HOOKS, implements, new_manager, reads_frames, register


class Part:
    """Equal to nothing, unhashable, without a repr, and with a property that must not be read."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise SystemExit

    def __repr__(self) -> str:
        raise SystemExit

    @property
    def model(self) -> object:
        raise AssertionError("read")

    @hookimpl
    def streamt1_score(self, candidate: Any) -> Any:
        if isinstance(candidate, BaseException):
            raise candidate
        return candidate


class Doubling:
    @hookimpl(wrapper=True)
    def streamt1_score(self, candidate: Any) -> Any:
        answer = yield
        if answer == 3:
            raise StopIteration
        return 2 * answer


def test_the_hooks_are_those_of_the_reference() -> None:
    assert len(HOOKS) == 16
    assert "streamt1_score" in HOOKS


def test_objects_that_cannot_be_compared_stand_side_by_side() -> None:
    manager = new_manager()
    assert register(manager, Part(), "one") == register(manager, Part(), "other") == ["streamt1_score"]


def test_a_hook_under_another_name_is_found() -> None:
    class Renamed:
        @hookimpl(specname="streamt1_score")
        def mine(self, candidate: Any) -> int:
            return 4

        @hookimpl(optionalhook=True)
        def streamt1_from_a_later_version(self) -> None: ...

    manager = new_manager()
    register(manager, Renamed(), "renamed", guarded=True)
    assert manager.hook.streamt1_score(run=None, chunk=None, candidate=None) == 4


@pytest.mark.parametrize("hook", ["streamt1_scor", "streamt_score", "score_streamt1"])
def test_a_misspelt_hook_gets_a_guess(hook: str) -> None:
    part = type("Odd", (), {hook: hookimpl(lambda self: None)})()
    with pytest.raises(PluginError, match=rf"implements a hook that does not exist: '{hook}'"):
        register(new_manager(), part, "odd")
    assert not implements(part, "streamt1_score")


def test_an_object_whose_attributes_cannot_be_read() -> None:
    class Opaque:
        def __dir__(self) -> list[str]:
            raise SystemExit

    with pytest.raises(PluginError, match="cannot be read: Reading the hooks failed: SystemExit"):
        register(new_manager(), Opaque(), "opaque")


def scored(candidate: object) -> Any:
    manager = new_manager()
    for name, part in (("part", Part()), ("doubling", Doubling())):
        register(manager, part, name, guarded=True)
    return manager.hook.streamt1_score(run=None, chunk=None, candidate=candidate)


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(), GeneratorExit(), ValueError()])
def test_the_part_that_fails_is_named_through_the_wrappers_of_others(error: BaseException) -> None:
    with pytest.raises(PluginError, match=f"'part' in streamt1_score failed: {type(error).__name__}"):
        scored(error)


@pytest.mark.parametrize("error", [InputError("mine"), KeyboardInterrupt()])
def test_an_error_for_the_user_and_an_interruption_pass(error: BaseException) -> None:
    with pytest.raises(type(error)):
        scored(error)


def test_a_wrapper_answers_and_is_named() -> None:
    assert scored(2) == 4
    with pytest.raises(PluginError, match=r"'doubling' in streamt1_score failed: (StopIteration|RuntimeError)"):
        scored(3)


def test_what_takes_candidates_may_read_their_frames_unless_it_declares_otherwise() -> None:
    class Survivors:
        @hookimpl
        def streamt1_chunk_selected(self, run: Any, kept: Any) -> None:
            """These are decoded in any case."""

    class Numbers(Part):
        needs_frames = False

    class Losers(Survivors):
        needs_frames = True

        @hookimpl
        def streamt1_chunk_selected(self, pruned: Any) -> None: ...

    assert [reads_frames(each) for each in (Part(), Survivors(), Numbers(), Losers(), object())] == [
        True,
        False,
        False,
        True,
        False,
    ]
