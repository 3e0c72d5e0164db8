"""What starting the command line costs, in CPU seconds: commands that only read, and the phases of a short run.

    python tests/benchmarks/startup.py before.json --source OTHER                                # another checkout
    python tests/benchmarks/startup.py docs/evidence/startup_cpu.json --before before.json       # this one beside it

Each command runs in a process of its own, on one thread; of `--rounds` the cheapest counts, because other work on the
machine only adds. The phases of the run end where it prints a line: what the process has used by then is read from
/proc (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "plugins": ["plugins"],
    "plugins --details": ["plugins", "--details"],
    "recipes validate stream-t1": ["recipes", "validate", "stream-t1"],
    "recipes diff stream-t1 beam": ["recipes", "diff", "stream-t1", "beam"],
}
PROMPT = "a red circle moving right on a blue background"
RUN = ["generate", PROMPT, "--num-frames", "21"]
PHASES = ("first chunk", "last line", "exit")
TICK = os.sysconf("SC_CLK_TCK")


def environment(source: Path) -> dict[str, str]:
    parts = [source, source / "adapters", source / "rewards"]
    own = {"PYTHONPATH": os.pathsep.join(map(str, parts)), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **own}


def spent_by(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(arguments: list[str], source: Path) -> float:
    """CPU seconds of a command that only reads."""
    before = children()
    whole = [sys.executable, "-m", "streamt1_plugins", *arguments]
    subprocess.run(whole, env=environment(source), cwd=source, check=True, stdout=subprocess.DEVNULL)
    return children() - before


def phases(source: Path) -> dict[str, float]:
    """CPU seconds of a short run until its first chunk, until its last line, and in all."""
    before, found = children(), {}
    with tempfile.TemporaryDirectory() as folder:
        whole = [sys.executable, "-m", "streamt1_plugins", *RUN, "--out", f"{folder}/run"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(whole, env=environment(source), cwd=source, text=True, **pipes) as running:
            for line in running.stdout:
                if line.startswith(("chunk ", "folder ")):
                    found.setdefault(
                        "last line" if line.startswith("folder ") else "first chunk", spent_by(running.pid)
                    )
    return found | {"exit": children() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", type=Path, default=ROOT)
    parser.add_argument("--before", type=Path, help="A report of another checkout, which the new one then holds too.")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    source = given.source.resolve()
    rows = {name: min(command(each, source) for _ in range(given.rounds)) for name, each in COMMANDS.items()}
    rounds = [phases(source) for _ in range(given.rounds)]
    runs = {name: min(each[name] for each in rounds) for name in PHASES}
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    versions = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    report = {"machine": machine, "versions": versions, "rounds": given.rounds, "commands": rows, "run": runs}
    if given.before:
        report["before"] = json.loads(given.before.read_text(encoding="utf-8"))
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
