"""The adapter contract itself: the example adapter passes it, and every broken one fails the test meant for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_plugins.api.adapter import Decoded, Draft
from streamt1_plugins.testing import AdapterContract
from tests.third_party.rolling import RollingAdapter, RollingPipeline, RollingSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_plugins.api.adapter import History

KEPT: list[Any] = []
"""What the leaking mutants hold on to."""


class DrawsTwice(RollingSession):
    def draw(self, history: History, generator: Any) -> torch.Tensor:
        super().draw(history, generator)
        return super().draw(history, generator)


class DrawsFromTheCaller(RollingSession):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        torch.randn(1, generator=self._call["generator"])
        return super().generate(history, noise, generators)


class DrawsGlobally(RollingSession):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        return super().generate(history, noise + 0 * torch.randn(1), generators)


class IgnoresSeeds(RollingSession):
    def draw(self, history: History, generator: Any) -> torch.Tensor:
        return super().draw(history, generator if generator is self.generator else torch.Generator().manual_seed(0))


class IsNotDeterministic(RollingSession):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        KEPT.append(0)
        return super().generate(history, noise, generators) + 1e-3 * len(KEPT)


class MixesItsBatch(RollingSession):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        return super().generate(history, noise, generators) - noise.mean()


class CountsNothing(RollingSession):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        latents, self.forwards = super().generate(history, noise, generators), 0
        return latents


class HasAnotherStream(RollingSession):
    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, call)
        self.generator = torch.Generator()


class HoldsCandidates(RollingSession):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self.last = super().generate(history, noise, generators)
        return self.last


class WritesToItsParent(RollingSession):
    def commit(self, history: History, latents: torch.Tensor, decoded: Decoded, route: Any) -> History:
        child = super().commit(history, latents, decoded, route)
        history.memory.copy_(child.memory)
        return child


class KeepsTheBatch(RollingSession):
    def commit(self, history: History, latents: torch.Tensor, decoded: Decoded, route: Any) -> History:
        return replace(super().commit(history, latents, decoded, route), decoder=decoded.state)


class GrowsItsMemory(RollingSession):
    def commit(self, history: History, latents: torch.Tensor, decoded: Decoded, route: Any) -> History:
        self.seen = [*getattr(self, "seen", []), latents.clone()]
        return super().commit(history, latents, decoded, route)


class DecodesAlone(RollingSession):
    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        return super().decode(replace(history, decoder=None), latents)


class ForgetsTheRange(RollingSession):
    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        return [Decoded(each.frames * 255, each.state) for each in super().decode(history, latents)]


class FinishesInItsOwnWay(RollingSession):
    def finish(self, history: History) -> Any:
        return [*super().finish(history).values()] if self._call["return_dict"] else super().finish(history)


class StaysInPlace(RollingSession):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self._pipe.prepare_latents = self._pipe.prepare_latents
        return super().generate(history, noise, generators)


class HooksTheDecoder(RollingSession):
    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        self._pipe.decoder.colours.register_forward_pre_hook(lambda *_: None)
        return super().decode(history, latents)


class StumblesOutside(RollingSession):
    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self._pipe.busy = True
        latents = super().generate(history, noise, generators)
        del self._pipe.busy
        return latents


class ClosesOnce(RollingSession):
    def close(self) -> None:
        del self._texts


class IgnoresTheHost(RollingSession):
    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, {**call, "callback_on_step_end": None})


class IgnoresNegatives(RollingSession):
    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, {**call, "negative_prompt": ""})


class IgnoresOutputTypes(RollingSession):
    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        super().__init__(pipe, {**call, "output_type": "np"})


class Drafts(RollingSession):
    """Sound: stops between two steps and continues."""

    def steps(self, history: History) -> int:
        return int(self._call["num_inference_steps"])

    def draft(self, history: History, noise: torch.Tensor, generators: Any, steps: int) -> list[Draft]:
        return [Draft(row, steps) for row in self._some(history, noise, range(steps)).split(1)]

    def finish_drafts(self, history: History, drafts: Any, generators: Any) -> torch.Tensor:
        latents = torch.cat([draft.latents for draft in drafts])
        return self._some(history, latents, range(drafts[0].state, self.steps(history)))

    def _some(self, history: History, latents: torch.Tensor, steps: range) -> torch.Tensor:
        count = self.steps(history)
        for step in steps:
            self.forwards += len(latents)
            flow = self._pipe.transformer(latents, history.memory, self._texts[0], torch.tensor(1 - step / count))
            latents = latents + (flow - latents) / count
        return latents.detach()


class RepeatsAStep(Drafts):
    def finish_drafts(self, history: History, drafts: Any, generators: Any) -> torch.Tensor:
        return super().finish_drafts(history, [Draft(draft.latents, draft.state - 1) for draft in drafts], generators)


class DrawsForDrafts(Drafts):
    def draft(self, history: History, noise: torch.Tensor, generators: Any, steps: int) -> list[Draft]:
        torch.randn(1, generator=generators[0])
        return super().draft(history, noise, generators, steps)


class RemembersOneDraft(Drafts):
    def draft(self, history: History, noise: torch.Tensor, generators: Any, steps: int) -> list[Draft]:
        self.last = super().draft(history, noise, generators, steps)
        return self.last

    def finish_drafts(self, history: History, drafts: Any, generators: Any) -> torch.Tensor:
        return super().finish_drafts(history, self.last[: len(drafts)], generators)


class CountsNoDrafts(Drafts):
    def draft(self, history: History, noise: torch.Tensor, generators: Any, steps: int) -> list[Draft]:
        drafts, self.forwards = super().draft(history, noise, generators, steps), 0
        return drafts


DRAFTS: list[tuple[type, str, tuple[Any, ...]]] = [
    (RepeatsAStep, "test_a_finished_draft_is_the_candidate", (1,)),
    (RepeatsAStep, "test_a_finished_draft_is_the_candidate", (-1,)),
    (DrawsForDrafts, "test_a_finished_draft_is_the_candidate", (1,)),
    (RemembersOneDraft, "test_a_finished_draft_is_the_candidate", (1,)),
    (RemembersOneDraft, "test_drafts_of_a_batch_are_finished_in_any_company", ()),
    (CountsNoDrafts, "test_a_finished_draft_is_the_candidate", (1,)),
]
CASES: list[tuple[type, str, tuple[Any, ...]]] = [
    (DrawsTwice, "test_without_a_search_it_is_the_plain_pipeline", ("latent",)),
    (DrawsFromTheCaller, "test_candidates_leave_random_state_alone", ()),
    (DrawsFromTheCaller, "test_other_output_types_are_the_plain_pipelines", ("pt",)),
    (DrawsGlobally, "test_candidates_leave_random_state_alone", ()),
    (IgnoresSeeds, "test_a_seed_is_a_candidate", ()),
    (IsNotDeterministic, "test_a_seed_is_a_candidate", ()),
    (MixesItsBatch, "test_batch_equals_one_at_a_time", ()),
    (CountsNothing, "test_declares_itself", ()),
    (HasAnotherStream, "test_declares_itself", ()),
    (HoldsCandidates, "test_what_is_pruned_is_released", ()),
    (WritesToItsParent, "test_forks_do_not_touch_each_other", ()),
    (KeepsTheBatch, "test_survivors_do_not_keep_their_batch", ()),
    (GrowsItsMemory, "test_memory_does_not_grow", ()),
    (DecodesAlone, "test_chunks_decode_like_the_whole", ()),
    (DecodesAlone, "test_without_a_search_it_is_the_plain_pipeline", ("np",)),
    (ForgetsTheRange, "test_verbs_keep_to_their_shapes", ()),
    (FinishesInItsOwnWay, "test_output_is_of_the_pipelines_type", ()),
    (StaysInPlace, "test_close_gives_the_pipeline_back", ()),
    (HooksTheDecoder, "test_close_gives_the_pipeline_back", ()),
    (StumblesOutside, "test_a_failing_call_leaves_the_pipeline_alone", ()),
    (ClosesOnce, "test_close_gives_the_pipeline_back", ()),
    (IgnoresTheHost, "test_host_callbacks_are_called", ()),
    (IgnoresNegatives, "test_negative_prompts_matter_with_guidance", ()),
    (IgnoresOutputTypes, "test_without_a_search_it_is_the_plain_pipeline", ("latent",)),
]


@dataclass(frozen=True)
class MutantAdapter(RollingAdapter):
    kind: Callable[..., Any] = RollingSession

    def open(self, pipe: Any, call: Any, memory: Any) -> Any:
        sound = super().open(pipe, call, memory)
        return self.kind(pipe, sound._call)


class Careless(RollingAdapter):
    """Checks nothing."""

    def open(self, pipe: Any, call: Any, memory: Any) -> Any:
        known = {"prompt": "", "num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "np"}
        return RollingSession(pipe, {**known, "num_chunks": 4, **call})


def contract(adapter: RollingAdapter) -> AdapterContract:
    class Contract(AdapterContract):
        name = "rolling"
        long = {"num_chunks": 12}  # noqa: RUF012
        output_types = ("latent", "pt", "np")

        def make_pipeline(self) -> RollingPipeline:
            return RollingPipeline()

        def make_adapter(self) -> Any:
            return adapter

        def call(self) -> dict[str, Any]:
            return {"prompt": "a red circle", "num_chunks": 4}

    Contract.setup_class()
    return Contract()


@pytest.mark.parametrize(("kind", "test", "arguments"), CASES, ids=lambda case: getattr(case, "__name__", str(case)))
def test_a_broken_adapter_fails_the_test_meant_for_it(kind: type, test: str, arguments: tuple[Any, ...]) -> None:
    KEPT.clear()
    getattr(contract(MutantAdapter()), test)(*arguments)
    with pytest.raises((AssertionError, AttributeError)):
        getattr(contract(MutantAdapter(kind=kind)), test)(*arguments)


@pytest.mark.parametrize(("kind", "test", "arguments"), DRAFTS, ids=lambda case: getattr(case, "__name__", str(case)))
def test_a_broken_draft_fails_the_test_meant_for_it(kind: type, test: str, arguments: tuple[Any, ...]) -> None:
    sound, broken = (contract(MutantAdapter(num_inference_steps=3, kind=each)) for each in (Drafts, kind))
    getattr(sound, test)(*arguments)
    with pytest.raises(AssertionError):
        getattr(broken, test)(*arguments)


def test_a_session_without_drafts_skips_their_tests() -> None:
    with pytest.raises(pytest.skip.Exception):
        contract(MutantAdapter()).test_a_finished_draft_is_the_candidate(1)


@pytest.mark.parametrize("changes", [{"promt": "a dog"}, {"num_videos_per_prompt": 2}, {"prompt": ["a", "b"]}], ids=str)
def test_a_careless_adapter_fails(changes: dict[str, Any]) -> None:
    with pytest.raises((pytest.fail.Exception, TypeError)):
        contract(Careless()).test_unusable_arguments_are_named(changes, "prompt")
    with pytest.raises((pytest.fail.Exception, AttributeError)):
        contract(Careless()).test_other_pipelines_are_refused()
