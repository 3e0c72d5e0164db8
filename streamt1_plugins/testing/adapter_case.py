"""Base of the adapter contract: a tiny pipeline, sessions on it, single steps of the search, comparisons."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.plugins.build import options_of
from streamt1_plugins.search import previews
from streamt1_plugins.search.denoiser import prediction_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Generator, Tensor

    from streamt1_plugins.api.adapter import Adapter, Decoded, History, Session
    from streamt1_plugins.api.types import MemoryRoute


class AdapterCase:
    """Base of an adapter's tests. Override `make_pipeline`, `make_adapter` and `call`, for 3 chunks or more.

    name: what the adapter is registered as. long: changes to the call that make 8 chunks or more.
    guidance: changes that switch guidance on; None where the pipeline takes no negative prompt.
    tolerance: how far a candidate may differ between batches, relative to the largest value.
    has_plain: whether the pipeline's own call makes the same video without a search (a causal Wan has no such call).
    has_callbacks: whether the pipeline's call takes `callback_on_step_end`.
    output_types: what the call's `output_type` may be.
    """

    name: ClassVar[str]
    long: ClassVar[Mapping[str, Any]] = {}
    guidance: ClassVar[Mapping[str, Any] | None] = {"guidance_scale": 3.0}
    tolerance: ClassVar[float] = 1e-4
    has_plain: ClassVar[bool] = True
    has_callbacks: ClassVar[bool] = True
    output_types: ClassVar[tuple[str, ...]] = ("latent", "pt", "np", "pil")
    pipe: Any

    def make_pipeline(self) -> Any:
        """A pipeline small enough for a CPU, with weights that all matter (no zero gates)."""
        raise NotImplementedError

    def make_adapter(self) -> Adapter:
        """The adapter under test."""
        raise NotImplementedError

    def call(self) -> dict[str, Any]:
        """Arguments of one call, without `generator`; fresh objects every time."""
        raise NotImplementedError

    @classmethod
    def setup_class(cls) -> None:
        cls.pipe = cls().make_pipeline()

    @classmethod
    def teardown_class(cls) -> None:
        del cls.pipe

    @contextmanager
    def session(self, **changes: Any) -> Iterator[Session]:
        """A session on the shared pipeline, closed at the end."""
        opened = self.make_adapter().open(self.pipe, self.arguments(changes), MemoryPlan())
        try:
            yield opened
        finally:
            opened.close()

    def video(self, **changes: Any) -> Any:
        """The video of a session without a search: the plain stream, one candidate per chunk."""
        with self.session(**changes) as session:
            history = session.root()
            for _ in range(history.index, session.num_chunks):
                history = grown(session, history, session.generator)
            return session.finish(history)

    def plain(self, **changes: Any) -> Any:
        """The video that the pipeline itself makes of the same call."""
        if not self.has_plain:
            pytest.skip("there is no plain pipeline to compare with")
        return self.pipe(**self.arguments(changes))

    def arguments(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The call with changes; a change of ... takes an argument away."""
        call = {**self.call(), "generator": seeded(0), **changes}
        return {name: value for name, value in call.items() if value is not ...}

    def check_close(self, found: Tensor, expected: Tensor, what: str) -> None:
        worst = float((found.float() - expected.float()).abs().max())
        limit = self.tolerance * max(1.0, float(expected.abs().max()))
        assert worst <= limit, f"{what}: values differ by {worst:.3g}, allowed {limit:.3g}"

    def check_plain(self, output_type: str) -> None:
        """Compare with the plain pipeline: the output, and the state in which the caller's generator is left."""
        if output_type not in self.output_types:
            pytest.skip(f"the pipeline gives no {output_type!r}")
        ours, theirs = seeded(3), seeded(3)
        found = self.video(output_type=output_type, return_dict=False, generator=ours)
        check_output(found[0], output_type)
        check_same(found[0], self.plain(output_type=output_type, return_dict=False, generator=theirs)[0])
        assert torch.equal(ours.get_state(), theirs.get_state()), "the caller's generator is left in another state"

    def part(self) -> dict[str, Any]:
        """The adapter as a recipe names it."""
        return {"name": self.name, **options_of(self.make_adapter())}

    def preview_of(self, session: Any) -> Callable[[Tensor, Any], list[Decoded]]:
        """A session's `preview`; skips a test where there is no preview decoder."""
        problem = previews.problem(session)
        if problem:
            pytest.skip(f"there are no previews: {problem}")
        found: Callable[[Tensor, Any], list[Decoded]] = session.preview
        return found

    def predict_of(self, session: Any) -> Callable[..., Tensor]:
        """A session's `predict`; skips a test where its denoiser cannot be run on given latents."""
        problem = prediction_problem(session)
        if problem:
            pytest.skip(f"there are no predictions: {problem}")
        found: Callable[..., Tensor] = session.predict
        return found

    def needs_callbacks(self) -> None:
        """Skip a test where the pipeline's call takes no callback."""
        if not self.has_callbacks:
            pytest.skip("the pipeline's call takes no `callback_on_step_end`")


