"""An early look on the toy pipeline: who is finished, what is recorded of the others, and nothing that leaks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import EARLY
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.evaluation.calibration import calibrate
from streamt1_plugins.evaluation.evaluator import Evaluator
from streamt1_plugins.evaluation.pool import RewardPool
from streamt1_plugins.replay import branch, regenerate
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.record import record_to
from tests.launching import without_times
from tests.toy import Bright, SteppingSession, ToyPipeline

LOOK = ("search.candidates=4", "early.steps=2")


@dataclass
class Seen:
    """Remembers the frames of every candidate."""

    frames: dict[str, torch.Tensor] = field(default_factory=dict)

    @streamt1.hookimpl
    def streamt1_candidate_scored(self, candidate: streamt1.Candidate) -> None:
        self.frames[candidate.id] = candidate.decoded.frames


def wrapped(*overrides: str, rewards: Any = None, **observers: object) -> streamt1.StreamPipeline:
    given = any(each.startswith("search.candidates=") for each in overrides)
    settings = [*overrides] if given else ["search.candidates=4", *overrides]
    return streamt1.wrap(ToyPipeline(), adapter="toy-steps", overrides=settings, rewards=rewards, observers=observers)


def run(*overrides: str, reward: streamt1.Reward | None = None, **observers: object) -> streamt1.StreamPipeline:
    rewards = {} if reward is None else {"bright": reward}
    pipe = wrapped(*overrides, rewards=rewards, **observers)
    pipe.video = pipe("a prompt", chunks=6)
    return pipe


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[streamt1.Candidate]]:
    """The candidates with the readings of their previews, chunk by chunk."""
    found: list[list[streamt1.Candidate]] = []
    previews = Evaluator.evaluate_previews

    def remembered(*arguments: Any) -> list[streamt1.Candidate]:
        found.append(previews(*arguments))
        return found[-1]

    monkeypatch.setattr(Evaluator, "evaluate_previews", remembered)
    return found


def nodes(pipe: streamt1.StreamPipeline) -> Any:
    return without_times(pipe.tree.to_dict()["nodes"])


# Who is finished.


def test_the_best_half_by_the_previews_is_finished(looks: list[list[streamt1.Candidate]]) -> None:
    pipe = run("early.steps=2", "scoring.horizon=short")
    for index, previews in enumerate(looks):
        ranked = sorted(previews, key=lambda each: -each.short)
        finished = [node.id for node in pipe.tree.chunk(index) if node.stage is None]
        assert sorted(each.id for each in ranked[:4]) == finished
    assert len(looks) == 6


@pytest.mark.parametrize(("share", "count"), [(0.01, 2), (0.3, 3), (0.5, 4), (0.9, 8), (1.0, 8)])
def test_never_fewer_are_finished_than_can_survive(share: float, count: int) -> None:
    pipe = run("early.steps=2", f"early.keep={share}")
    assert {sum(node.is_finished for node in pipe.tree.chunk(index)) for index in range(6)} == {count}
    assert all(sum(node.fate == "kept" for node in pipe.tree.chunk(index)) == 2 for index in range(6))


def test_a_finished_candidate_is_what_it_is_without_the_look() -> None:
    ours, theirs = Seen(), Seen()
    pipe = run("early.steps=2", seen=ours)
    run(seen=theirs)
    finished = [node for node in pipe.tree.chunk(0) if node.is_finished]
    assert len(finished) == 4
    assert all(torch.equal(ours.frames[node.id], theirs.frames[node.id]) for node in finished)
    behind = [node for node in pipe.tree.chunk(0) if not node.is_finished]
    assert not any(torch.equal(ours.frames[node.id], theirs.frames[node.id]) for node in behind)


def test_no_look_is_the_search_as_it_was() -> None:
    plain = run()
    for overrides in (("early.steps=0",), ("early.steps=2", "early.keep=1"), ("early.steps=6",)):
        pipe = run(*overrides)
        assert nodes(pipe) == nodes(plain)
        assert torch.equal(pipe.video, plain.video)
    assert plain.recipe.early.model_dump() == {"steps": 0, "keep": 0.5}


def test_chunks_of_few_steps_are_made_whole() -> None:
    pipe = run("early.steps=4")  # six steps in the first chunk, four in the others
    assert [sum(not node.is_finished for node in pipe.tree.chunk(index)) for index in range(6)] == [4, 0, 0, 0, 0, 0]
    assert [note for note in pipe.tree.notes if "early" in note] == [
        "Chunks of 4 denoising steps or fewer were not pruned early (early.steps)."
    ]
    assert pipe.last_run.session.calls["draft"] == 8  # type: ignore[attr-defined]


# What is recorded.


def test_those_left_behind_are_pruned_with_the_readings_of_their_previews(
    looks: list[list[streamt1.Candidate]],
) -> None:
    pipe = run("early.steps=2")
    behind = [node for node in pipe.tree if not node.is_finished]
    assert len(behind) == 6 * 4
    assert {(node.stage, node.fate, node.problem, node.route, node.rank) for node in behind} == {
        (EARLY, "pruned", None, None, None)
    }
    previews = {each.id: each for chunk in looks for each in chunk}
    assert all(node.readings == previews[node.id].readings for node in behind)
    assert all(math.isnan(node.score) for node in behind)
    assert all(math.isfinite(node.score) for node in pipe.tree if node.is_finished)
    assert {node["stage"] for node in pipe.tree.to_dict()["nodes"]} == {None, 0}


def test_the_cost_counts_both_halves() -> None:
    pipe = run("early.steps=2")
    cost = pipe.last_run.cost
    assert cost.candidates == 6 * 8 == len(pipe.tree)
    assert cost.forwards == 8 * 2 + 4 * 4 + 5 * (8 * 2 + 4 * 2)
    assert cost.latent_frames_decoded == 6 * (8 + 4) * 3
    assert cost.readings == 6 * (8 + 4) * 2 + 2
    assert cost.readings_saved == 6 * 4 * 2


def test_a_finished_candidate_took_the_time_of_both_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr("streamt1_plugins.search.expand.perf_counter", lambda: float(next(clock)))
    pipe = run("early.steps=2")
    assert {(node.is_finished, node.seconds) for node in pipe.tree} == {(True, 2.0), (False, 1.0)}


def test_only_the_first_stage_is_asked_about_previews(looks: list[list[streamt1.Candidate]]) -> None:
    staged = ("rewards.short.bright={}", "rewards.long.bright.stage=2")
    pipe = run("early.steps=2", *staged, "search.top_k=1", "search.candidates=8")
    assert all(set(each.readings) == {"short"} for chunk in looks for each in chunk)
    assert [node.stage for node in pipe.tree].count(0) == 6 * 4
    assert [node.stage for node in pipe.tree].count(1) == 6 * 2


# What must not leak.


def test_a_preview_keeps_no_decoder_state() -> None:
    states: dict[bool, list[Any]] = {True: [], False: []}

    class States:
        @streamt1.hookimpl
        def streamt1_candidate_scored(self, candidate: streamt1.Candidate) -> None:
            states[candidate.is_finished].append(candidate.decoded.state)

    run("early.steps=2", states=States())
    assert set(states[False]) == {None}
    assert None not in states[True]


@pytest.mark.parametrize("calibration", ["running", "group", "rank"])
def test_previews_and_finished_candidates_are_calibrated_apart(
    looks: list[list[streamt1.Candidate]], calibration: str
) -> None:
    settings = [f"rewards.{horizon}.bright.calibration={calibration}" for horizon in ("short", "long")]
    pipe = run("early.steps=2", "memory={name: fixed}", *settings)
    earlier: list[float] = []
    for index, previews in enumerate(looks):
        finished = [node for node in pipe.tree.chunk(index) if node.is_finished]
        raws = [node.readings["short"]["bright"].raw for node in finished]
        values = [node.readings["short"]["bright"].value for node in finished]
        assert values == pytest.approx(calibrate(raws, earlier, calibration))
        earlier += raws
        raws = [each.readings["short"]["bright"].raw for each in previews]
        values = [each.readings["short"]["bright"].value for each in previews]
        assert values == pytest.approx(calibrate(raws, [], calibration))


def test_a_frame_key_always_means_the_same_pixels() -> None:
    reward = Bright()
    run("early.steps=2", "rewards.window=3", reward=reward)
    pixels: dict[Any, torch.Tensor] = {}
    for inp in reward.calls:
        for ids, video in zip(inp.frame_ids, inp.video, strict=True):
            for key, frame in zip(ids, video, strict=True):
                assert torch.equal(pixels.setdefault(key, frame), frame), key
    names = {name for name, _ in pixels}
    assert {"001.03.preview", "001.03"} & names
    assert len([name for name in names if name.endswith(".preview")]) == 6 * 8


def test_a_veto_is_for_finished_frames() -> None:
    free = run("early.steps=2", "rewards.short.bright={}")
    raws = sorted(node.readings["short"]["bright"].raw for node in free.tree.chunk(0) if node.is_finished)
    pipe = run("early.steps=2", f"rewards.short.bright.veto={(raws[2] + raws[3]) / 2}")
    assert {node.problem for node in pipe.tree if not node.is_finished} == {None}
    assert sum("Vetoed" in (node.problem or "") for node in pipe.tree.chunk(0)) == 3


# Trouble.


@dataclass
class Fails(Bright):
    """Gives NaN for the previews, or for the finished frames, of some candidates of chunk 1."""

    previews: bool = True
    ordinals: tuple[int, ...] = tuple(range(8))

    def score(self, inp: Any) -> Any:
        scores = super().score(inp).scores.clone()
        for row, ids in enumerate(inp.frame_ids):
            chunk, ordinal, *preview = ids[-1][0].split(".")
            if chunk == "001" and int(ordinal) in self.ordinals and bool(preview) == self.previews:
                scores[row] = math.nan
        return streamt1.RewardOutput(scores)


def test_a_preview_that_cannot_be_judged_comes_last_and_is_no_fault() -> None:
    pipe = run("early.steps=2", reward=Fails(ordinals=(0, 1, 2)))
    assert [node.is_finished for node in pipe.tree.chunk(1)][:3] == [False] * 3
    assert {node.fate for node in pipe.tree} == {"kept", "pruned"}
    few = run("early.steps=2", reward=Fails(ordinals=(0, 1, 2, 3, 4, 5, 6)))
    assert [node.is_finished for node in few.tree.chunk(1)] == [True] * 3 + [False] * 4 + [True]
    assert {node.fate for node in few.tree} == {"kept", "pruned"}


def test_where_no_preview_can_be_judged_everybody_is_finished() -> None:
    pipe = run("early.steps=2", reward=Fails())
    assert all(node.is_finished and node.is_valid for node in pipe.tree.chunk(1))
    assert pipe.tree.notes == ["Chunk 1: no preview could be judged, so every candidate was finished."]


def test_a_reward_that_is_left_out_judges_no_preview() -> None:
    on_error = "{ordinals: [0], how: raise}"
    pipe = run(
        "early.steps=2", "rewards.replace=true", f"rewards.short={{picky: {{on_error: skip, options: {on_error}}}}}"
    )
    assert all(node.is_finished for node in pipe.tree.chunk(1))
    assert any("no preview could be judged" in note for note in pipe.tree.notes)


def test_an_unfinished_candidate_never_survives() -> None:
    pipe = run("early.steps=2", "scoring.horizon=short", reward=Fails(previews=False))
    assert [node.fate for node in pipe.tree.chunk(1)].count("invalid") == 3  # the fourth one was kept all the same
    (kept,) = [node for node in pipe.tree.chunk(1) if node.fate == "kept"]
    assert kept.is_finished
    assert "Chunk 1: no valid candidate" in pipe.tree.notes[0]


def test_an_adapter_without_drafts_is_refused_by_name() -> None:
    pipe = streamt1.wrap(ToyPipeline(), overrides=LOOK)
    with pytest.raises(RecipeError, match=r"'toy' cannot stop between two denoising steps.*early\.steps=0"):
        pipe("a prompt")
    assert pipe.last_run.session.closed  # type: ignore[attr-defined]
    narrow = ("search.candidates=1", "search.top_k=1")
    streamt1.wrap(ToyPipeline(), "plain", overrides=["early.steps=2", *narrow])("a prompt")


@pytest.mark.parametrize(("share", "first", "later"), [(0.5, 3, 2), (0.1, 1, 1), (0.7, 4, 3), (0.9, 5, None)])
def test_a_share_of_the_steps_is_rounded_and_at_least_one(share: float, first: int, later: int | None) -> None:
    """Of six steps in the first chunk and four in the others; a chunk of which nothing is left is made whole."""
    pipe = run(f"early.steps={share}")
    costs = [8 * first + 4 * (6 - first), *[8 * 4 if later is None else 8 * later + 4 * (4 - later)] * 5]
    assert pipe.last_run.cost.forwards == sum(costs)
    assert [sum(not node.is_finished for node in pipe.tree.chunk(i)) for i in (0, 1)] == [4, 4 if later else 0]


def test_a_number_of_steps_is_the_same_as_its_share() -> None:
    assert nodes(run("early.steps=0.5", "adapter.steps=[4]")) == nodes(run("early.steps=2", "adapter.steps=[4]"))


def test_more_may_be_finished_in_the_first_chunk() -> None:
    pipe = run("early.steps=2", "early.keep=[1, 0.75, 0.5]")
    assert [sum(node.is_finished for node in pipe.tree.chunk(index)) for index in range(6)] == [8, 6, 4, 4, 4, 4]
    assert nodes(run("early.steps=2", "early.keep=[0.5]")) == nodes(run("early.steps=2"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("early.steps=-1", "steps"),
        ("early.steps=1.0", "steps"),
        ("early.steps=true", "steps"),
        ("early.steps=-0.5", "steps"),
        ("early.keep=0", "keep"),
        ("early.keep=1.1", "keep"),
        ("early.keep=[]", "keep"),
        ("early.keep=[0.5, 0]", "keep"),
        ("early.step=1", "'steps'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        wrapped(override)


# Together with the rest.


@pytest.mark.parametrize("override", ["search.batch=3", "search.offload=cpu", "search.offload=recompute"])
def test_batches_and_parking_change_nothing(override: str) -> None:
    alone, other = run("early.steps=2"), run("early.steps=2", override)
    assert nodes(other) == nodes(alone)
    assert torch.equal(other.video, alone.video)


def test_a_batch_that_does_not_fit_is_halved_in_both_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = nodes(run("early.steps=2", "search.batch=8"))
    tried: list[tuple[int, int]] = []
    denoised = SteppingSession._denoised

    def limited(self: Any, history: Any, latents: torch.Tensor, generators: Any, steps: range) -> torch.Tensor:
        tried.append((steps.start, len(latents)))
        found = denoised(self, history, latents, generators, steps)
        if len(latents) > (3 if steps.start == 0 else 1):
            raise torch.OutOfMemoryError("no more memory")
        return found

    monkeypatch.setattr(SteppingSession, "_denoised", limited)
    pipe = run("early.steps=2", "search.batch=8")
    assert nodes(pipe) == expected
    drafted = [(0, 8), (0, 4), (0, 2), (0, 2), (0, 4), (0, 2), (0, 2)]
    assert tried[:12] == [*drafted, (2, 2), *[(2, 1)] * 4]


class Stop:
    """Breaks the run when its third chunk is committed."""

    @streamt1.hookimpl(tryfirst=True)
    def streamt1_chunk_selected(self, chunk: streamt1.Chunk) -> None:
        if chunk.index == 2:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_to_the_same_tree_and_video(tmp_path: Path) -> None:
    settings = ("early.steps=2", *(f"rewards.{each}.bright.calibration=running" for each in ("short", "long")))
    full = run(*settings)
    with pytest.raises(KeyboardInterrupt):
        run(*settings, **record_to(tmp_path), stop=Stop())
    assert torch.equal(streamt1.resume(tmp_path, ToyPipeline()), full.video)
    assert without_times(journal.tree_of(journal.read(tmp_path)).to_dict()["nodes"]) == nodes(full)


def test_any_node_is_made_again_whole(tmp_path: Path) -> None:
    ours, theirs = Seen(), Seen()
    pipe = run("early.steps=2", **record_to(tmp_path), seen=ours)
    run(seen=theirs)
    assert torch.equal(regenerate(tmp_path, pipe=ToyPipeline()), pipe.video)
    for node in pipe.tree.chunk(0):
        assert torch.equal(regenerate(tmp_path, node.id, ToyPipeline()), theirs.frames[node.id])


def test_a_person_may_go_on_from_a_node_that_was_left_behind(tmp_path: Path) -> None:
    pipe = run("early.steps=2", **record_to(tmp_path / "first"))
    behind = next(node for node in pipe.tree.chunk(1) if not node.is_finished)
    mine = branch(tmp_path / "first", behind.id, tmp_path / "mine", ToyPipeline())
    mine.complete(mine.last_run)
    assert mine.tree.winner[1] == behind.id


def test_the_page_tells_who_was_left_unfinished(tmp_path: Path) -> None:
    pipe = run("early.steps=2", **record_to(tmp_path))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("unfinished, after an early look") == sum(not node.is_finished for node in pipe.tree)


def test_without_rewards_no_candidate_is_pruned_early() -> None:
    pipe = wrapped("early.steps=2")
    run = pipe.begin("a prompt")
    search = replace(pipe.search(run), evaluator=Evaluator(run, RewardPool(()), SingleProcess()))
    for _ in search.chunks():
        pass
    assert all(node.is_finished for node in run.tree)
