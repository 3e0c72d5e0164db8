"""What a search costs, counted: forwards, decoded latents, bytes, copies, reads back from the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import Decoded, MemoryPlan
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.noise import chunk_noise
from streamt1_plugins.search import offload as parking
from streamt1_plugins.testing.state import tensor_bytes, tensors_in
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters.tiny import seeded, tiny_pipeline, tiny_vae

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diffusers import WanPipeline

    from streamt1_plugins.api.adapter import History
    from streamt1_wan.session import CausalWanSession

CALL: dict[str, Any] = {"prompt": "a red circle", "height": 32, "width": 32, "max_sequence_length": 16}
CHUNK = 3  # latent frames


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def pipe() -> WanPipeline:
    return tiny_pipeline()


@pytest.fixture
def settled(pipe: WanPipeline) -> Iterator[tuple[CausalWanSession, History]]:
    """A session and a history whose memory is full: 7 chunks of context, so that copies of it stand out."""
    session = CausalWanAdapter().open(pipe, {**CALL, "num_frames": frames(12)}, MemoryPlan(window_chunks=7))
    history = session.root()
    for index in range(8):
        latents = session.draw(history, seeded(index))
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    yield session, history
    session.close()


def frames(chunks: int) -> int:
    return 4 * CHUNK * chunks - 3


def candidate(session: CausalWanSession, history: History, seed: int) -> tuple[torch.Tensor, Decoded]:
    generator = seeded(seed)
    latents = session.generate(history, session.draw(history, generator), [generator])
    return latents, session.decode(history, latents)[0]


def wrapped(pipe: WanPipeline, search: dict[str, Any], observers: dict[str, Any] | None = None) -> Any:
    adapter = {"name": "wan", "timesteps": [1000, 750, 500, 250]}
    rewards = {"short": {"basic": {}}, "long": {"basic": {}}}
    recipe = {"extends": "stream-t1", "adapter": adapter, "search": search, "rewards": rewards}
    return streamt1.wrap(pipe, recipe, observers=observers)


@pytest.mark.parametrize(("k", "m"), [(2, 2), (3, 1), (1, 3)])
def test_forwards(k: int, m: int, pipe: WanPipeline) -> None:
    """K * M * S per chunk, and M clean passes except in the last one."""
    chunks, steps = 4, 4
    search = wrapped(pipe, {"candidates": k, "top_k": m})
    search(**CALL, num_frames=frames(chunks))
    assert search.last_run.cost.forwards == chunks * k * m * steps + (chunks - 1) * m


@pytest.mark.parametrize(("chunks", "carried", "cold"), [(7, 21, 105), (40, 120, 1185)])
def test_latents_decoded_per_candidate(chunks: int, carried: int, cold: int) -> None:
    """Along one path; the naive way decodes the chunk and a window of up to 10 chunks from nothing."""
    pipe = tiny_pipeline(rope_max_seq_len=CHUNK * chunks)
    decoded: list[int] = []
    decoder = pipe.vae.decoder
    decoder.register_forward_pre_hook(lambda module, inputs: decoded.append(inputs[0].shape[2]))
    session = CausalWanAdapter(timesteps=(1000,)).open(pipe, {**CALL, "num_frames": frames(chunks)}, MemoryPlan())
    history = session.root()
    for index in range(chunks):
        history = session.commit(history, *candidate(session, history, index), "discard")
    assert sum(decoded) == carried
    session.finish(history)
    session.close()
    assert sum(decoded) == carried, "the final video is decoded already"
    assert sum(CHUNK + CHUNK * min(index + 1, 10) for index in range(chunks)) == cold


def test_candidates_own_no_context(settled: tuple[CausalWanSession, History]) -> None:
    session, history = settled
    candidate(session, history, 0)
    held = tensor_bytes(vars(session), session._pipe)
    waiting = [candidate(session, history, seed) for seed in range(8)]
    assert tensor_bytes(vars(session), session._pipe) == held, "candidates left something in the session"
    context = {tensor.data_ptr() for tensor in tensors_in(history.memory)}
    assert not context & {tensor.data_ptr() for tensor in tensors_in(waiting)}
    own = sum(x.numel() * x.element_size() for latents, _ in waiting for x in [latents])
    assert tensor_bytes([latents for latents, _ in waiting]) == own


def test_a_committed_chunk_adds_one_block_that_descendants_share(settled: tuple[CausalWanSession, History]) -> None:
    session, history = settled
    left, right = (session.commit(history, *candidate(session, history, seed), "discard") for seed in (0, 1))
    config = session._pipe.transformer.config
    tokens, width = CHUNK * 2 * 2, config.num_attention_heads * config.attention_head_dim
    block = config.num_layers * 2 * tokens * width * 4
    assert tensor_bytes(left.memory.blocks[-1]) == block
    shared = set(map(id, left.memory.blocks)) & set(map(id, right.memory.blocks))
    assert len(shared) == len(left.memory.blocks) - 1
    assert tensor_bytes((left.memory, right.memory)) == (len(left.memory.blocks) + 1) * block


class Watch(TorchDispatchMode):
    """Counts new tensors at least as large as `size` numbers, and reads of tensors by the host."""

    READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.large: list[str] = []
        self.reads: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        given = {x.untyped_storage().data_ptr() for x in tensors_in((args, kwargs))}
        new = [x for x in tensors_in(result) if x.untyped_storage().data_ptr() not in given]
        if any(x.numel() >= self.size for x in new):
            self.large.append(name)
        if name in self.READS:
            self.reads.append(name)
        return result


def test_old_keys_are_neither_copied_nor_turned_again(settled: tuple[CausalWanSession, History]) -> None:
    """The context is assembled once per parent; no step of any candidate makes a tensor as large as it again."""
    session, history = settled
    past = history.memory.blocks[0].keys[0].numel() * len(history.memory.blocks)
    # The widest tensor a chunk needs for itself is smaller, so nothing hides behind it.
    noises = [chunk_noise(session, history, seeded(seed)) for seed in (0, 1)]
    with Watch(past) as first:
        session.generate(history, noises[0], [seeded(0)])
    layers = session._pipe.transformer.config.num_layers
    assert first.large == ["aten::new_empty"] * 2 * layers
    with Watch(past) as later:
        session.generate(history, noises[1], [seeded(1)])
    assert later.large == []


def test_the_host_reads_nothing_back(
    settled: tuple[CausalWanSession, History], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, history = settled

    def refuse(name: str) -> Callable[..., Any]:
        def read(*_: Any, **__: Any) -> Any:
            raise AssertionError(f"Tensor.{name} makes the host wait for the device")

        return read

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, refuse(name))
    with Watch(1 << 40) as watch:
        session.commit(history, *candidate(session, history, 0), "ema")
    assert watch.reads == []


class States:
    """An observer that weighs the decoder states of waiting candidates."""

    def __init__(self) -> None:
        self.waiting: list[int] = []

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Any) -> None:
        self.waiting.append(tensor_bytes(candidate.decoded.state))


@pytest.mark.parametrize("park", ["none", "recompute"])
def test_waiting_candidates_hold_decoder_states_only_where_asked(park: str, pipe: WanPipeline) -> None:
    states = States()
    search = wrapped(pipe, {"candidates": 4, "top_k": 1, "offload": park}, {"states": states})
    search(**CALL, num_frames=frames(2))
    assert len(states.waiting) == 8
    assert all(states.waiting) if park == "none" else not any(states.waiting)


@pytest.mark.parametrize("park", ["cpu", "recompute"])
def test_parking_changes_no_bit(park: str, pipe: WanPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def video(park: str) -> tuple[torch.Tensor, list[float]]:
        search = wrapped(pipe, {"candidates": 2, "top_k": 2, "offload": park})
        frames_found = search(**CALL, num_frames=frames(5), output_type="pt").frames
        return frames_found, [node.score for node in search.tree]

    expected = video("none")
    sent: list[torch.Tensor] = []
    if park == "cpu":  # make believe that the CPU is another device, so that everything that waits is really put aside
        monkeypatch.setattr(parking, "is_host", lambda tensor: sent.append(tensor))
    found = video(park)
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]
    assert bool(sent) == (park == "cpu")


def peak(work: Callable[[], Any]) -> int:
    """Most bytes of tensors alive at once while `work` runs, besides those alive before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    live = highest = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            highest = max(highest, live)
    return highest


def test_eight_candidates_need_at_most_a_third_more_than_one() -> None:
    """With `park: recompute`, on a decoder whose states weigh more than anything else, as they do at real size."""
    found = {}
    for name, search in {
        "plain": {"candidates": 1, "top_k": 1},
        "device": {"candidates": 8, "top_k": 1},
        "recompute": {"candidates": 8, "top_k": 1, "offload": "recompute"},
    }.items():
        pipe = tiny_pipeline(vae=tiny_vae(base_dim=48, num_res_blocks=2))
        weights = sum(x.numel() * x.element_size() for part in (pipe.transformer, pipe.vae) for x in part.parameters())
        run = wrapped(pipe, search)
        found[name] = weights + peak(lambda run=run: run(**CALL, num_frames=frames(3), output_type="latent"))
    assert found["recompute"] <= 1.3 * found["plain"], found
    assert found["device"] > 1.3 * found["plain"], found
