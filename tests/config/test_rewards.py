"""The `rewards` section: where a reward runs, how its numbers are calibrated."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamt1_plugins.config.rewards import FixedCalibration, Place, RewardPart, RewardSettings


@pytest.mark.parametrize(
    ("text", "key"),
    [("http://127.0.0.1:1", "url"), ("https://judge.example", "url"), ("bin/python", "python"), ("python3", "python")],
)
def test_a_bare_string_is_a_url_or_an_interpreter(text: str, key: str) -> None:
    part = RewardPart.model_validate({"where": text})
    assert part.where == Place.model_validate({key: text})


@pytest.mark.parametrize("data", [{"timeout": 3}, {"url": "http://here", "python": "python3"}])
def test_a_reward_runs_in_one_place(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="name either `url` or `python`"):
        Place.model_validate(data)


def test_a_url_has_a_protocol() -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Place.model_validate({"url": "ftp://here"})


def test_a_server_takes_its_options_where_it_is_started() -> None:
    with pytest.raises(ValidationError, match=r"takes its options where its server is started \(serve-reward -o\)"):
        RewardPart.model_validate({"where": "http://here", "options": {"gain": 2}})
    assert RewardPart.model_validate({"where": "python3", "options": {"gain": 2}}).options == {"gain": 2}


@pytest.mark.parametrize(
    ("calibration", "comparable"),
    [("none", True), ("running", True), ({"mean": 1}, True), ("group", False), ("rank", False)],
)
def test_group_and_rank_compare_within_one_chunk_only(calibration: Any, comparable: bool) -> None:
    assert RewardPart.model_validate({"calibration": calibration}).is_comparable is comparable


def test_fixed_numbers_have_defaults() -> None:
    part = RewardPart.model_validate({"calibration": {"mean": 3}})
    assert part.calibration == FixedCalibration(mean=3.0, std=1.0)


@pytest.mark.parametrize("horizon", ["short", "long"])
def test_rewards_are_named_on_either_horizon(horizon: str) -> None:
    assert not RewardSettings().are_named
    assert RewardSettings.model_validate({horizon: {"basic": {}}}).are_named


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices_are_names_as_torch_has_them(device: str) -> None:
    assert RewardPart(device=device).device == device
    with pytest.raises(ValidationError):
        RewardPart(device=f"{device}:x")
