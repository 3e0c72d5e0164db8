"""The scenes of the contract: a sound adapter passes, and each broken one fails the test meant for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from streamt1_plugins.api.adapter import Capabilities, History, Outline
from streamt1_plugins.config.schedule import scenes_of
from streamt1_plugins.testing.adapter_scenes import AdapterScenes
from tests.testing.test_adapter_features import Sound, adapter_of, contract
from tests.third_party.rolling import CAPABILITIES

REFUSALS = {name: CAPABILITIES.refusals[name] for name in ("early_pruning", "memory_estimate")}


class Scened(Sound):
    """Sound, with scenes: their texts, a memory that a flush empties, and a forward for `recache`."""

    capabilities: Capabilities = replace(CAPABILITIES, refusals=REFUSALS)
    tells_of_recache = True

    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, call)
        self.scenes = scenes_of(call.get("schedule") or [], call["prompt"])
        self._encoded = [pipe.encode_prompt(scene.prompt) for scene in self.scenes]

    def scene(self, history: History) -> int:
        return sum(scene.chunk <= history.index for scene in self.scenes) - 1

    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        if self.scenes:
            self._texts[0] = self._encoded[self.scene(history)]
        return super().generate(history, noise, generators)

    def commit(self, history: History, *rest: Any) -> History:
        return self.changed(super().commit(history, *rest))

    def changed(self, history: History) -> History:
        begins = {scene.chunk: scene.memory for scene in self.scenes}.get(history.index)
        self._count += begins == "recache"
        return replace(history, memory=self.root().memory) if begins == "flush" else history

    def outline(self) -> Outline:
        again = [scene.chunk - 1 for scene in self.scenes if scene.memory == "recache" and self.tells_of_recache]
        chunks = range(self.num_chunks)
        return Outline((2,) * self.num_chunks, tuple(again.count(chunk) for chunk in chunks), latent_frames=3)


class RemembersAfterAFlush(Scened):
    def changed(self, history: History) -> History:
        return history


class ForgetsWhatItShouldKeep(Scened):
    def changed(self, history: History) -> History:
        begins = history.index in {scene.chunk for scene in self.scenes}
        return replace(super().changed(history), **({"memory": self.root().memory} if begins else {}))


class TellsOfNoRecache(Scened):
    tells_of_recache = False


class MakesMoreOfAScene(Scened):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        return super().generate(history, noise + 0.1 * max(0, self.scene(history)), generators)


class ChangesTheFirstOfABatch(Scened):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        made = super().generate(history, noise, generators)
        if len(noise) > 1 and self.scene(history) > 0:
            self._encoded, texts = self._encoded[:1] * len(self.scenes), self._encoded
            made[1:] = super().generate(history, noise, generators)[1:]
            self._encoded = texts
        return made


class ChangesSearchesAlone(Scened):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        if generators[0] is self.generator:
            self._encoded = self._encoded[:1] * len(self.scenes)
        return super().generate(history, noise, generators)


class CountsItsScenes(Scened):
    """The text of a scene depends on how many candidates this process made in it."""

    made = 0

    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self.made += self.scene(history) > 0
        return super().generate(history, noise + 0.01 * self.made, generators)


class ReadsItsTextsOnce(Scened):
    """A second session with the same generator has the texts of the first one."""

    first: ClassVar[dict[int, tuple[Any, torch.Tensor]]] = {}

    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, call)
        if id(self.generator) in self.first:
            self._encoded = [self.first[id(self.generator)][1]] * len(self.scenes)
        self.first[id(self.generator)] = (self.generator, self._texts[0])


RUN, TAKE = "test_a_prompt_that_changes_is_part_of_the_run", "test_a_take_changes_its_prompt"
REMEMBERS = "test_a_new_scene_remembers_what_its_memory_allows"
CASES: list[tuple[type, str, tuple[Any, ...], str]] = [
    (CountsItsScenes, RUN, (), "replayed: not equal"),
    (CountsItsScenes, "test_a_prompt_that_changes_is_shared", (), "a prompt that changes in process 0 of 2"),
    (ReadsItsTextsOnce, TAKE, (), "the take whose prompt was changed"),
    (ChangesSearchesAlone, "test_without_a_search_the_prompt_changes_too", (), "the schedule changes nothing"),
    (MakesMoreOfAScene, "test_a_scene_with_the_same_prompt_changes_nothing", (), "not equal"),
    (RemembersAfterAFlush, REMEMBERS, ("flush",), "before a scene with 'flush'"),
    (ForgetsWhatItShouldKeep, REMEMBERS, ("keep",), "before a scene with 'keep'"),
    (ChangesTheFirstOfABatch, "test_candidates_of_a_scene_in_a_batch", (), "candidate 1 in a batch of 2"),
    (TellsOfNoRecache, "test_the_cost_of_scenes_is_estimated", ("recache",), "spent \\d+ forwards, estimated"),
]


@pytest.fixture(scope="module")
def scened() -> Any:
    return contract(Scened)


@pytest.mark.parametrize(
    ("kind", "test", "arguments", "message"), CASES, ids=lambda case: getattr(case, "__name__", str(case))[:60]
)
def test_a_broken_adapter_fails_the_test_meant_for_it(
    kind: type, test: str, arguments: tuple[Any, ...], message: str, scened: Any
) -> None:
    good: Callable[..., None] = getattr(scened, test)
    good(*arguments)
    with pytest.raises(AssertionError, match=message):
        getattr(contract(kind), test)(*arguments)


def test_the_adapters_own_estimate_is_compared_too() -> None:
    made = contract(Scened)
    adapter = adapter_of(Scened)
    adapter.with_scenes = lambda self, outline, scenes, memory: outline  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="the adapter's estimate is another one"):
        made.test_the_cost_of_scenes_is_estimated("recache")
    del adapter.with_scenes  # type: ignore[attr-defined]


def test_scenes_are_a_part_of_the_features() -> None:
    assert issubclass(type(contract(Scened)), AdapterScenes)


def test_an_adapter_that_refuses_scenes_skips_their_tests() -> None:
    made = contract(Sound)
    made.test_a_prompt_that_changes_is_part_of_the_run()  # which tests the refusal
    with pytest.raises(pytest.skip.Exception, match="refuses a prompt that changes"):
        made.test_a_take_changes_its_prompt()
