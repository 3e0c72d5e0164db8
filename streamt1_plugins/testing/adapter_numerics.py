"""Tests of what a session computes: the plain video without a search, and candidates fixed by their seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_plugins.api.adapter import HasDraft, HasDraws, History
from streamt1_plugins.api.noise import chunk_noise
from streamt1_plugins.testing.adapter_case import (
    AdapterCase,
    candidate,
    candidates,
    check_drafts,
    check_same,
    grown,
    random_states,
    seeded,
)
from streamt1_plugins.testing.state import tensor_bytes, tensors_in

if TYPE_CHECKING:
    from torch import Tensor


class AdapterNumerics(AdapterCase):
    """The part of the contract that depends on what is denoised, for every further variant of a family."""

    def test_verbs_keep_to_their_shapes(self) -> None:
        with self.session() as session:
            history = session.root()
            for index in range(history.index, session.num_chunks):
                noise = session.draw(history, seeded(index))
                latents, decoded = candidate(session, history, index)
                assert noise.shape == latents.shape, "generate() changed the shape"
                assert latents.ndim == 5, f"latents are [N, C, F, h, w], got {list(latents.shape)}"
                assert len(latents) == 1
                frames = decoded.frames
                assert frames.ndim == 4, f"frames are [T, 3, H, W], got {list(frames.shape)}"
                assert frames.shape[1] == 3
                assert bool((frames >= 0).all() and (frames <= 1).all()), "frames have to be in [0, 1]"
                history = session.commit(history, latents, decoded, "discard")
                assert (history.index, len(history.latents), len(history.frames)) == (index + 1,) * 3

    @pytest.mark.parametrize("output_type", ["latent", "np"])
    def test_without_a_search_it_is_the_plain_pipeline(self, output_type: str) -> None:
        self.check_plain(output_type)

    def test_forks_do_not_touch_each_other(self) -> None:
        with self.session() as session:
            parent = grown(session, session.root(), 0)
            before = [tensor.clone() for tensor in tensors_in(parent)]
            first = candidate(session, parent, 1)
            for route in (*sorted(session.capabilities.routes), "discard"):
                candidate(session, grown(session, parent, 2, route), 3)
            again = candidate(session, parent, 1)
            after = list(tensors_in(parent))
        assert all(map(torch.equal, before, after)), "a child changed its parent's history"
        check_same(first[0], again[0])
        check_same(first[1].frames, again[1].frames)

    def test_a_seed_is_a_candidate(self) -> None:
        found = []
        for _ in range(2):
            with self.session() as session:
                parent = grown(session, session.root(), 0)
                found.append([candidate(session, parent, seed)[0] for seed in (1, 2)])
        check_same(found[0][0], found[1][0])
        assert not torch.equal(found[0][0], found[0][1]), "another seed made the same candidate"

    def test_all_draws_as_one_value_fix_the_candidate(self) -> None:
        with self.session() as session:
            if not isinstance(session, HasDraws):
                pytest.skip("the session takes one draw")
            for history in (root := session.root(), grown(session, root, 0)):
                spent, noise = seeded(7), chunk_noise(session, history, seeded(1))
                state = spent.get_state()
                assert noise.shape[1] == session.draws(history), "draw() gives one draw, [1, C, F, h, w]"
                check_same(session.generate(history, noise, [spent]), candidate(session, history, 1)[0])
                assert torch.equal(spent.get_state(), state), "generate() drew although it was given every draw"

    def test_batch_equals_one_at_a_time(self) -> None:
        with self.session() as session:
            count = min(3, session.capabilities.max_batch or 3)
            if count == 1:
                pytest.skip("the adapter takes one candidate at a time")
            parent = grown(session, session.root(), 0)
            latents, decoded = candidates(session, parent, count)
            for seed in range(count):
                alone = candidate(session, parent, seed)
                self.check_close(latents[seed : seed + 1], alone[0], f"latents of candidate {seed} of {count}")
                self.check_close(decoded[seed].frames, alone[1].frames, f"frames of candidate {seed} of {count}")

    @pytest.mark.parametrize("left", [1, -1], ids=["one step first", "one step last"])
    def test_a_finished_draft_is_the_candidate(self, left: int) -> None:
        with self.session() as session:
            if not isinstance(session, HasDraft):
                pytest.skip("the session makes no drafts")
            history = session.root()
            for _ in range(2):
                steps = left % session.steps(history)
                assert steps, "give a call whose chunks take 2 steps or more"
                check_drafts(session, history, steps)
                history = grown(session, history, 0)

    def test_drafts_of_a_batch_are_finished_in_any_company(self) -> None:
        with self.session() as session:
            count = session.capabilities.max_batch or 3
            if not isinstance(session, HasDraft) or count < 3:
                pytest.skip("the session makes no drafts, or none of three candidates at once")
            history = grown(session, session.root(), 0)
            generators = [seeded(seed) for seed in range(3)]
            noise = torch.cat([session.draw(history, generator) for generator in generators])
            drafts = session.draft(history, noise, generators, 1)
            some = [2, 0]
            found = session.finish_drafts(history, [drafts[i] for i in some], [generators[i] for i in some])
            for row, seed in enumerate(some):
                alone = candidate(session, history, seed)[0]
                self.check_close(found[row : row + 1], alone, f"latents of draft {seed} of 3")

    def test_candidates_leave_random_state_alone(self) -> None:
        generator = seeded(5)
        with self.session(generator=generator) as session:
            before = generator.get_state(), torch.get_rng_state()
            candidate(session, grown(session, session.root(), 1), 2)
            assert torch.equal(before[0], generator.get_state()), "a candidate drew from the caller's generator"
            assert torch.equal(before[1], torch.get_rng_state()), "a candidate drew from torch's global generator"

    def test_chunks_decode_like_the_whole(self) -> None:
        with self.session() as session:
            kind, history = session.capabilities.decode, session.root()
            root = History() if history.index else history
            for index in range(history.index, session.num_chunks):
                history = grown(session, history, index)
            if kind == "carried":
                whole = session.decode(root, torch.cat(history.latents, dim=2))[0].frames
                check_same(torch.cat(history.frames), whole)
            elif kind == "independent":
                for latents, frames in zip(history.latents, history.frames, strict=True):
                    check_same(session.decode(root, latents)[0].frames, frames)
            else:
                pytest.skip("chunks of a blended decoder are not those of a cold decode")

    def test_previews_are_like_the_frames(self) -> None:
        """As many and as large, in [0, 1], and chunk by chunk those of the whole video at once."""
        with self.session() as session:
            preview = self.preview_of(session)
            history, state, frames, sizes = session.root(), None, [], []
            for index in range(history.index):
                state = preview(history.latents[index], state)[0].state
            for index in range(history.index, session.num_chunks):
                latents, decoded = candidate(session, history, index)
                shown = preview(latents, state)[0]
                assert shown.frames.shape == decoded.frames.shape, "previews are not of the frames' shape"
                assert bool((shown.frames >= 0).all() and (shown.frames <= 1).all()), "previews have to be in [0, 1]"
                history, state = session.commit(history, latents, decoded, "discard"), shown.state
                frames.append(shown.frames)
                sizes.append(tensor_bytes(state))
            whole = preview(torch.cat(history.latents, dim=2), None)[0].frames
            self.check_close(torch.cat(frames), whole[-len(torch.cat(frames)) :], "previews chunk by chunk")
            assert len(set(sizes)) == 1, f"the state of the previews grows with the video, in bytes: {sizes}"

    def test_previews_fork_by_reference(self) -> None:
        """Candidates together are those one at a time, and leave the state that they continue alone."""
        with self.session() as session:
            preview, history, state = self.preview_of(session), session.root(), None
            for index in range(2):
                latents, decoded = candidate(session, history, index)
                state = preview(latents, state)[0].state
                history = session.commit(history, latents, decoded, "discard")
            before = [tensor.clone() for tensor in tensors_in(state)]
            latents = torch.cat([candidate(session, history, seed)[0] for seed in range(3)])
            together = preview(latents, state)
            for row, shown in enumerate(together):
                alone = preview(latents[row : row + 1], state)[0]
                self.check_close(shown.frames, alone.frames, f"the preview of candidate {row} of 3")
                for tensor in tensors_in(shown.state):
                    own = tensor.numel() * tensor.element_size()
                    assert tensor.untyped_storage().nbytes() <= own, "a state keeps a larger tensor"
            assert all(map(torch.equal, before, tensors_in(state))), "a preview changed the state it continues"

    def test_predictions_are_flows_of_given_latents(self) -> None:
        """At every noise level finite, repeatable and a forward each; nothing else changes."""
        with self.session() as session:
            predict, parent, other = (
                self.predict_of(session),
                *(grown(session, session.root(), seed) for seed in (0, 5)),
            )
            before, streams = [tensor.clone() for tensor in tensors_in(parent)], random_states(session)
            expected = candidate(session, parent, 1)[0]
            noise = torch.randn(expected.shape, generator=seeded(9)).to(expected)
            for sigma in (0.2, 0.9, 1.0):
                noisy = (1 - sigma) * expected + sigma * noise
                given, spent = noisy.clone(), session.forwards
                flow = predict(parent, noisy, sigma)
                assert session.forwards == spent + 1, "a prediction takes one transformer forward, and counts it"
                assert flow.shape == noisy.shape, f"a flow has the latents' shape, got {list(flow.shape)}"
                assert bool(flow.isfinite().all()), "a flow is not finite"
                check_same(noisy, given)
                assert not torch.equal(flow, predict(other, noisy, sigma)), "the flow does not follow the history"
                assert not torch.equal(flow, predict(parent, noisy, sigma / 2)), "the flow does not follow the level"
                empty = predict(parent, noisy, sigma, prompted=False)
                assert not torch.equal(flow, empty), "the flow does not follow the prompt"
                check_same(predict(parent, noisy, sigma), flow)
            assert all(map(torch.equal, before, tensors_in(parent))), "a prediction changed the history"
            assert all(map(torch.equal, streams, random_states(session))), "a prediction drew random numbers"
            check_same(candidate(session, parent, 1)[0], expected)

    def test_predictions_of_a_batch_are_those_one_at_a_time(self) -> None:
        with self.session() as session:
            predict, parent = self.predict_of(session), grown(session, session.root(), 0)
            count = min(3, session.capabilities.max_batch or 3)
            noisy = torch.cat([session.draw(parent, seeded(seed)) for seed in range(count)])
            spent = session.forwards
            together = predict(parent, noisy, 0.6)
            assert session.forwards == spent + count, "a prediction takes one transformer forward per row"
            for row in range(count):
                alone = predict(parent, noisy[row : row + 1], 0.6)
                self.check_close(together[row : row + 1], alone, f"the flow of row {row} of {count}")

    def test_host_callbacks_are_called(self) -> None:
        steps: dict[bool, list[tuple[bool, int, float]]] = {True: [], False: []}

        def callback(ours: bool) -> Any:
            def step_end(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
                steps[ours].append((pipe is self.pipe, step, float(timestep)))
                return {"latents": 0.9 * tensors["latents"]}

            return step_end

        self.needs_callbacks()
        call = {"output_type": "latent", "return_dict": False}
        found = self.video(callback_on_step_end=callback(True), **call)[0]
        assert steps[True], "the callback was never called"
        check_same(found, self.plain(callback_on_step_end=callback(False), **call)[0])
        assert steps[True] == steps[False], "the callback saw other steps than in the plain pipeline"
