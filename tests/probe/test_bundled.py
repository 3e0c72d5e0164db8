"""The probe on the bundled models, whose memories have more routes than those of the toy models."""

from __future__ import annotations

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.probe.run import probe_model

FEW = streamt1.ProbeOptions(candidates=4, pairs=1, chunks=2, decays=())
SMALL = {"num_frames": 45, "height": 32, "width": 32}
SHORT_MEMORY = ["sinks.sink_chunks=1", "sinks.window_chunks=1"]


@pytest.mark.parametrize(
    ("model", "starts_from_noise"), [("tinyworld", False), ("tinyworld-student", True)], ids=["teacher", "student"]
)
def test_a_bundled_model_is_probed_with_every_route(model: str, starts_from_noise: bool) -> None:
    """Its teacher ignores the initial noise, which a student's first step turns into a video."""
    pipe = streamt1.load(model, overrides=SHORT_MEMORY)
    found = probe_model(pipe, ["a red circle moving right slowly on a blue background"], options=FEW, **SMALL)
    routes = set(found.findings.route_names)
    assert routes > {"discard", "ema", "append"}
    assert {name.partition(" ")[0] for name in found.findings.routes} == routes - {"discard"}
    assert all(each.effect.mean > 0 for each in found.findings.routes.values())
    assert set(found.findings.rewards) == {"short.basic", "long.tinyalign"}
    assert (found.findings.shares["first"]["initial"].mean > 0.001) is starts_from_noise
    assert found.recipe.search.candidates == pipe.recipe.search.candidates  # one prompt changes nothing
