"""Preview scoring on the toy pipeline: rewards judge previews, the video is decoded in full, nothing is done twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import Footprint
from streamt1_plugins.config import load as recipes
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins import build
from streamt1_plugins.replay import branch, regenerate
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.report import PAGE
from streamt1_plugins.runs.report.strips import find
from streamt1_plugins.search.cost_estimate import estimate
from streamt1_plugins.search.memory_estimate import of_recipe
from streamt1_plugins.search.previews import FALLBACK, settled
from streamt1_plugins.testing.threads import together
from tests.launching import without_times
from tests.toy import Bright, PreviewingAdapter, PreviewingSession, ShortOnly, ToyPipeline

ON, CARRIED = "rewards.decode=preview", "rewards.decode=carried"
MIXED = "rewards.decode={short: preview, long: carried}"
CHUNKS = 5


def wrapped(*overrides: str, rewards: Any = None, **observers: object) -> streamt1.StreamPipeline:
    return streamt1.wrap(
        ToyPipeline(), adapter="toy-previews", overrides=overrides, rewards=rewards, observers=observers
    )


def run(*overrides: str, call: Any = None, rewards: Any = None, **observers: object) -> streamt1.StreamPipeline:
    pipe = wrapped(*overrides, rewards=rewards, **observers)
    pipe.video = pipe("a prompt", chunks=CHUNKS, **(call or {}))
    return pipe


def nodes(pipe: streamt1.StreamPipeline) -> Any:
    return without_times(pipe.tree.to_dict()["nodes"])


@dataclass
class Seen:
    """The frames of candidates when they were scored, and of survivors when their chunk was over."""

    scored: dict[str, torch.Tensor] = field(default_factory=dict)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)

    @streamt1.hookimpl
    def streamt1_candidate_scored(self, candidate: streamt1.Candidate) -> None:
        self.scored[candidate.id] = candidate.decoded.frames
        if candidate.decoded.state is not None:
            self.states.add(candidate.id)

    @streamt1.hookimpl
    def streamt1_chunk_selected(self, kept: Any) -> None:
        self.kept.update({each.id: each.decoded.frames for each in kept})


# What is scored, and what is decoded.


def test_previews_are_scored_and_the_video_is_decoded() -> None:
    seen = Seen()
    pipe = run(ON, seen=seen)
    session, history = pipe.last_run.session, pipe.last_run.beams[0].history
    assert all(node.previewed for node in pipe.tree)
    assert not seen.states, "a candidate keeps a decoder state while it is judged"
    expected, before = [], streamt1.History(memory=(), decoder=0.0)
    for latents in history.latents:
        decoded = session.decode(before, latents)[0]
        before = session.commit(before, latents, decoded, "discard")
        expected.append(decoded.frames)
    assert torch.equal(pipe.video, torch.cat(expected))
    for node, frames in zip(pipe.tree.winner, expected, strict=True):
        assert torch.equal(seen.kept[node], frames)
        assert not torch.equal(seen.scored[node], frames)


def test_each_candidate_is_previewed_and_each_survivor_decoded_once() -> None:
    pipe = run(ON)
    session, cost = pipe.last_run.session, pipe.last_run.cost
    assert session.calls["preview"] == 4 * CHUNKS + 2 * CHUNKS, "survivors once more, for the state behind them"
    assert session.calls["decode"] == sum(node.fate == "kept" for node in pipe.tree) == 2 * CHUNKS
    assert (cost.latent_frames_previewed, cost.latent_frames_decoded) == (6 * 3 * 4 + 6 * 2, 2 * 3 * 4 + 2 * 2)


def test_a_frame_key_always_means_the_same_pixels() -> None:
    reward = Bright()
    reward.lead_frames = 2
    run(ON, "search.candidates=4", "early.steps=2", "rewards.window=3", rewards={"bright": reward})
    pixels: dict[Any, torch.Tensor] = {}
    for inp in reward.calls:
        for ids, video in zip(inp.frame_ids, inp.video, strict=True):
            for key, frame in zip(ids, video, strict=True):
                assert torch.equal(pixels.setdefault(key, frame), frame), key
    kinds = {name.split(".", 2)[-1] if name.count(".") > 1 else "" for name, _ in pixels}
    assert kinds == {"tiny", "preview.tiny", ""}, "'' are the whole videos of the final choice"


def test_the_window_and_the_first_chunk_are_previews() -> None:
    """The long horizon compares like with like; the state of the preview decoder goes from chunk to chunk."""
    reward = Bright()
    pipe = run(ON, "rewards.window=3", "rewards.replace=true", "rewards.long={bright: {}}", rewards={"bright": reward})
    history, session = pipe.last_run.beams[0].history, pipe.last_run.session
    shown, state = [], None
    for latents in history.latents:
        decoded = session.preview(latents, state)[0]
        shown, state = [*shown, decoded.frames], decoded.state
    last, anchor = [], []
    for inp in reward.calls[:-1]:
        firsts = inp.video if inp.anchor is None else inp.anchor
        for ids, video, first in zip(inp.frame_ids, inp.video, firsts, strict=True):
            if ids[-1][0] == f"{pipe.tree.winner[-1]}.tiny":
                last, anchor = [video], [first]
    assert torch.equal(last[0], torch.cat(shown[-3:]))
    assert torch.equal(anchor[0], shown[0])


def test_the_previews_of_a_beam_do_not_grow() -> None:
    for settings, count in (
        (("rewards.window=3",), 2),
        (("rewards.window=3", "rewards.replace=true", "rewards.short={bright: {}}"), 1),
    ):
        pipe = run(ON, *settings)
        assert [len(beam.previews.frames) for beam in pipe.last_run.beams] == [count] * 2


def test_a_plain_run_has_no_previews() -> None:
    plain = ("search.candidates=1", "search.top_k=1", "seed=3")
    pipe, other = run(ON, *plain), run(CARRIED, *plain)
    assert pipe.last_run.session.calls["preview"] == 0
    assert nodes(pipe) == nodes(other)
    assert torch.equal(pipe.video, other.video)


# By horizon, and in stages.


def test_horizons_may_score_different_frames() -> None:
    pipe = run(MIXED)
    assert not any(node.previewed for node in pipe.tree), "all were decoded before they were scored"
    short, long = (
        [each.readings[horizon]["bright"].raw for each in pipe.tree.chunk(0)] for horizon in ("short", "long")
    )
    assert short != long, "in the first chunk both horizons have the same frames"
    assert pipe.last_run.session.calls["decode"] == len(pipe.tree)


def test_only_candidates_that_reach_a_stage_are_decoded_for_it() -> None:
    staged = ("rewards.short={bright: {}}", "rewards.long={bright: {stage: 2}}", "rewards.keep=0.5")
    seen = Seen()
    pipe = run(MIXED, *staged, "search.top_k=1", "search.candidates=4", seen=seen)
    assert [node.previewed for node in pipe.tree].count(False) == 2 * CHUNKS
    assert all(node.previewed == (node.stage == 1) for node in pipe.tree)
    assert pipe.last_run.session.calls["decode"] == 2 * CHUNKS, "survivors are not decoded again"
    assert seen.states == {node.id for node in pipe.tree if not node.previewed}


@pytest.mark.parametrize(
    "settings",
    [
        (ON,),
        (ON, "search.candidates=4", "early.steps=2"),
        (ON, "search.candidates=4", "early.steps=0.5", "early.keep=[0.75, 0.5]"),
        (ON, "search.offload=recompute"),
        (MIXED,),
        (MIXED, "search.offload=recompute"),
        (MIXED, "search.candidates=4", "rewards.short={bright: {}}", "rewards.long={bright: {stage: 2}}"),
        (MIXED, "search.candidates=4", "early.steps=2"),
        ("rewards.decode={short: cold, long: preview}", "search.candidates=4", "early.steps=2"),
    ],
    ids=str,
)
def test_the_forecast_is_what_the_run_counts(settings: tuple[str, ...]) -> None:
    pipe = wrapped(*settings)
    pipe("a prompt", chunks=6)
    found = estimate(pipe.recipe, build.rewards(pipe.recipe), PreviewingAdapter().outline(18))
    spent = {name: count for name, count in pipe.last_run.cost.counts().items() if hasattr(found, name)}
    assert {name: getattr(found, name) for name in spent} == spent
    assert found.latent_frames_previewed > 0
    assert "previewed" in str(found)


def test_the_memory_estimate_has_the_states_of_survivors_alone() -> None:
    each = Footprint(weights=0, memory=0, reading=0, latents=1, frames=10, state=1000, chunks=8, preview=7)
    carried, previewed = (
        recipes.load("stream-t1", [f"rewards.decode={kind}", "rewards.long.bright={}"])
        for kind in ("carried", "preview")
    )
    assert of_recipe(carried, each, width=4).states == (8 + 2) * 1000
    assert of_recipe(previewed, each, width=4).states == 4 * 1000 + 4 * 7


# Together with the rest.


@pytest.mark.parametrize("override", ["search.batch=3", "search.offload=cpu", "search.offload=recompute"])
@pytest.mark.parametrize("kind", [ON, MIXED])
def test_batches_and_offloading_change_nothing(kind: str, override: str) -> None:
    alone, other = run(kind), run(kind, override)
    assert nodes(other) == nodes(alone)
    assert torch.equal(other.video, alone.video)


class Stop:
    """Breaks the run when its third chunk is committed."""

    @streamt1.hookimpl(tryfirst=True)
    def streamt1_chunk_selected(self, chunk: streamt1.Chunk) -> None:
        if chunk.index == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("damage", [False, True], ids=["checkpoint", "seeds"])
def test_an_interrupted_run_resumes_with_the_same_previews(tmp_path: Path, damage: bool) -> None:
    settings = (ON, "rewards.window=3", "search.candidates=4", "early.steps=2")
    full = run(*settings)
    with pytest.raises(KeyboardInterrupt):
        run(*settings, **record_to(tmp_path), stop=Stop())
    if damage:
        (tmp_path / "state" / "head.safetensors").write_bytes(b"no tensors")
    assert torch.equal(streamt1.resume(tmp_path, ToyPipeline()), full.video)
    assert without_times(journal.tree_of(journal.read(tmp_path)).to_dict()["nodes"]) == nodes(full)


def test_nodes_are_made_again_and_continued(tmp_path: Path) -> None:
    pipe = run(ON, **record_to(tmp_path / "first"))
    assert torch.equal(regenerate(tmp_path / "first", pipe=ToyPipeline()), pipe.video)
    node = next(each for each in pipe.tree.chunk(2) if each.fate == "pruned")
    other = branch(tmp_path / "first", node.id, tmp_path / "second", ToyPipeline())
    other.complete(other.last_run)
    assert other.tree.winner[2] == node.id
    assert all(each.previewed for each in other.tree.chunk(3))


@pytest.mark.parametrize(
    "settings", [(ON,), (ON, "parallel.send=decoded"), (MIXED,), (ON, "search.candidates=4", "early.steps=2")], ids=str
)
def test_shared_candidates_give_the_same_search(settings: tuple[str, ...]) -> None:
    expected = run(*settings)

    def search(workers: Any) -> streamt1.StreamPipeline:
        pipe = wrapped(*settings)
        pipe.workers = workers
        pipe.video = pipe("a prompt", chunks=CHUNKS)
        return pipe

    for pipe in together([search, search]):
        assert nodes(pipe) == nodes(expected)
        assert torch.equal(pipe.video, expected.video)
        ours, theirs = (each.last_run.cost.counts() for each in (pipe, expected))
        assert {**ours, "reward_calls": 0} == {**theirs, "reward_calls": 0}


def test_pictures_of_pruned_candidates_are_marked_as_previews(tmp_path: Path) -> None:
    pipe = run(ON, **streamt1.record_to(tmp_path))
    assert set(find(tmp_path)) == set(pipe.tree.nodes)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert page.count("a preview: these frames were not decoded in full") == 2 * CHUNKS
    plain = run(CARRIED, **streamt1.record_to(tmp_path / "carried"))
    assert not any("previewed" in node for node in plain.tree.to_dict()["nodes"])
    assert "a preview:" not in (tmp_path / "carried" / PAGE).read_text(encoding="utf-8")


# Trouble.


def test_without_a_preview_decoder_frames_are_decoded_in_full_with_one_note(tmp_path: Path) -> None:
    missing = {"preview_problem": "download tiny.safetensors from somewhere"}
    pipe, carried = run(ON, call=missing, **record_to(tmp_path)), run(CARRIED)
    assert nodes(pipe) == nodes(carried)
    assert [*pipe.tree.notes] == [FALLBACK.format(missing["preview_problem"])]
    recorded = journal.read(tmp_path)[0]["recipe"]
    assert recorded["rewards"]["decode"] == "carried", "a resumed run would score other frames"
    bare = streamt1.wrap(ToyPipeline(), overrides=[ON])
    bare("a prompt")
    assert [*bare.tree.notes] == [FALLBACK.format("the adapter has no preview decoder")]


def test_processes_fall_back_together() -> None:
    """One of them lacks the file."""

    def search(problem: str | None) -> Any:
        def work(workers: Any) -> streamt1.StreamPipeline:
            pipe = wrapped(ON)
            pipe.workers = workers
            pipe("a prompt", chunks=CHUNKS, preview_problem=problem)
            return pipe

        return work

    for pipe in together([search(None), search("no file")]):
        assert not any(node.previewed for node in pipe.tree)


def test_previews_that_do_not_fit_the_frames_are_an_error() -> None:
    with pytest.raises(PluginError, match=r"made frames \[2, 3, 2, 2\], and decoding in full \[3, 3, 2, 2\]"):
        run(ON, call={"short_by": 1})


@pytest.mark.parametrize("chunks", [(1,), (0, 1)])
def test_a_survivor_whose_frames_are_not_finite_makes_room_for_another(
    monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, ...], tmp_path: Path
) -> None:
    decode, seen = PreviewingSession.decode, []

    def broken(self: Any, history: Any, latents: torch.Tensor) -> Any:
        decoded = decode(self, history, latents)
        if history.index in chunks and len([each for each in seen if each == history.index]) < 1:
            seen.append(history.index)
            decoded = [streamt1.Decoded(each.frames * float("nan"), each.state) for each in decoded]
        return decoded

    monkeypatch.setattr(PreviewingSession, "decode", broken)
    pipe = run(ON, **record_to(tmp_path))
    for index in range(CHUNKS):
        fates = [node.fate for node in pipe.tree.chunk(index)]
        assert fates.count("kept") == 2
        assert fates.count("invalid") == (index in chunks)
    assert pipe.video.isfinite().all()
    assert without_times(journal.tree_of(journal.read(tmp_path)).to_dict()["nodes"]) == nodes(pipe)


def test_where_no_survivor_is_finite_the_first_candidate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = PreviewingSession.decode

    def broken(self: Any, history: Any, latents: torch.Tensor) -> Any:
        factor = float("nan") if history.index == 1 else 1.0
        return [streamt1.Decoded(each.frames * factor, 0.0) for each in decode(self, history, latents)]

    monkeypatch.setattr(PreviewingSession, "decode", broken)
    pipe = run(ON)
    assert [node.fate for node in pipe.tree.chunk(1)] == ["kept", "invalid", "invalid", "invalid"]
    assert any("Chunk 1: no valid candidate" in note for note in pipe.tree.notes)


def test_the_fallback_changes_previews_alone() -> None:
    loaded = recipes.load("stream-t1", ["rewards.decode={short: cold, long: preview}"])
    assert settled(loaded, False).rewards.decode_of("short") == "cold"
    assert settled(loaded, False).rewards.decode_of("long") == "carried"
    assert settled(recipes.load("stream-t1", [ON]), False).rewards.decode == "carried"


def test_the_default_takes_previews_where_there_are_some() -> None:
    assert recipes.load("stream-t1").rewards.decode == "auto"
    assert nodes(run()) == nodes(run(ON))
    missing = {"preview_problem": "download tiny.safetensors from somewhere"}
    assert run(call=missing).tree.notes == [FALLBACK.format(missing["preview_problem"])], "it could have some"
    bare = streamt1.wrap(ToyPipeline())
    bare("a prompt")
    assert bare.tree.notes == [], "an adapter without a preview decoder is nothing to note"
    assert bare.last_run.recipe.rewards.decode == "carried", "what is recorded is what was scored"


def test_a_reward_of_one_horizon_decides_whether_there_are_previews() -> None:
    named = ("rewards.replace=true", "rewards.short={short-only: {}}")
    pipe = run("rewards.decode={long: preview}", *named, rewards={"short-only": ShortOnly()})
    assert pipe.last_run.session.calls["preview"] == 0
