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
    "api/adapter.py",
    "api/candidate.py",
    "api/hookspecs.py",
    "api/image_reward.py",
    "api/register.py",
    "api/reward.py",
    "api/run.py",
    "api/workers.py",
    "cli/base.py",
    "cli/batch.py",
    "cli/generate.py",
    "cli/plugins.py",
    "cli/recipes.py",
    "cli/reward_worker.py",
    "cli/serve_reward.py",
    "config/rewards.py",
    "config/schema.py",
    "evaluation/calls.py",
    "evaluation/inputs.py",
    "evaluation/purity.py",
    "plugins/resolve.py",
    "plugins/run_hooks.py",
    "policies/memory.py",
    "policies/noise.py",
    "policies/scoring.py",
    "policies/selection.py",
    "policies/width.py",
    "search/distributed/launch.py",
    "search/distributed/status_board.py",
    "search/distributed/world.py",
    "search/streaming.py",
    "search/thumbnails.py",
    "testing/adapter.py",
    "testing/adapter_case.py",
    "testing/state.py",
}
"""Modules without a test file of their own yet. Remove a line when its test file is there; add none."""


def test_every_module_has_its_test_file() -> None:
    missing = {str(path) for path in MODULES if not (ROOT / "tests" / path.parent / f"test_{path.name}").exists()}
    assert sorted(missing - MISSING) == [], "write tests/ROOM/test_MODULE.py for these"
    assert sorted(MISSING - missing) == [], "these have a test file (or are gone): take them out of MISSING"
