"""Cost of the search on causal Wan with random weights: plain against N candidates, each way of running them.

    python tests/benchmarks/causal_wan.py --size mid --out docs/evidence/causal_wan_cpu.json
    python tests/benchmarks/causal_wan.py --size 1.3b --device cuda --out docs/evidence/causal_wan_gpu.json
    python tests/benchmarks/causal_wan.py --size mid --rows previews --out docs/evidence/previews_wan_cpu.json
    python tests/benchmarks/causal_wan.py --size 1.3b --device cuda --rows previews --out previews_1.3b.json
    python tests/benchmarks/causal_wan.py --size 14b --device cuda --rows previews --out previews_14b.json

One process, the same weights, and every row makes the same chunk: the first one with a full memory. All rows take turns
within a round, so that a busy machine slows them all; times are medians over the rounds, ratios medians of the ratios
within a round. No rewards: the first candidate wins. On a CPU times are seconds of CPU, not of the clock. Memory is
CUDA's peak; on a CPU it is by how much the process grew while the row ran.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from naive import NaiveSearch
from safetensors.torch import save_file

from streamt1_plugins.api.adapter import Decoded, MemoryPlan
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.rope import Rope
from streamt1_wan.schedule import listed
from streamt1_wan.tiny_decoder import TinyDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamt1_plugins.api.adapter import History

SETTLED, LATE = 4, (8, 40)  # chunks until sinks and window are full; where the length of the video is looked at


@dataclass(frozen=True)
class Size:
    transformer: dict[str, Any]
    height: int
    width: int
    text: tuple[int, int]  # tokens, width


SIZES = {
    "tiny": Size(
        {"num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "ffn_dim": 64}, 32, 32, (16, 32)
    ),
    "mid": Size(
        {"num_attention_heads": 8, "attention_head_dim": 64, "num_layers": 8, "ffn_dim": 2048}, 240, 208, (64, 512)
    ),
    "14b": Size(
        {"num_attention_heads": 40, "attention_head_dim": 128, "num_layers": 40, "ffn_dim": 13824},
        480,
        832,
        (512, 4096),
    ),
    "1.3b": Size(
        {"num_attention_heads": 12, "attention_head_dim": 128, "num_layers": 30, "ffn_dim": 8960}, 480, 832, (512, 4096)
    ),
}


@dataclass(frozen=True)
class Case:
    """One row: N candidates, how many per forward; `decode` them, and keep their decoder states or `recompute` one.

    preview: decode all with the preview decoder, and the survivor in full. early: do so after that many steps, and
    finish half of them, which are previewed once more.
    """

    name: str
    candidates: int = 1
    batch: int = 1
    shared: bool = False
    decode: bool = False
    recompute: bool = False
    at: int = SETTLED
    naive: bool = False
    preview: bool = False
    early: int = 0


def build(size: Size, device: str, dtype: torch.dtype) -> WanPipeline:
    torch.manual_seed(0)
    with torch.device(device):
        transformer = WanTransformer3DModel(
            patch_size=(1, 2, 2), in_channels=16, out_channels=16, text_dim=size.text[1], freq_dim=256,
            cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=1024, **size.transformer,
        ).to(dtype).eval()  # fmt: skip
        for name, module in transformer.named_modules():  # as `from_pretrained` keeps them
            if any(part in name for part in WanTransformer3DModel._keep_in_fp32_modules):
                module.float()
        small = {"base_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1} if size.height < 480 else {}
        vae = AutoencoderKLWan(**small).to(dtype).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    return WanPipeline(tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=scheduler)


@dataclass
class Bench:
    """The pipeline, its text and the histories all rows start from."""

    pipe: WanPipeline
    size: Size
    text: torch.Tensor
    weights: Path | None = None  # of the preview decoder
    histories: dict[int, History] = field(default_factory=dict)

    @property
    def device(self) -> str:
        return str(self.text.device.type)

    @contextmanager
    def session(self, *, shared: bool = False) -> Iterator[Any]:
        preview = None if self.weights is None else str(self.weights)
        size = {"height": self.size.height, "width": self.size.width}
        adapter = CausalWanAdapter(**size, shared_prefix=shared, preview=preview)
        # one chunk more than is ever made, so that no measured commit is the cheap last one
        call = {"prompt_embeds": self.text, "num_frames": 4 * 3 * (max(LATE) + 2) - 3}
        opened = adapter.open(self.pipe, call, MemoryPlan())
        try:
            yield opened
        finally:
            opened.close()

    def settle(self, chunks: int) -> None:
        """Histories of 4, 8 and 40 chunks of noise: what a chunk costs does not depend on what it shows."""
        with self.session() as session:
            history = session.root()
            for index in range(chunks):
                latents = session.draw(history, torch.Generator().manual_seed(index))
                history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
                if index + 1 in (SETTLED, *LATE):
                    self.histories[index + 1] = history

    def run(self, case: Case) -> tuple[float, int, float]:
        """Seconds of one chunk, its forwards, and its memory in GiB."""
        if case.naive:
            return self.run_naive(case)
        with self.session(shared=case.shared) as session:
            start, make = self.histories[case.at], previewed_chunk if case.preview else one_chunk
            if case.preview:
                session.preview(start.latents[-1], None)  # reads the weights
            seconds, memory = timed(lambda: make(session, start, case), self.device)
            return seconds, session.forwards, memory

    def run_naive(self, case: Case) -> tuple[float, int, float]:
        search = self.naive()
        cache = search.cache
        search.install()
        seconds, memory = timed(lambda: search.chunk(SETTLED, case.candidates, decode=case.decode), self.device)
        search.close()
        search.held.clear()
        search.cache = cache
        search.latents.pop()
        return seconds, case.candidates * 5, memory

    def naive(self) -> NaiveSearch:
        """One search with a full cache, made when it is first asked for."""
        if "_naive" not in vars(self):
            rows, columns = self.size.height // 8, self.size.width // 8
            rope = Rope.of(self.pipe.transformer.rope, (rows // 2, columns // 2), self.text.device)
            steps = listed((1000, 750, 500, 250), 5.0)
            schedule = type(steps)(steps.timesteps.to(self.text.device), steps.sigmas.to(self.text.device))
            self._naive = NaiveSearch(self.pipe, self.text, rope, schedule, (3, 16, rows, columns))
            self._naive.install()
            for index in range(SETTLED):
                self._naive.chunk(index, 1, decode=False)
            self._naive.close()
            self._naive.held.clear()
        return self._naive


def one_chunk(session: Any, history: History, case: Case) -> History:
    """All candidates of one parent, then the clean pass of the one that survives."""
    generators = [torch.Generator().manual_seed(i) for i in range(case.candidates)]
    waiting: list[tuple[torch.Tensor, Decoded]] = []
    for start in range(0, case.candidates, case.batch):
        group = generators[start : start + case.batch]
        noise = torch.cat([session.draw(history, generator) for generator in group])
        latents = session.generate(history, noise, group)
        decoded = session.decode(history, latents) if case.decode else [Decoded(x.transpose(0, 1)) for x in latents]
        if case.recompute:
            decoded = [replace(each, state=None) for each in decoded]
        waiting += [(latents[i : i + 1], each) for i, each in enumerate(decoded)]
    chosen, decoded_once = waiting[0]
    if case.recompute:
        decoded_once = session.decode(history, chosen)[0]
    return session.commit(history, chosen, decoded_once, "discard")


def previewed_chunk(session: Any, history: History, case: Case) -> History:
    """All candidates of one parent with their previews, then the full decode and the clean pass of the survivor."""
    generators = [torch.Generator().manual_seed(i) for i in range(case.candidates)]
    state = session.preview(history.latents[-1], None)[0].state
    noises = [session.draw(history, generator) for generator in generators]
    shown: list[torch.Tensor] = []
    if case.early:
        drafts = [session.draft(history, *each, case.early)[0] for each in pairs(noises, generators)]
        shown = [session.preview(draft.latents, state)[0].frames for draft in drafts]
        half = range(-(-case.candidates // 2))
        made = [session.finish_drafts(history, [drafts[i]], [generators[i]]) for i in half]
    else:
        made = [session.generate(history, *each) for each in pairs(noises, generators)]
    shown += [session.preview(latents, state)[0].frames for latents in made]
    session.preview(made[0], state)  # for the state behind the survivor
    return session.commit(history, made[0], session.decode(history, made[0])[0], "discard")


def pairs(noises: list[torch.Tensor], generators: list[torch.Generator]) -> Iterator[tuple[Any, list[Any]]]:
    return ((noise, [generator]) for noise, generator in zip(noises, generators, strict=True))


def timed(work: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds, and GiB: CUDA's peak; on a CPU its own seconds, and the growth of the process."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30
    with growth() as grown:
        start = time.process_time()  # one thread: what it worked, however often it had to wait for a core
        work()
        seconds = time.process_time() - start
    return seconds, grown[0] / 2**30


@contextmanager
def growth() -> Iterator[list[int]]:
    """By how many bytes the resident set grew at its highest, seen every 20 ms."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before, done, found = resident(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.02):
            found[0] = max(found[0], resident() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def cases() -> list[Case]:
    widths = (2, 4, 8)
    return [
        Case("plain"),
        *(Case(f"one at a time N={n}", n) for n in widths),
        *(Case(f"batched N={n}", n, n) for n in widths),
        *(Case(f"shared prefix N={n}", n, n, shared=True) for n in widths),
        Case("plain, decoded", decode=True),
        Case("one at a time N=4, decoded", 4, decode=True),
        Case("one at a time N=8, decoded", 8, decode=True),
        Case("one at a time N=8, decoded, park: recompute", 8, decode=True, recompute=True),
        *(Case(f"plain at chunk {at}, decoded", decode=True, at=at) for at in LATE),
        Case("naive N=4", 4, naive=True),
        Case("naive N=4, decoded", 4, decode=True, naive=True),
    ]


def preview_cases() -> list[Case]:
    """Preview scoring and early pruning against full decoding, one survivor."""
    widths = (4, 8, 16)
    return [
        Case("plain, decoded", decode=True),
        *(Case(f"N={n}, decoded", n, decode=True) for n in widths),
        *(Case(f"N={n}, previews", n, decode=True, preview=True) for n in widths),
        *(Case(f"N={n}, previews, half pruned after 1 step", n, decode=True, preview=True, early=1) for n in widths),
    ]


def preview_weights(folder: str) -> Path:
    """A file with random weights in the layout of the public preview decoder: its cost does not depend on them."""
    torch.manual_seed(0)
    file = Path(folder) / "taew2_1.safetensors"
    save_file(TinyDecoder().half().state_dict(), file)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", choices=("all", "previews"), default="all")
    parser.add_argument("--widths", type=int, nargs="*", default=(1, 2, 4, 8, 16), help="of the rows to measure")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size, dtype = SIZES[options.size], torch.bfloat16 if options.device == "cuda" else torch.float32
    text = torch.randn((1, *size.text), device=options.device, dtype=dtype)
    are_previews = options.rows == "previews"
    chosen = [case for case in (preview_cases() if are_previews else cases()) if case.candidates in options.widths]
    with TemporaryDirectory() as folder:
        bench = Bench(build(size, options.device, dtype), size, text, preview_weights(folder))
        bench.settle(SETTLED if are_previews else max(LATE))
        bench.run(Case("warm-up", decode=True))
        samples: dict[Case, list[tuple[float, int, float]]] = {case: [] for case in chosen}
        for number in range(options.rounds):
            for case, found in samples.items():
                found.append(bench.run(case))
                sys.stderr.write(f"round {number + 1}: {case.name}: {1000 * found[-1][0]:.0f} ms\n")
            write(options, samples)  # after every round, so that an interrupted run loses little


def write(options: argparse.Namespace, samples: dict[Case, list[tuple[float, int, float]]]) -> None:
    plain = {case.decode: found for case, found in samples.items() if case.name in ("plain", "plain, decoded")}
    rows = [row(case, found, plain[case.decode]) for case, found in samples.items()]
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()} CPU, 1 thread"
    machine = {"device": name, "torch": torch.__version__, "diffusers": diffusers.__version__, "size": options.size}
    text = json.dumps({"machine": machine, "rounds": len(rows[0]["ms"]), "rows": rows}, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        sys.stdout.write(text + "\n")


def row(case: Case, found: list[tuple[float, int, float]], plain: list[tuple[float, int, float]]) -> dict[str, Any]:
    times, memory = [seconds for seconds, _, _ in found], statistics.median(each for _, _, each in found)
    ratios = [mine / (case.candidates * theirs[0]) for mine, theirs in zip(times, plain, strict=True)]
    return {
        "name": case.name,
        "candidates": case.candidates,
        "ms_per_chunk": round(1000 * statistics.median(times), 1),
        "ms": [round(1000 * seconds, 1) for seconds in times],
        "forwards_per_chunk": found[-1][1],
        "peak_gib": round(memory, 3),
        "time_over_n_plain": round(statistics.median(ratios), 3),
        "time_over_plain": round(case.candidates * statistics.median(ratios), 3),
        "memory_over_plain": round(memory / statistics.median(each for _, _, each in plain), 3),
    }


if __name__ == "__main__":
    main()