def seeded(seed: int) -> Generator:
    """A CPU generator."""
    return torch.Generator().manual_seed(seed)


def random_states(session: Session) -> list[Tensor]:
    """The states of the random streams that no candidate may touch."""
    return [session.generator.get_state(), torch.get_rng_state()]


def candidate(session: Session, history: History, seed: int | Generator) -> tuple[Tensor, Decoded]:
    """One candidate's latents and frames, from a seed or a generator."""
    generator = seeded(seed) if isinstance(seed, int) else seed
    latents = session.generate(history, session.draw(history, generator), [generator])
    return latents, session.decode(history, latents)[0]


def candidates(session: Session, history: History, count: int) -> tuple[Tensor, list[Decoded]]:
    """The candidates of seeds 0, 1, ... as one batch."""
    generators = [seeded(seed) for seed in range(count)]
    noise = torch.cat([session.draw(history, generator) for generator in generators])
    latents = session.generate(history, noise, generators)
    return latents, session.decode(history, latents)


def grown(session: Session, history: History, seed: int | Generator, route: MemoryRoute = "discard") -> History:
    """The history with one more chunk."""
    return session.commit(history, *candidate(session, history, seed), route)


def check_drafts(session: Any, history: History, steps: int) -> None:
    """Two candidates drafted one after the other and finished in reverse are those that `generate` makes."""
    whole, split = [seeded(1), seeded(2)], [seeded(1), seeded(2)]
    start = session.forwards
    expected = [session.generate(history, session.draw(history, each), [each]) for each in whole]
    middle = session.forwards
    noises = [session.draw(history, each) for each in split]
    drafts = [session.draft(history, noises[row], [split[row]], steps)[0] for row in (0, 1)]
    for row, draft in enumerate(drafts):
        assert draft.latents.shape == expected[row].shape, f"a draft has shape {list(draft.latents.shape)}"
        frames = session.decode(history, draft.latents)[0].frames
        assert bool((frames >= 0).all() and (frames <= 1).all()), "a draft's frames have to be in [0, 1]"
    for row in (1, 0):
        check_same(session.finish_drafts(history, [drafts[row]], [split[row]]), expected[row])
        assert torch.equal(split[row].get_state(), whole[row].get_state()), "a draft draws more or less than the whole"
    assert session.forwards - middle == middle - start, "a draft and its rest do not count the forwards of the whole"


def check_same(found: Any, expected: Any) -> None:
    """Equal to the last bit: tensors, arrays or lists of images."""
    ours, theirs = (x.numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (found, expected))
    assert ours.shape == theirs.shape, f"shape {list(ours.shape)}, expected {list(theirs.shape)}"
    assert np.array_equal(ours, theirs), f"not equal: values differ by up to {np.abs(ours - theirs).max():.3g}"


def check_output(video: Any, output_type: str) -> None:
    """One video in the form of this `output_type`."""
    axes = {"latent": 5, "pt": 5, "np": 5, "pil": 1}[output_type]
    assert len(video) == 1, f"{len(video)} videos instead of one"
    if output_type == "pil":
        assert video[0], "no images"
        assert all(image.size for image in video[0])
    else:
        assert video.ndim == axes, f"{output_type!r} has shape {list(video.shape)}"
