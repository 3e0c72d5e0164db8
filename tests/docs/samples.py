"""Samples of the command line in the documentation: blocks of commands whose output is written by running them.

    python tests/docs/samples.py     # rewrites what is stale

A sample is a console block below ``<!-- sample -->``. Each line that begins with ``$ `` is run, in order, in one empty
folder; the lines below it are its output. ``<!-- sample: COMMANDS -->`` runs commands first that are not shown, and
``<!-- slow sample -->`` marks a block that takes a while. Two outputs are the same if they differ in seconds only, or
in the last digit of a number.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"<!-- (slow )?sample(?:: (.*?))? -->\n```console\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"(\d+\.\d+)( m?s\b)?")


@dataclass(frozen=True)
class Sample:
    """A block of a page."""

    page: Path
    setup: str
    text: str
    is_slow: bool

    @property
    def commands(self) -> list[str]:
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]

    def run(self) -> str:
        """The block as running its commands writes it."""
        with tempfile.TemporaryDirectory() as folder:
            shell(self.setup, folder)
            return "".join(f"$ {command}\n{shell(command, folder)}" for command in self.commands)


def shell(command: str, folder: str) -> str:
    """What a command prints, without colors and trailing blanks."""
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{sysconfig.get_path('scripts')}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("STREAMT1_", "FORCE_COLOR"))
    }
    environment |= {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", "TERMINAL_WIDTH": "100"}
    environment |= {"COLUMNS": "100", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)


def samples() -> Iterator[Sample]:
    """The samples of all pages."""
    for page in PAGES:
        for slow, setup, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            yield Sample(page, setup, text, bool(slow))


def same(one: str, other: str) -> bool:
    """Whether two outputs agree up to seconds and last digits."""
    if NUMBER.sub("", one) != NUMBER.sub("", other):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(bool(unit) or abs(float(a) - float(b)) < 0.0051 for (a, unit), (b, _) in pairs)


def main() -> None:
    """Rewrite the samples that are stale."""
    for sample in samples():
        found = sample.run()
        if not same(sample.text, found):
            text = sample.page.read_text(encoding="utf-8")
            sample.page.write_text(text.replace(sample.text, found), encoding="utf-8")
            sys.stdout.write(f"{sample.page.relative_to(ROOT)}: {sample.commands[0]}\n")


if __name__ == "__main__":
    main()
