"""The features of the contract: a sound adapter has them all, and each broken one fails the test meant for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import make_dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from streamt1_plugins import hookimpl
from streamt1_plugins.api.adapter import Capabilities, Decoded, Draft, Footprint, History, Outline
from streamt1_plugins.config.schedule import scenes_of
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.testing import AdapterContract, AdapterFeatures
from tests.third_party.rolling import CAPABILITIES, RollingAdapter, RollingPipeline, RollingSession

SEARCH, EARLY = "test_a_search_gives_a_tree", "test_early_pruning_finishes_the_best"
SCHEDULE = "test_a_prompt_that_changes_is_part_of_the_run"
COST, OFFLOADED = "test_the_cost_is_estimated", "test_offloaded_states_give_the_same_search"


def refusing(**changes: str) -> Capabilities:
    return replace(CAPABILITIES, refusals={**CAPABILITIES.refusals, **changes})


class Sound(RollingSession):
    """The example; its counter is read-only, as the protocol has it."""

    _count = 0

    @property
    def forwards(self) -> int:
        return self._count

    @forwards.setter
    def forwards(self, count: int) -> None:
        if sys._getframe(1).f_globals["__name__"] != RollingSession.__module__:
            raise AttributeError("`forwards` is read-only")
        self._count = count


class DrawsTheWholeVideo(Sound):
    """Noise for all chunks at the first draw: what is left of the stream is not what a resumed run needs."""

    noise: Any = None

    def draw(self, history: History, generator: Any) -> torch.Tensor:
        if generator is not self.generator:
            return super().draw(history, generator)
        if self.noise is None:
            self.noise = [super(DrawsTheWholeVideo, self).draw(history, generator) for _ in range(self.num_chunks)]
        noise: torch.Tensor = self.noise[history.index]
        return noise


class RemembersItsCalls(Sound):
    calls = 0

    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self.calls += 1
        return super().generate(history, noise + 0.01 * self.calls, generators)


class DecodesWhatItMade(Sound):
    """Only candidates that this session made, so none of another process or of a checkpoint."""

    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self.made = super().generate(history, noise, generators)
        return self.made

    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        assert torch.equal(latents, self.made), "not made here"
        return super().decode(history, latents)


class KnowsStatesByIdentity(Sound):
    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        found = super().decode(history, latents)
        self.known = {id(each.state): each.state for each in found}
        return found

    def commit(self, history: History, latents: torch.Tensor, decoded: Decoded, route: Any) -> History:
        return super().commit(history, latents, Decoded(decoded.frames, self.known[id(decoded.state)]), route)


class CleansUpAtTheEnd(Sound):
    """Not in `close`."""

    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, call)
        pipe.busy = True

    def finish(self, history: History) -> Any:
        del self._pipe.busy
        return super().finish(history)

    def close(self) -> None:
        """Too late for a run that did not finish."""


class ReadsWeights(Sound):
    """Past the modules, whose hooks bring weights that wait elsewhere."""

    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        float(self._pipe.decoder.colours.weight.detach().sum())
        return super().decode(history, latents)


class IgnoresPrompts(Sound):
    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, {**call, "prompt": "always this", "generator": torch.Generator().manual_seed(0)})


class IgnoresItsScenes(Sound):
    """It reads them, and makes the video of the first one."""

    capabilities = replace(CAPABILITIES, refusals={k: v for k, v in CAPABILITIES.refusals.items() if k != "schedule"})

    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, call)
        self.scenes = scenes_of(call.get("schedule") or [], call["prompt"])


class RefusesInSilence(Sound):
    capabilities = replace(CAPABILITIES, refusals={})


class RefusesWithoutAReason(Sound):
    capabilities = refusing(early_pruning="")


class RefusesTheUnknown(Sound):
    capabilities = refusing(teleportation="too early")


class RefusesUnregistered(Sound):
    capabilities = refusing(early_pruning="another reason than the table shows")


class RefusesWhatItHas(Sound):
    def steps(self, history: History) -> int:
        return 2

    def draft(self, *_: Any) -> list[Draft]:
        return []

    def finish_drafts(self, *_: Any) -> None:
        """Never called."""


class Priced(Sound):
    """Sound, with a true outline."""

    capabilities = replace(
        CAPABILITIES, refusals={k: v for k, v in CAPABILITIES.refusals.items() if k != "cost_estimate"}
    )
    price = 2

    def outline(self) -> Outline:
        return Outline((self.price,) * self.num_chunks, (0,) * self.num_chunks, latent_frames=3)


class PricedTooLow(Priced):
    price = 1


CASES: list[tuple[type, str, tuple[Any, ...], str]] = [
    (DrawsTheWholeVideo, "test_an_interrupted_plain_run_resumes", (), "the resumed search"),
    (RemembersItsCalls, "test_an_interrupted_search_resumes", (), "the resumed search"),
    (RemembersItsCalls, "test_a_winner_is_replayed", (), "the replayed winner"),
    (RemembersItsCalls, "test_any_candidate_is_replayed", (), "the latents of node"),
    (RemembersItsCalls, "test_a_branch_at_the_winner_changes_nothing", (), "the branch at the winner"),
    (RemembersItsCalls, "test_a_branch_is_a_run_like_any_other", (), "the node that was picked"),
    (DecodesWhatItMade, "test_shared_candidates_give_the_same_search", (), "not made here"),
    (KnowsStatesByIdentity, OFFLOADED, ("recompute", ("search.top_k=1",)), "\\d+"),
    (KnowsStatesByIdentity, OFFLOADED, ("cpu", ()), "\\d+"),
    (CleansUpAtTheEnd, "test_a_stream_may_be_abandoned", (), "left on the pipeline"),
    (CleansUpAtTheEnd, "test_a_search_that_cannot_fit_is_refused", (), "left on the pipeline"),
    (CleansUpAtTheEnd, "test_an_interrupted_search_resumes", (), "leaves something"),
    (ReadsWeights, "test_offloaded_components_give_the_same_video", (), "meta"),
    (IgnoresPrompts, "test_several_prompts_are_a_search_each", (), "the video of the first"),
    (RefusesInSilence, EARLY, (), "Implement it, or declare why not: Capabilities\\(refusals="),
    (RefusesInSilence, COST, ((),), "needs `OutlinedSession`"),
    (RefusesInSilence, "test_the_memory_is_estimated", (), "needs `HasFootprint`"),
    (RefusesInSilence, SCHEDULE, (), "schedule needs `HasScenes`"),
    (IgnoresItsScenes, SCHEDULE, (), "the new prompt changes nothing"),
    (RefusesWithoutAReason, "test_refusals_are_shown", (), "needs a reason"),
    (RefusesTheUnknown, "test_refusals_are_shown", (), "unknown features in `refusals`: \\['teleportation'\\]"),
    (RefusesUnregistered, "test_refusals_are_shown", (), "needs the same `refusals`"),
    (RefusesUnregistered, EARLY, (), "does not give the reason"),
    (RefusesWhatItHas, EARLY, (), "is refused .*, and `HasDraft` is there"),
    (PricedTooLow, COST, ((),), "estimated"),
]


@cache
def adapter_of(kind: type) -> type:
    """An adapter whose sessions are of this kind, registered under the kind's name."""

    def opened(self: Any, pipe: Any, call: Any, memory: Any) -> Any:
        takes = "schedule" not in kind.capabilities.refusals  # type: ignore[attr-defined]
        rest = {name: value for name, value in call.items() if name != "schedule" or not takes}
        return kind(pipe, {**call, **RollingAdapter.open(self, pipe, rest, memory)._call})

    made = make_dataclass(
        f"{kind.__name__}Adapter", [], bases=(RollingAdapter,), namespace={"open": opened}, frozen=True
    )
    registered = CAPABILITIES if kind is RefusesUnregistered else kind.capabilities  # type: ignore[attr-defined]

    class Plugin:
        @hookimpl
        def streamt1_register_adapters(self, register: Any) -> None:
            register(kind.__name__, pipelines=(), target=made, capabilities=registered)

    discovery().add(Plugin(), name=f"plugin-{kind.__name__}", origin="tests")
    return made


