"""The tables of docs/benchmarks.md, docs/search.md and docs/evidence/README.md from committed results.

python tests/benchmarks/tables.py      # writes them into the pages
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from streamt1_plugins.compare import table as comparison
from streamt1_plugins.compare.run import read

ROOT = Path(__file__).parents[2]
EVIDENCE, PAGE = ROOT / "docs" / "evidence", ROOT / "docs" / "benchmarks.md"
STORIES = (EVIDENCE / "README.md", EVIDENCE / "teacher.md", ROOT / "docs" / "search.md")
"""Pages with blocks ``<!-- compared FOLDER -->``, a comparison of docs/evidence, or ``... over RECIPE -->``."""
TABLES = ("causal_wan_gpu", "causal_wan_cpu")
CHUNK_SECONDS = 12 / 16  # of video
METRICS = (
    "after_cut",
    "settled_in",
    "returned",
    "persistence",
    "jerk",
    "size_drift",
    "colour_drift",
    "background_drift",
)
"""Beside the score, in the tables of comparisons, as far as they were measured."""


def report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EVIDENCE / f"{name}.json").read_text(encoding="utf-8"))
    return found


def table(name: str) -> str:
    """One report as Markdown."""
    found, gpu = report(name), name.endswith("gpu")
    memory = "peak GiB" if gpu else "growth, GiB"
    time = "ms per chunk" if gpu else "CPU s per chunk"
    lines = [
        machine(found),
        "",
        f"| row | forwards | {time} | time / (N x plain) | {memory} |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        value = f"{row['ms_per_chunk']:.0f}" if gpu else f"{row['ms_per_chunk'] / 1000:.2f}"
        cells = (
            row["name"],
            row["forwards_per_chunk"],
            value,
            f"{row['time_over_n_plain']:.2f}",
            f"{row['peak_gib']:.2f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def machine(found: dict[str, Any]) -> str:
    """Where and with what the numbers were taken."""
    known = found["machine"]
    rounds = f", {found['rounds']} rounds" if "rounds" in found else ""
    return f"{known['device']}, torch {known['torch']}, diffusers {known['diffusers']}, size `{known['size']}`{rounds}."


def speed() -> str:
    """Frames per second of video on the GPU, with and without the VAE."""
    rows = {row["name"]: row["ms_per_chunk"] for row in report("causal_wan_gpu")["rows"]}
    lines = ["| | without VAE | with VAE |", "|---|---|---|"]
    for label, name in (("plain", "plain"), ("search, 4 candidates per chunk", "one at a time N=4")):
        cells = [f"{12000 / rows[key]:.1f}" for key in (name, f"{name}, decoded")]
        lines.append(f"| {label}, frames of video per second | {' | '.join(cells)} |")
    return "\n".join(lines)


def startup() -> str:
    """CPU seconds of starting the command line, before and now."""
    found = report("startup_cpu")
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    cores, rounds = found["machine"]["cores"], found["rounds"]
    lines = [f"{cores} CPU cores, {versions}, the cheapest of {rounds} rounds.", ""]
    lines += ["| CPU s | before | now |", "|---|---|---|"]
    rows = {f"`streamt1 {name}`": ("commands", name) for name in found["commands"]}
    rows |= {f"`streamt1 generate`, 2 chunks, until {name}": ("run", name) for name in found["run"]}
    for label, (part, name) in rows.items():
        lines.append(f"| {label} | {found['before'][part][name]:.2f} | {found[part][name]:.2f} |")
    return "\n".join(lines)


def previews(name: str) -> str:
    """Cost and quality of preview scoring on a bundled model."""
    found = report(name)["summary"]
    lines = [
        "| candidates x survivors | videos | CPU s / plain | latent frames decoded | forwards "
        "| score, less that of full frames |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        if name != "agreement":
            gain = f"{row['score_over_carried']:+.3f} ± {row['standard_error']:.3f}" if "standard_error" in row else ""
            counts = (row["latent_frames_decoded"], row["forwards"])
            cells = (name, row["videos"], f"{row['cpu_over_plain']:.2f}", *counts, gain)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def targets() -> str:
    """What was aimed at, beside what was measured or computed."""
    lines = ["| figure | goal | full frames, one by one | now |", "|---|---|---|---|", *search_targets()]
    share = report("previews_student")["share"]["denoising"]
    lines.append(f"| share of denoising in the time of a search of 40 chunks x 16 | 60 % | | {share:.0%} |")
    memory = {row["name"]: row["memory_over_plain"] for row in report("previews_wan_cpu")["rows"]}
    full, cheap = (memory[name] for name in ("N=8, decoded", "N=8, previews"))
    lines.append(f"| memory, 8 candidates / plain, middle-sized causal Wan | 1.3 | {full:.2f} | {cheap:.2f} |")
    row, *_ = [line for line in computed().splitlines() if line.startswith("| 8 |")]
    whole, _, early = [cell.strip() for cell in row.strip("| ").split("|")][1:]
    lines.append(
        f"| 1.3B on an H100, 8 candidates pruned early / plain, ms per chunk, computed | 3.2 | {whole} | {early} |"
    )
    waited = {row["name"]: row["waited_share"] for row in report("observers_cpu")["rows"]}["together"]
    lines.append(f"| observers / whole run, 40 chunks x 8, waited for | 3 % | | {waited:.1%} |")
    started = report("startup_cpu")["run"]["first chunk"]
    lines.append(f"| from the shell to the first chunk, its candidates included, CPU s | 3 | | {started:.1f} |")
    return "\n".join(lines)


def search_targets() -> list[str]:
    """Rows of searches on the bundled student: CPU seconds over those of the plain video, and quality."""
    found, lines = report("previews_student")["summary"], []
    for size, goal in (("2x2", "2.5"), ("4x1", "2.5"), ("4x2", "3.5"), ("8x1", "3.5")):
        names = [f"{size} {kind}" for kind in ("previews", "previews batch", "previews early")]
        cells = [f"{found[name]['cpu_over_plain']:.2f} {name.removeprefix(size).strip()}" for name in names]
        label = f"{size} / plain, CPU s, rewards included, 5 s, bundled model"
        lines.append(f"| {label} | {goal} | {found[size]['cpu_over_plain']:.2f} | {', '.join(cells)} |")
    return lines


def agreement() -> str:
    """How alike the scores of previews and of full frames are."""
    found = report("previews")["summary"]["agreement"]
    return (
        f"{found['videos']} videos: rank correlation {found['spearman']:.2f} on average, "
        f"{found['survivors_in_common']:.0%} of the survivors are the same; early pruning at a quarter of the steps "
        f"finishes {found['survivors_finished_in_chunk_0']:.0%} of the first chunk's survivors."
    )


def preview_rows(name: str) -> str:
    """Preview scoring on a causal Wan with random weights: what a chunk takes over a plain, decoded one."""
    found = report(name)
    lines = [
        machine(found),
        "",
        "| row | forwards | CPU s per chunk | time / plain | growth / plain |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        cells = (
            row["name"],
            row["forwards_per_chunk"],
            f"{row['ms_per_chunk'] / 1000:.2f}",
            f"{row['time_over_plain']:.2f}",
            f"{row['memory_over_plain']:.2f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def computed() -> str:
    """Milliseconds per chunk at 1.3B on an H100 for N candidates and one survivor, from the measured parts.

    A preview is taken to cost a tenth of a decode, and the survivor's is made twice.
    """
    rows: dict[str, Any] = {row["name"]: row for row in report("causal_wan_gpu")["rows"]}
    forward = rows["one at a time N=8"]["ms_per_chunk"] / rows["one at a time N=8"]["forwards_per_chunk"]
    plain, decode = (rows[name]["ms_per_chunk"] for name in ("plain, decoded", "plain"))
    decode = plain - decode
    lines = ["| N | full | previews | previews, half pruned after 1 of 4 steps |", "|---|---|---|---|"]
    for count in (4, 8, 16):
        full = count * (4 * forward + decode) + forward
        preview = count * (4 * forward + decode / 10) + forward + 1.1 * decode
        early = count * forward + count / 2 * 3 * forward + 1.5 * count * decode / 10 + forward + 1.1 * decode
        cells = [f"{each:.0f} ({each / plain:.1f})" for each in (full, preview, early)]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def observers() -> str:
    """What recording a run costs, by observer."""
    found = report("observers_cpu")
    known, before = found["machine"], report("observers_cpu_before")
    shares = {row["name"]: row for row in before["rows"]}
    lines = [
        f"{known['device']}, {known['threads']} thread, torch {known['torch']}: {found['chunks']} chunks, "
        f"{found['candidates']} candidates.",
        "",
        "| observer | waited, s | of the run | CPU s | of the run | before: waited | before: CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        own = shares[row["name"]]
        cells = [
            f"{row['waited_s']:.2f}",
            f"{row['waited_share']:.1%}",
            f"{row['cpu_s']:.2f}",
            f"{row['cpu_share']:.1%}",
        ]
        cells += [f"{own['waited_share']:.1%}", f"{own['cpu_share']:.1%}"]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def filled(text: str) -> str:
    """The page with every block between its markers made anew."""
    blocks = {
        **{name: table(name) for name in TABLES},
        "speed": speed(),
        "previews": previews("previews"),
        "previews_student": previews("previews_student"),
        "targets": targets(),
        "observers": observers(),
        "startup": startup(),
    }
    blocks |= {
        "previews_wan_cpu": preview_rows("previews_wan_cpu"),
        "previews_gpu": computed(),
        "agreement": agreement(),
    }
    return replaced(text, blocks)


def story(text: str) -> str:
    """A page with its tables of comparisons made anew."""
    blocks = re.findall(r"<!-- (compared (\w+)(?: over ([\w-]+))?) -->", text)
    return replaced(text, {block: compared(folder, base) for block, folder, base in blocks})


def compared(folder: str, base: str = "") -> str:
    """One comparison, a line per recipe: score, gain, regret and cost. All metrics are in the folder's summary.md."""
    rows = read(EVIDENCE / folder)
    found = comparison.summary(sorted(rows, key=lambda row: row["recipe"] != base))
    metrics = [each for each in METRICS if any(each in row["judge"] for row in rows)]
    names = [each.replace("_", " ") for each in metrics]
    regrets = (found.get("regret") or {"recipes": {}})["recipes"]
    regret = ["regret (95 %)"] * bool(regrets)
    titles = ("recipe", "score", f"gain over {found['base']} (95 %)", *regret, "forwards", "CPU s", *names)
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name in dict.fromkeys(row["recipe"] for row in rows):
        row = found["recipes"][name]
        score = row["metrics"]["score"]
        gain = "" if score["gain"] is None else interval(score["gain"])
        title = f"`{name}`, which sees the judge" if name in (found.get("oracle") or ()) else f"`{name}`"
        cells = [title, f"{score['mean']['mean']:.3f}", gain]
        cells += [interval(regrets[name]["regret"]) if name in regrets else ""] * bool(regrets)
        cells += [f"{row['cost']['forwards']:g}", f"{row['cost']['cpu_seconds']:.2f}"]
        means = (row["metrics"][each]["mean"]["mean"] for each in metrics)
        lines.append(f"| {' | '.join([*cells, *(f'{mean:.3g}' for mean in means)])} |")
    return "\n".join(lines)


def interval(found: dict[str, float]) -> str:
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def replaced(text: str, blocks: dict[str, str]) -> str:
    """The text with these blocks between their markers."""
    for name, block in blocks.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, block=block: f"{m[1]}{block}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"There are {count} places for {name}")
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for page in STORIES:
        page.write_text(story(page.read_text(encoding="utf-8")), encoding="utf-8")
