"""Tests for policies and observers to inherit: everything that the search relies on.

class TestMine(PolicyContract):
    kind = "selection"

    def make_policy(self): return Mine()
"""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.plugins.build import written_options
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.testing.adapter_case import check_same
from streamt1_plugins.testing.searches import Interrupted, Kept, StopAfter, check_nodes, explained

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.api.register import PolicyKind
    from streamt1_plugins.pipeline import StreamPipeline

RECIPE = {
    "extends": "stream-t1",
    "adapter": {"name": "tinyworld", "steps": [2, 2], "height": 32, "width": 32},
    "search": {"candidates": 2, "top_k": 2},
    "rewards": {"replace": True, "short": {"basic": {}}, "long": {"basic": {}}},
}
"""Small searches on the bundled model, with other than its own settings: the videos mean nothing."""


class PolicyContract:
    """Searches of three chunks on the bundled model that the policy, or the observer, takes part in.

    kind: the section of a recipe that it is registered for. call: arguments of the call. policy: that of the newest
    search.
    """

    kind: ClassVar[PolicyKind]
    call: ClassVar[Mapping[str, Any]] = {"prompt": "a red circle moving right", "num_frames": 33}
    pipe: Any
    policy: Any
    _folder: ClassVar[TemporaryDirectory[str]]

    def make_policy(self) -> Any:
        """A fresh policy or observer."""
        raise NotImplementedError

    @classmethod
    def setup_class(cls) -> None:
        cls.pipe = streamt1.load("tinyworld", recipe="plain", device="cpu").pipe
        cls._folder = TemporaryDirectory(prefix="streamt1-")

    @classmethod
    def teardown_class(cls) -> None:
        cls._folder.cleanup()
        del cls.pipe

    def new(self) -> Path:
        """The path of a new run folder."""
        folder = Path(self._folder.name)
        return folder / f"{len(list(folder.iterdir()))}"

    def wrapped(self, *overrides: str, observers: Mapping[str, object] | None = None) -> StreamPipeline:
        """The bundled model with a fresh policy and a search of 2 x 2 candidates, changed by `overrides`."""
        self.policy, others = self.make_policy(), dict(observers or {})
        if self.kind == "observer":
            return streamt1.wrap(self.pipe, RECIPE, observers={**others, "mine": self.policy}, overrides=overrides)
        policies: dict[PolicyKind, object] = {self.kind: self.policy}
        return streamt1.wrap(self.pipe, RECIPE, policies=policies, observers=others, overrides=overrides)

    def searched(self, *overrides: str, observers: Mapping[str, object] | None = None) -> StreamPipeline:
        """The pipeline after a finished search; `tree` and `last_run` have what it found."""
        pipe = self.wrapped(*overrides, observers=observers)
        pipe(**self.call)
        return pipe

    def test_its_options_can_be_recorded(self) -> None:
        policy = self.make_policy()
        assert is_dataclass(policy), "it has to be a dataclass: its fields are its options"
        json.dumps(written_options(policy))

    def test_a_seed_gives_the_same_search(self) -> None:
        before = torch.get_rng_state()
        one, other = self.searched(), self.searched()
        assert torch.equal(torch.get_rng_state(), before), "it draws from torch's global generator"
        check_nodes(one.tree, other.tree, "the same search once more")
        check_latents(one, other, "the same search once more")

    def test_every_candidate_can_be_made_again(self) -> None:
        """Also those that were pruned: `streamt1 replay --continue-from` takes any of them."""
        kept, folder = Kept(), self.new()
        pipe = self.searched(observers={"journal": Journal(str(folder)), "kept": kept})
        for node in [*pipe.tree.chunk(1), pipe.tree.nodes[pipe.tree.winner[-1]]]:
            path = [each.id for each in pipe.tree.path(node.id)]
            with explained(f"candidate {node.id}, made again from its seed"):
                latents = streamt1.regenerate(folder, node.id, self.wrapped(), output_type="latent").frames
                check_same(latents, torch.cat([kept.latents[name] for name in path], dim=2))

    def test_an_interrupted_search_resumes_to_the_same_video(self) -> None:
        expected, folder = self.searched(), self.new()
        with pytest.raises(Interrupted):
            self.searched(observers={"journal": Journal(str(folder)), "stop": StopAfter(1)})
        pipe = self.wrapped()
        resumed = streamt1.resume(folder, pipe)
        check_same(resumed.frames[0], expected.last_run.session.finish(expected.last_run.beams[0].history).frames[0])

    def test_it_works_with_any_width(self) -> None:
        for overrides in (("search.candidates=1", "search.top_k=2"), ("search.candidates=3", "search.top_k=1")):
            tree = self.searched(*overrides).tree
            assert [len(tree.kept(index)) >= 1 for index in range(3)] == [True] * 3


def check_latents(found: StreamPipeline, expected: StreamPipeline, what: str) -> None:
    """The same latents in every chunk of the best branch."""
    ours, theirs = (pipe.last_run.beams[0].history.latents for pipe in (found, expected))
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        with explained(f"{what}: the latents of chunk {index}"):
            check_same(one, other)
