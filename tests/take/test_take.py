"""Takes: the video of the policies where nobody interferes, and by hand one that its record makes again bit by bit."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.api.tree import Action
from streamt1_plugins.process import progress
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.take.take import Take
from tests.toy import Picky, ToyPipeline, ToySession


def wrap(*overrides: str, **given: Any) -> streamt1.StreamPipeline:
    return streamt1.wrap(ToyPipeline(), overrides=["search.candidates=3", "search.top_k=2", *overrides], **given)


def recorded(folder: Path, *overrides: str) -> streamt1.StreamPipeline:
    return wrap(*overrides, observers=streamt1.record_to(folder))


def made_by_hand(take: Take) -> None:
    """Everything that a person may do."""
    take.roll(4)
    (_, new) = take.reroll(2, refine="000.01")
    take.keep(new)
    take.roll()
    take.prompt("rain", memory="flush")
    take.keep(["001.02", take.candidates[0]])
    take.play(1)
    take.back(2)
    take.roll()
    take.reroll()
    take.back(0)
    take.play(1)
    take.prompt("sun")
    take.roll()
    take.keep(take.choice[-1])
    take.play()


# What it makes.


def test_a_take_without_a_hand_is_the_video_of_the_policies() -> None:
    pipe = wrap()
    video, tree = pipe("a prompt"), pipe.tree
    with pipe.take("a prompt") as take:
        assert len(take.roll()) == 6
        assert take.choice == tuple(node.id for node in take.keep())
        take.play(1).play()
        assert take.is_finished
        assert torch.equal(take.save(), video)
    nodes = [(node.id, node.seed, node.score, node.fate) for node in take.tree]
    assert nodes == [(node.id, node.seed, node.score, node.fate) for node in tree]
    assert (take.tree.actions, take.tree.winner) == ([], tree.winner)


@pytest.mark.parametrize("overrides", [(), ("search.offload=cpu",), ("search.offload=recompute",)])
def test_what_was_made_by_hand_is_made_again_from_its_record(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    pipe = recorded(tmp_path / "run", *overrides)
    with pipe.take("a prompt") as take:
        made_by_hand(take)
        video = take.save()
    assert torch.equal(streamt1.regenerate(tmp_path / "run", None, ToyPipeline()), video)
    read = RecordedRun.read(tmp_path / "run")
    assert read.tree().to_dict() == take.tree.to_dict()
    assert read.call()["schedule"] == [{"chunk": 2, "prompt": "sun", "memory": "keep"}]
    for node in take.tree.abandoned():
        made = streamt1.regenerate(tmp_path / "run", node.id, ToyPipeline())
        assert len(made) == 3 * (node.chunk + 1)


def test_the_record_has_who_chose_what(tmp_path: Path) -> None:
    with recorded(tmp_path / "run").take("a prompt") as take:
        made_by_hand(take)
        take.save()
    tree = RecordedRun.read(tmp_path / "run").tree()
    assert [tree.chosen_by(chunk) for chunk in range(4)] == ["person", "policy", "person", "policy"]
    assert [action.kind for action in tree.actions] == [
        *("roll", "reroll", "keep", "prompt", "keep", "back", "reroll", "back", "prompt", "keep")
    ]
    assert tree.by_hand >= {"000.05", "001.02", "001.00"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<li>Chunk 3: back to chunk 1</li>" in page
    assert "picked by hand</b>" in page
    assert json.loads((tmp_path / "run" / "tree.json").read_text())["actions"][0]["kind"] == "roll"


def test_a_take_that_was_closed_resumes_from_what_was_kept(tmp_path: Path) -> None:
    with recorded(tmp_path / "one").take("a prompt") as take:
        take.roll(2)
        take.keep("000.01")
        take.prompt("rain", memory="flush")
        take.play()
        whole = take.save()
    with recorded(tmp_path / "two").take("a prompt") as take:
        take.roll(2)
        take.keep("000.01")
        take.prompt("rain", memory="flush")
        take.roll()
    assert RecordedRun.read(tmp_path / "two").status.startswith("stopped: Unsaved: The take was closed")
    assert torch.equal(streamt1.resume(tmp_path / "two", ToyPipeline()), whole)
    tree = RecordedRun.read(tmp_path / "two").tree()
    assert [action.kind for action in tree.actions] == ["roll", "keep", "prompt"]


@pytest.mark.parametrize("ends", ["close", "save"])
def test_a_take_is_opened_again_by_hand(tmp_path: Path, ends: str) -> None:
    with recorded(tmp_path / "run").take("a prompt") as take:
        take.play(1)
        take.prompt("rain")
        take.play(2)
        seeds = [each.seed for each in take.roll(4)]
        getattr(take, ends)()
    with streamt1.resume_take(tmp_path / "run", ToyPipeline()) as take:
        assert (take.chunk, take.scenes[-1]) == (streamt1.Chunk(3, 4), streamt1.Scene(1, "rain"))
        again = {each.seed for each in take.roll(4)}
        assert again.isdisjoint(seeds) if ends == "save" else again == set(seeds)
        take.back(3)
        assert [scene.prompt for scene in take.scenes] == ["a prompt"]
        take.play(1)
        take.prompt("sun")
        take.play()
        video = take.save()
    assert torch.equal(streamt1.regenerate(tmp_path / "run", None, ToyPipeline()), video)
    assert RecordedRun.read(tmp_path / "run").tree().to_dict() == take.tree.to_dict()


def test_a_recorded_run_is_taken_over(tmp_path: Path) -> None:
    recorded(tmp_path / "run")("a prompt")
    pipe = streamt1.branch(tmp_path / "run", "001.02", tmp_path / "mine", ToyPipeline())
    with pipe.take_over(pipe.last_run) as take:
        assert (take.chunk, take.tree.picked) == (streamt1.Chunk(2, 4), "001.02")
        take.prompt("rain")
        take.play()
        video = take.save()
    assert torch.equal(streamt1.regenerate(tmp_path / "mine", None, ToyPipeline()), video)


# The steps.


def test_a_refined_candidate_is_near_the_one_that_it_varies() -> None:
    with wrap().take("a prompt") as take:
        old = {each.id: each for each in take.roll(2)}
        near, far = take.reroll(1, refine="000.01", strength=0.1)[0], take.reroll(1)[0]
        assert near.varies is not None
        assert (near.varies.of, near.varies.strength, far.varies) == ("000.01", 0.1, None)
        noise = old["000.01"].noise
        assert (near.noise - noise).norm() < (far.noise - noise).norm()
        assert [each.id for each in take.candidates] == ["000.00", "000.01", "000.02", "000.03"]


def test_going_back_makes_other_candidates_and_leaves_the_old_ones_in_the_tree() -> None:
    with wrap().take("a prompt") as take:
        take.play(2)
        first, frames = {node.seed for node in take.tree}, take.frames
        take.back()
        assert (take.chunk, take.run.earliest) == (streamt1.Chunk(1, 4), 0)
        assert frames is not None
        assert torch.equal(take.frames, frames[:3])  # type: ignore[arg-type]
        assert not {each.seed for each in take.roll()} & first
        assert len(take.tree.abandoned(1)) == 6


def test_reach_limits_how_far_a_take_goes_back() -> None:
    with wrap().take("a prompt", reach=1) as take:
        take.play(3)
        with pytest.raises(streamt1.InputError, match="`back` takes 1 to 1 chunks here, got 2"):
            take.back(2)
        take.back()
        assert take.chunk == streamt1.Chunk(2, 4)


def test_a_person_may_keep_what_a_reward_refused() -> None:
    pipe = wrap(rewards={"picky": Picky(chunk=0, ordinals=(1,))})
    with pipe.take("a prompt") as take:
        refused = take.roll()[1]
        assert not refused.is_valid
        assert take.keep(refused)[0].id == "000.01"
        take.play()
        assert take.save().shape[0] == 12


def test_frames_that_are_not_finite_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = ToySession.decode

    def broken(self: ToySession, history: Any, latents: Any) -> Any:
        return [streamt1.Decoded(each.frames * float("nan"), each.state) for each in decode(self, history, latents)]

    pipe = wrap()
    with pipe.take("a prompt") as take:
        monkeypatch.setattr(ToySession, "decode", broken)
        take.roll()
        with pytest.raises(streamt1.InputError, match=r"Candidate 000.01 cannot be kept. The frames are not finite"):
            take.keep("000.01")
        monkeypatch.setattr(ToySession, "decode", decode)
        take.back(0)
        take.roll()
        assert take.keep("000.06")[0].id == "000.06"


def test_a_branch_and_its_take_do_not_affect_each_other(tmp_path: Path) -> None:
    pipe = wrap(observers=streamt1.record_to(tmp_path, per_run=True))
    with pipe.take("a prompt") as take:
        take.roll()
        take.keep("000.02")
        with take.branch() as other:
            other.roll()
            other.prompt("rain")
            other.keep()
            take.roll()
            take.keep("001.01")
            other.play()
            rain = other.save()
        take.play()
        video = take.save()
    assert (take.scenes[-1].prompt, other.scenes[-1].prompt) == ("a prompt", "rain")
    assert (other.tree.picked, other.tree.chosen_by(1)) == ("000.02", "policy")
    assert take.folder != other.folder
    for folder, made in ((take.folder, video), (other.folder, rain)):
        assert folder is not None
        assert torch.equal(streamt1.regenerate(folder, None, ToyPipeline()), made)
    assert len(pipe("a prompt")) == 12  # nothing holds the pipeline


def test_a_recorded_take_has_a_branch_that_is_recorded_where_it_is_told(tmp_path: Path) -> None:
    with recorded(tmp_path / "run").take("a prompt") as take:
        take.play(1)
        with take.branch() as plain, take.branch(streamt1.record_to(tmp_path / "two")) as two:
            assert (plain.folder, two.folder) == (None, tmp_path / "two")
            two.play()
            video = two.save()
    assert torch.equal(streamt1.regenerate(tmp_path / "two", None, ToyPipeline()), video)


def test_play_ends_where_it_is_stopped_and_the_take_goes_on() -> None:
    pipe = wrap()

    def stop(pipe: Any, chunk_index: int, callback_kwargs: dict[str, Any]) -> None:
        if chunk_index == 1:
            pipe._interrupt = True

    with pipe.take("a prompt", on_chunk_end=stop) as take:
        assert take.play().chunk == streamt1.Chunk(2, 4)
        assert take.play().is_finished


@dataclass
class Watching:
    """Keeps what a person did, and the prompt at that time."""

    actions: list[Action] = field(default_factory=list)

    @hookimpl
    def streamt1_acted(self, action: Action) -> None:
        self.actions.append(action)


def test_observers_are_informed_of_every_action() -> None:
    watching = Watching()
    with wrap(observers={"watching": watching}).take("a prompt") as take:
        made_by_hand(take)
    assert watching.actions == take.tree.actions
    texts = [action.text for action in watching.actions]
    assert texts[:3] == [
        "Chunk 0: rolled 4 for every branch",
        "Chunk 0: rolled 2 for every branch, varying 000.01",
        "Chunk 0: kept 000.05",
    ]
    assert texts[3] == "Chunk 2: from here on 'rain' (flush)"


# A revision policy at work within a take.


class Again:
    """Goes back once, from chunk 1 to chunk 0."""

    limits = streamt1.RevisionLimits(reach=1, returns=1)

    @hookimpl
    def streamt1_revise(self, run: Any, chunk: Any) -> Any:
        return streamt1.Revision(back_to=0) if chunk.index == 1 and not run.tree.returns else None


def test_the_revision_policy_works_while_the_policies_play() -> None:
    pipe = wrap(policies={"revision": Again()})
    video = pipe("a prompt")
    with pipe.take("a prompt") as take:
        take.play()
        assert torch.equal(take.save(), video)
    assert take.tree.returns == [(1, 0)]


# Between two calls, and at the end.


@contextmanager
def same_bars(pipe: Any) -> Iterator[None]:
    before = dict(vars(pipe))
    yield
    assert {name: value for name, value in vars(pipe).items() if name == progress.CONFIG} == {
        name: value for name, value in before.items() if name == progress.CONFIG
    }


def test_between_two_calls_the_process_has_what_it_had() -> None:
    torch.manual_seed(3)
    state, threads, pipe = torch.get_rng_state(), torch.get_num_threads(), wrap()
    with same_bars(pipe.pipe), pipe.take("a prompt") as take:
        for step in (take.roll, take.keep, take.roll, take.reroll, take.back, take.roll):
            step()
            assert torch.equal(torch.get_rng_state(), state)
            assert torch.get_num_threads() == threads
            assert not progress.is_wanted(pipe.pipe) or progress.CONFIG not in vars(pipe.pipe)


def test_the_pipeline_is_in_use_until_the_last_take_is_closed() -> None:
    pipe = wrap()
    take = pipe.take("a prompt")
    take.play(1)
    other = take.branch()
    take.close()
    take.close()
    with pytest.raises(streamt1.InputError, match=r"in use by a take of this pipeline \(call its `save\(\)` or"):
        pipe("a prompt")
    other.play()
    other.save()
    assert len(pipe("a prompt")) == 12


def test_a_take_that_is_dropped_gives_the_pipeline_back() -> None:
    pipe = wrap()
    take = pipe.take("a prompt")
    take.roll()
    del take
    gc.collect()
    assert len(pipe("a prompt")) == 12


def test_an_error_in_a_step_loses_nothing() -> None:
    class Once:
        failed = False

        @hookimpl
        def streamt1_candidate_scored(self, chunk: streamt1.Chunk) -> None:
            if chunk.index == 1 and not self.failed:
                self.failed = True
                raise KeyboardInterrupt

    pipe = wrap(observers={"once": Once()})
    with pipe.take("a prompt") as take:
        take.play(1)
        with pytest.raises(KeyboardInterrupt):
            take.roll()
        assert take.candidates == ()
        take.play()
        assert take.save().shape[0] == 12


def test_an_error_in_the_block_ends_the_run_with_it(tmp_path: Path) -> None:
    pipe = recorded(tmp_path / "run")
    with pytest.raises(ZeroDivisionError, match="oh"), pipe.take("a prompt") as take:
        raise ZeroDivisionError(f"oh{take.play(1).folder and ''}")
    assert RecordedRun.read(tmp_path / "run").status == "stopped: ZeroDivisionError: oh"


# Wrong orders, wrong arguments.


def complete(take: Take) -> Take:
    return take.play()


WRONG: dict[str, tuple[Any, str]] = {
    "keep first": (lambda take: take.keep(), "Chunk 0 has no candidates yet: `roll` first"),
    "reroll first": (lambda take: take.reroll(), "Chunk 0 has no candidates yet: `roll` first"),
    "choice first": (lambda take: take.choice, "Chunk 0 has no candidates yet: `roll` first"),
    "save first": (lambda take: take.save(), "Nothing was kept yet"),
    "back first": (lambda take: take.back(), "`back` takes no chunks: none can be taken back, got 1"),
    "prompt first": (lambda take: take.prompt("rain"), "Nothing was kept yet: open a take with that prompt"),
    "roll twice": (lambda take: (take.roll(), take.roll()), "has 6 candidates: `keep` one of them, or `reroll`"),
    "roll after the end": (lambda take: complete(take).roll(), "All 4 chunks are kept: `save` the video, or go `back`"),
    "prompt after the end": (lambda take: complete(take).prompt("x"), "No chunk is left for another prompt"),
    "no number": (lambda take: take.roll("3"), "`n` has to be a whole number from 1 to .* got '3'"),
    "no candidates": (lambda take: take.roll(0), "`n` has to be a whole number"),
    "unknown id": (lambda take: (take.roll(), take.keep("000.06")), "No candidate '000.06' waits. Did you mean '000.0"),
    "twice": (lambda take: (take.roll(), take.keep(["000.01", "000.01"])), "given twice"),
    "nothing": (lambda take: (take.roll(), take.keep([])), "`keep` takes a candidate, its id, or several"),
    "no id": (lambda take: (take.roll(), take.keep(1)), "`keep` takes a candidate, its id, or several of them, got 1"),
    "no strength": (lambda take: (take.roll(), take.reroll(strength=0)), "`strength` has to be above 0"),
    "refine unknown": (lambda take: (take.roll(), take.reroll(refine="1")), "No candidate '1' waits"),
    "too far": (lambda take: (take.play(2), take.back(3)), "`back` takes 1 to 2 chunks here, got 3"),
    "no text": (lambda take: (take.play(1), take.prompt("")), "prompt has to be a text"),
    "no memory": (lambda take: (take.play(1), take.prompt("x", "flash")), "Did you mean 'flush'"),
    "closed": (lambda take: (take.close(), take.roll()), "This take was saved or closed"),
    "saved": (lambda take: (complete(take).save(), take.save()), "This take was saved or closed"),
    "no play": (lambda take: take.play(0), "`chunks` has to be a whole number"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_step_is_a_clear_error_and_changes_nothing(wrong: str) -> None:
    call, message = WRONG[wrong]
    pipe = wrap()
    with pipe.take("a prompt") as take:
        with pytest.raises(streamt1.InputError, match=message):
            call(take)
        if not take.is_closed:
            take.play()
            assert take.save().shape[0] == 12


def test_what_is_no_take_is_refused_before_anything_is_opened() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "plain")
    with pytest.raises(streamt1.InputError, match="A take chooses among candidates"):
        pipe.take("a prompt")
    with pytest.raises(streamt1.InputError, match="A take makes one video, and this call is for 2"):
        wrap().take(["one", "two"])
    with pytest.raises(streamt1.InputError, match="The prompt is empty"):
        wrap().take("")


def test_a_pipeline_without_schedules_keeps_its_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = wrap()
    with pipe.take("a prompt") as take:
        take.play(1)
        del take.run.session.scenes  # type: ignore[attr-defined]
        with pytest.raises(streamt1.InputError, match="The prompt of this pipeline cannot change between chunks"):
            take.prompt("rain")
        assert take.scene.prompt == "a prompt"


def test_a_notebook_shows_the_candidates_and_then_what_was_kept() -> None:
    with wrap().take("<b>prompt</b>") as take:
        take.roll()
        shown = take._repr_html_()
        assert shown.count("<img") == 6
        assert shown.count("the policy&#x27;s choice") == 2
        assert "<b>" not in shown
        take.keep("000.02")
        assert "000.02: kept by the person" in take._repr_html_()
        assert repr(take) == "<Take: '<b>prompt</b>', seed 42, 1 of 4 chunks, no candidates wait>"


# A model whose prompt counts.


def test_a_changed_prompt_on_the_bundled_model_is_made_again_bit_by_bit(tmp_path: Path) -> None:
    pipe = streamt1.load("tinyworld", observers=streamt1.record_to(tmp_path / "run"), device="cpu")
    with pipe.take("a red circle on a blue background", num_frames=33) as take:
        take.roll(2)
        take.keep("000.01")
        take.prompt("a green star on a black background", memory="flush")  # the chunk before is committed again
        take.roll(2)
        take.prompt("a white square on a black background", memory="recache")
        take.keep("001.00")
        take.roll(1)
        take.keep()
        video = take.save().frames
    again = streamt1.regenerate(tmp_path / "run").frames
    assert (torch.as_tensor(again) == torch.as_tensor(video)).all()
