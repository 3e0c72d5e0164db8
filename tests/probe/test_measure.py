"""What is measured of one prompt, on toy models built to have a property or to lack it."""

from __future__ import annotations

import json
import math
from statistics import fmean
from typing import Any

import pytest

from streamt1_plugins.errors import InputError
from streamt1_plugins.probe.measure import ProbeOptions, groups, probe_prompt
from tests.probe.models import Model, Quality, measurement

FEW = ProbeOptions(candidates=4, pairs=2, chunks=3)


def row(model: Model, options: ProbeOptions = FEW, **rewards: Any) -> dict[str, Any]:
    return probe_prompt(measurement(model, options=options, **rewards))


@pytest.mark.parametrize(
    ("draws", "names"),
    [(1, ["initial"]), (4, ["initial", "step 2", "step 3", "step 4"]), (20, ["initial", "steps 2-10", "steps 11-20"])],
)
def test_draws_are_named_by_their_step_and_many_of_them_in_halves(draws: int, names: list[str]) -> None:
    found = groups(draws)
    assert list(found) == names
    assert sorted(place for places in found.values() for place in places) == list(range(draws))


def test_every_draw_a_session_hands_out_is_exchanged() -> None:
    shares = row(Model(shares=(0.2, 0.3, 0.5)))["chunks"][1]["shares"]
    assert {name: len(each) for name, each in shares.items()} == {"initial": 2, "step 2": 2, "step 3": 2}
    assert fmean(shares["initial"]) < fmean(shares["step 3"])


def test_draws_that_a_session_keeps_to_itself_are_exchanged_by_their_generator() -> None:
    found = row(Model(hidden=0.9))
    assert found["session"] | {"routes": None} == {
        "draws": 1,
        "hidden_draws": True,
        "routes": None,
        "routed_from": 4,
        "video_chunks": 6,
    }
    shares = found["chunks"][0]["shares"]
    assert list(shares) == ["initial", "later"]
    assert min(shares["later"]) > max(shares["initial"]) > 0


def test_the_first_chunks_of_both_walks_are_the_same_and_carry_tells_them_apart() -> None:
    for carry in (0.0, 0.8):
        found = row(Model(carry=carry))
        best, plain = (
            [fmean(values["short.quality"]) for values in walk]
            for walk in ([chunk["values"] for chunk in found["chunks"]], found["plain"])
        )
        assert best[0] == plain[0]
        assert (best[1] > plain[1] + 0.2) is bool(carry)


def test_inherited_noise_gives_the_readings_it_gave_where_quality_is_heritable() -> None:
    for turning in (False, True):
        chunks = row(Model(shares=(0.1, 0.9), turning=turning))["chunks"]
        before, after = chunks[0]["values"]["short.quality"], chunks[1]["inherited"]["all"]["short.quality"]
        assert all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(before, after, strict=True)) is not turning
        assert chunks[1]["inherited"]["initial"]["short.quality"] != before


def test_a_session_with_one_draw_is_measured_with_that_alone() -> None:
    assert list(row(Model())["chunks"][1]["inherited"]) == ["initial"]


def test_second_readings_are_kept_where_they_differ() -> None:
    assert "repeated" not in row(Model())["chunks"][0]
    repeated = row(Model(), rough=Quality(error=1.0))["chunks"][0]["repeated"]
    assert len(repeated["short.rough"]) == 4


def test_each_route_and_decay_is_measured_once_chunks_leave_the_window() -> None:
    routes = row(Model(anchor=1.0))["memory"]["routes"]
    assert list(routes) == ["discard", "ema 0.999", "append", "ema 0.9", "ema 0.5"]
    apart = {name: fmean(each["distance"]) for name, each in routes.items()}
    assert apart["discard"] == 0
    assert 0 < apart["ema 0.999"] < apart["ema 0.9"] < apart["ema 0.5"] < apart["append"]
    assert row(Model())["memory"]["routes"]["append"]["distance"] == [0, 0, 0, 0]


def test_no_route_is_measured_where_nothing_leaves_the_window_or_nothing_can_be_routed() -> None:
    assert row(Model(chunks=4))["memory"] is None
    assert row(Model(routed=False))["memory"] is None
    assert len(row(Model(chunks=1))["chunks"]) == 1


def test_the_recipe_is_given_back() -> None:
    measured = measurement(Model(), options=FEW)
    before = measured.pipe.recipe
    probe_prompt(measured)
    assert measured.pipe.recipe is before


def test_progress_rises_to_the_end() -> None:
    shares: list[float] = []
    probe_prompt(measurement(Model(), options=FEW), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_same_seed_measures_the_same() -> None:
    first, second = (row(Model(shares=(0.5, 0.5), carry=0.3)) | {"seconds": 0} for _ in range(2))
    assert json.dumps(first) == json.dumps(second)


@pytest.mark.parametrize(
    "wrong", [{"candidates": 3}, {"candidates": 65}, {"pairs": 0}, {"chunks": 1}, {"decays": (2,)}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"A probe's {next(iter(wrong))} = "):
        ProbeOptions(**wrong)