def contract(kind: type) -> Any:
    class Contract(AdapterFeatures):
        name = kind.__name__

        def make_pipeline(self) -> RollingPipeline:
            return RollingPipeline()

        def make_adapter(self) -> Any:
            return adapter_of(kind)()

        def call(self) -> dict[str, Any]:
            return {"prompt": "a red circle", "num_chunks": 3}

    Contract.setup_class()
    return Contract()


@pytest.fixture(scope="module")
def sound() -> Any:
    return contract(Sound)


@pytest.fixture(scope="module")
def priced() -> Any:
    return contract(Priced)


@pytest.mark.parametrize(
    ("kind", "test", "arguments", "message"), CASES, ids=lambda case: getattr(case, "__name__", str(case))[:60]
)
def test_a_broken_adapter_fails_the_test_meant_for_it(
    kind: type, test: str, arguments: tuple[Any, ...], message: str, sound: Any, priced: Any
) -> None:
    good: Callable[..., None] = getattr(priced if issubclass(kind, Priced) else sound, test)
    try:
        good(*arguments)
    except pytest.skip.Exception:
        assert test == "test_the_memory_is_estimated" or kind is RefusesInSilence
    with pytest.raises((AssertionError, KeyError, RuntimeError, NotImplementedError), match=message):
        getattr(contract(kind), test)(*arguments)


def test_a_sound_adapter_has_every_feature(sound: Any) -> None:
    for test in (SEARCH, "test_a_stream_is_the_video", "test_the_record_is_complete", "test_refusals_are_shown"):
        getattr(sound, test)()


def test_pipelines_that_are_not_alike_are_named() -> None:
    class Unseeded(type(contract(Sound))):  # type: ignore[misc]
        made = 0

        def make_pipeline(self) -> RollingPipeline:
            type(self).made += 1
            return RollingPipeline(seed=self.made)

    Unseeded.setup_class()
    with pytest.raises(AssertionError, match="`make_pipeline` makes other weights: seed them"):
        Unseeded().test_shared_candidates_give_the_same_search()


def test_the_memory_of_a_model_that_is_not_here_is_not_known() -> None:
    class Measured(Sound):
        capabilities = replace(CAPABILITIES, refusals={})

    made = contract(Measured)
    adapter = made.make_adapter()
    type(adapter).footprint = lambda *_: None
    made.test_the_memory_is_estimated()
    type(adapter).footprint = lambda *_: Footprint(1, 1, 1, 1, 1, 1, 1)
    with pytest.raises(AssertionError):
        made.test_the_memory_is_estimated()


def test_the_features_are_a_part_of_the_contract() -> None:
    assert issubclass(AdapterContract, AdapterFeatures)
