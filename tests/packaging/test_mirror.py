"""The tests have the rooms of the package: ``tests/room/test_module.py`` tests ``streamt1_plugins/room/module.py``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT / "streamt1_plugins")
    for path in (ROOT / "streamt1_plugins").rglob("*.py")
    if not path.stem.startswith("__")
)
MISSING = {
    "cli/compare.py",
    "cli/report.py",
    "cli/reward_worker.py",
    "cli/running.py",
    "cli/serve_reward.py",
    "compare/comparison.py",
    "compare/conditions.py",
    "compare/drift.py",
    "compare/forwards.py",
    "compare/pairs.py",
    "compare/plots.py",
    "compare/progress.py",
    "compare/stats.py",
    "compare/table.py",
    "compare/widths.py",
    "evaluation/calls.py",
    "evaluation/inputs.py",
    "evaluation/purity.py",
    "evaluation/remote/client.py",
    "evaluation/remote/process.py",
    "evaluation/remote/server.py",
    "evaluation/remote/wire.py",
    "policies/memory.py",
    "policies/noise.py",
    "policies/scoring.py",
    "policies/selection.py",
    "policies/width.py",
    "runs/checkpoint.py",
    "runs/files.py",
    "runs/observers/console.py",
    "runs/observers/folder.py",
    "runs/observers/journal.py",
    "runs/observers/record.py",
    "runs/observers/report.py",
    "runs/observers/scalars.py",
    "runs/observers/video.py",
    "runs/report/facts.py",
    "runs/report/layout.py",
    "runs/report/memory.py",
    "runs/report/recorded.py",
    "runs/report/strips.py",
    "search/distributed/launch.py",
    "search/distributed/status_board.py",
    "search/distributed/world.py",
    "search/streaming.py",
    "search/thumbnails.py",
}
"""Modules without a test file of their own yet. Remove a line when its test file is there; add none."""


def test_every_module_has_its_test_file() -> None:
    missing = {str(path) for path in MODULES if not (ROOT / "tests" / path.parent / f"test_{path.name}").exists()}
    assert sorted(missing - MISSING) == [], "write tests/ROOM/test_MODULE.py for these"
    assert sorted(MISSING - missing) == [], "these have a test file (or are gone): take them out of MISSING"
