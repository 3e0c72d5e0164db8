"""How far rewards rank candidates like the judge."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from streamt1_plugins.api.reward import RewardInput, RewardOutput
from streamt1_plugins.compare import agreement, table
from streamt1_plugins.compare.run import Pipelines, generated, read, run
from streamt1_plugins.config import load as recipe
from tests.compare.examples import comparison, row

SCRIPTED = "rewards={replace: true, short: {bright: {}}, long: {scripted: {}}}"


def judged(prompt: str, *chunks: dict[str, list[float | None]], label: str = "beam") -> dict[str, Any]:
    """A row whose chunks have the judge's scores as `judge` and the readings of every other name."""
    found = [{"judge": c["judge"], "readings": {name: v for name, v in c.items() if name != "judge"}} for c in chunks]
    return row(label, prompt, 0.5, judged=found)


def test_the_correlation_is_within_chunks_and_its_interval_over_prompts() -> None:
    up, down = [0.0, 1.0, 2.0], [2.0, 1.0, 0.0]
    rows = [
        judged("a", {"judge": up, "long.good": [100.0, 101.0, 102.0]}, {"judge": up, "long.good": [0.0, 1.0, 2.0]}),
        judged("b", {"judge": up, "long.good": [5.0, 6.0, 7.0]}, {"judge": up, "long.good": down}),
    ]
    found = agreement.of_recipe(rows)["long.good"]
    assert found["correlation"] == {"mean": 0.5, "low": 0.0, "high": 1.0, "prompts": 2}
    assert found["spread"] == 1.0  # not the hundred between chunks
    assert found["mean"] == pytest.approx(27.25)
    assert found["weight"] == 0.5


def test_weights_are_per_horizon_and_rewards_that_never_rank_keep_theirs() -> None:
    up = [0.0, 1.0, 2.0]
    chunk = {"judge": up, "short.a": up, "short.b": [0.0, 8.0, 4.0], "long.c": [2.0, 1.0, 0.0], "long.d": [1.0] * 3}
    found = agreement.of_recipe([judged("a", chunk)])
    assert {name: each["weight"] for name, each in found.items()} == {
        "short.a": 1.0,
        "short.b": 0.5,
        "long.c": None,
        "long.d": None,
    }
    assert found["long.d"]["correlation"] is None


@pytest.mark.parametrize(
    ("judge", "values", "expected"),
    [
        ([0.0, 1.0, 2.0], [None, 1.0, 2.0], 1.0),
        ([0.0, None, 2.0], [3.0, 9.0, 1.0], -1.0),
        ([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], math.nan),
        ([0.0, 1.0], [None, 2.0], math.nan),
        ([], [], math.nan),
    ],
)
def test_only_candidates_that_both_have_scored_count(judge: Any, values: Any, expected: float) -> None:
    found = agreement.in_chunk({"judge": judge, "readings": {"long.x": values}}, "long.x")
    assert found == pytest.approx(expected, nan_ok=True)


def test_every_candidate_of_the_fitted_recipe_is_judged_up_to_its_chunk(tmp_path: Path) -> None:
    beam = recipe.load("beam", [SCRIPTED])
    rows = list(run(comparison(recipes={"plain": recipe.load("plain"), "beam": beam}, fitted="beam"), tmp_path))
    assert [agreement.KEY in each for each in rows] == [False, False, True, True]
    chunks = rows[2][agreement.KEY]
    assert [len(chunk["judge"]) for chunk in chunks] == [4, 4, 4, 4]
    assert {name for chunk in chunks for name in chunk["readings"]} == {"short.bright", "long.scripted"}
    # The judge finds what `bright` finds, and in the first chunk both have seen the same frames.
    assert agreement.in_chunk(chunks[0], "short.bright") == pytest.approx(1)
    assert chunks[0]["judge"] == pytest.approx(chunks[0]["readings"]["short.bright"], abs=1e-4)
    assert chunks[3]["judge"] != pytest.approx(chunks[3]["readings"]["short.bright"], abs=1e-4)
    found = table.summary(read(tmp_path))
    assert list(found["agreement"]) == ["beam"]
    assert json.loads(json.dumps(found)) == found


def test_judging_candidates_changes_no_video_and_its_time_is_not_the_search_s(tmp_path: Path) -> None:
    class Slow:
        def score(self, inp: RewardInput) -> RewardOutput:
            return RewardOutput(inp.video.mean((1, 2, 3, 4)))

    beam, pipelines = recipe.load("beam"), Pipelines("toy")
    watching = agreement.CandidateJudge(Slow(), "slow")  # type: ignore[arg-type]
    pipe, watched = pipelines(beam), pipelines(beam, {"judge": watching})
    own, other = generated(pipe, "a", 0, {}), generated(watched, "a", 0, {})
    assert pipe.tree.to_dict()["winner"] == watched.tree.to_dict()["winner"]
    latents = [each.last_run.beams[0].history.latents for each in (pipe, watched)]
    assert all(torch.equal(a, b) for a, b in zip(*latents, strict=True))
    assert own["cost"]["forwards"] == other["cost"]["forwards"]
    watching.seconds, watching.cpu_seconds = other["seconds"] + 1, 0.0
    assert watching.added_to(other)["seconds"] == 0.0
    assert watching.added_to(other)["cpu_seconds"] == other["cpu_seconds"]


def test_the_judge_sees_full_frames_where_rewards_see_previews(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Keeping:
        def score(self, inp: RewardInput) -> RewardOutput:
            seen.append(inp.video[0])
            return RewardOutput(inp.video.mean((1, 2, 3, 4)))

    beam = recipe.load("beam", ["adapter=toy-previews", "rewards.decode=preview"])
    pipe = Pipelines("toy")(beam, {"judge": agreement.CandidateJudge(Keeping(), "k")})  # type: ignore[arg-type]
    generated(pipe, "a", 0, {})
    assert pipe.tree.nodes[pipe.tree.winner[0]].previewed
    assert any(torch.equal(each, pipe.last_run.beams[0].history.frames[0]) for each in seen)


def test_candidates_without_readings_are_not_judged() -> None:
    watching = agreement.CandidateJudge(None, "none")  # type: ignore[arg-type]
    pipe = Pipelines("toy")(recipe.load("plain"), {"judge": watching})
    made = generated(pipe, "a", 0, {})
    assert watching.added_to(made)[agreement.KEY] == []
