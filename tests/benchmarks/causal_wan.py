"""Cost of the search on causal Wan with random weights: plain against N candidates, each way of running them.

    python tests/benchmarks/causal_wan.py --size mid --out docs/evidence/causal_wan_cpu.json
    python tests/benchmarks/causal_wan.py --size 1.3b --device cuda --out docs/evidence/causal_wan_gpu.json

One process, the same weights, chunks with a full memory only (the first ones are not counted). No rewards: the first
candidate wins. Memory is CUDA's peak, or the peak of live tensors' bytes seen at chunk ends on a CPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

from naive import NaiveSearch
from streamt1_plugins.adapter import Decoded, MemoryPlan
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.rope import Rope
from streamt1_wan.schedule import listed

SETTLED = 4  # chunks until sinks and window are full


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
    "1.3b": Size(
        {"num_attention_heads": 12, "attention_head_dim": 128, "num_layers": 30, "ffn_dim": 8960}, 480, 832, (512, 4096)
    ),
}


@dataclass(frozen=True)
class Case:
    """One row: N candidates, how many per forward, shared prefix or not, with or without decoding."""

    name: str
    candidates: int
    batch: int
    shared: bool = False
    decode: bool = False
    chunks: int = 8


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


def sync(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> float | None:
    """GiB."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None


def measure(pipe: WanPipeline, size: Size, case: Case, text: torch.Tensor) -> dict[str, Any]:
    """ms per settled chunk, forwards per chunk, peak memory."""
    device = str(text.device.type)
    adapter = CausalWanAdapter(height=size.height, width=size.width, shared_prefix=case.shared)
    frames = 4 * 3 * (case.chunks + 1) - 3  # one chunk more, so that no measured commit is the cheap last one
    session = adapter.open(pipe, {"prompt_embeds": text, "num_frames": frames}, MemoryPlan())
    reset_peak(device)
    history, times, forwards = session.root(), [], []
    for index in range(case.chunks):
        before = session.forwards
        sync(device)
        start = time.perf_counter()
        history = one_chunk(session, history, case, index)
        sync(device)
        times.append(time.perf_counter() - start)
        forwards.append(session.forwards - before)
    session.close()
    return row(case, times, forwards[-1], device)


def one_chunk(session: Any, history: Any, case: Case, index: int) -> Any:
    """All candidates of one parent, then the clean pass of the one that survives."""
    generators = [torch.Generator().manual_seed(1000 * index + i) for i in range(case.candidates)]
    kept = None
    for start in range(0, case.candidates, case.batch):
        group = generators[start : start + case.batch]
        noise = torch.cat([session.draw(history, generator) for generator in group])
        latents = session.generate(history, noise, group)
        decoded = session.decode(history, latents) if case.decode else [Decoded(latents[0])]
        kept = kept or (latents[:1], decoded[0])
    return session.commit(history, kept[0], kept[1], "discard")


def measure_naive(pipe: WanPipeline, size: Size, case: Case, text: torch.Tensor) -> dict[str, Any]:
    device = str(text.device.type)
    rows, columns = size.height // 8, size.width // 8
    rope = Rope.of(pipe.transformer.rope, (rows // 2, columns // 2), text.device)
    schedule = listed((1000, 750, 500, 250), 5.0)
    schedule = type(schedule)(schedule.timesteps.to(text.device), schedule.sigmas.to(text.device))
    reset_peak(device)
    search, times = NaiveSearch(pipe, text, rope, schedule, (3, 16, rows, columns)), []
    for index in range(case.chunks):
        sync(device)
        start = time.perf_counter()
        search.chunk(index, case.candidates, decode=case.decode)
        sync(device)
        times.append(time.perf_counter() - start)
    search.close()
    return row(case, times, case.candidates * 5, device)


def row(case: Case, times: list[float], forwards: int, device: str) -> dict[str, Any]:
    settled = times[SETTLED:]
    return {
        "name": case.name,
        "candidates": case.candidates,
        "ms_per_chunk": round(1000 * statistics.median(settled), 1),
        "ms_min_max": [round(1000 * min(settled), 1), round(1000 * max(settled), 1)],
        "ms_first_settled_and_last": [round(1000 * settled[0], 1), round(1000 * settled[-1], 1)],
        "forwards_per_chunk": forwards,
        "peak_gib": peak(device),
        "chunks": case.chunks,
    }


def cases(device: str) -> list[Case]:
    widths = (2, 4, 8)
    rows = [Case("plain", 1, 1)]
    rows += [Case(f"one at a time N={n}", n, 1) for n in widths]
    rows += [Case(f"batched N={n}", n, n) for n in widths]
    rows += [Case(f"shared prefix N={n}", n, n, shared=True) for n in widths]
    rows += [Case("plain, decoded", 1, 1, decode=True), Case("one at a time N=4, decoded", 4, 1, decode=True)]
    return [*rows, Case("plain, 40 chunks, decoded", 1, 1, decode=True, chunks=40)] if device == "cuda" else rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    size = SIZES[options.size]
    torch.set_num_threads(1)
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    pipe = build(size, options.device, dtype)
    text = torch.randn((1, *size.text), device=options.device, dtype=dtype)
    rows: list[dict[str, Any]] = []
    measure(pipe, size, Case("warm-up", 1, 1, decode=True, chunks=2 + SETTLED), text)
    for case in cases(options.device):
        keep(rows, measure(pipe, size, case, text), options)
    for decode in (False, True):
        naive = Case("naive N=4" + (", decoded" if decode else ""), 4, 1, decode=decode, chunks=6)
        keep(rows, measure_naive(pipe, size, naive, text), options)


def keep(rows: list[dict[str, Any]], found: dict[str, Any], options: argparse.Namespace) -> None:
    """Write after every row, so that an interrupted run loses nothing."""
    rows.append(found)
    plain = next(
        r["ms_per_chunk"] for r in rows if r["name"] == ("plain, decoded" if "decoded" in found["name"] else "plain")
    )
    found["time_over_n_plain"] = round(found["ms_per_chunk"] / (found["candidates"] * plain), 3)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()} CPU, 1 thread"
    machine = {"device": name, "torch": torch.__version__, "diffusers": diffusers.__version__, "size": options.size}
    if options.out:
        options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
