"""The bundled model keeps the promises of a causal Wan, whose pipeline it is."""

from __future__ import annotations

from typing import Any, ClassVar

from streamt1_plugins.testing import AdapterContract
from streamt1_tinyworld import model_dir
from streamt1_tinyworld.adapter import TinyWorldAdapter
from tests.adapters.test_contract_wan import CausalWan


class TestTinyWorld(CausalWan, AdapterContract):
    """The whole contract, with fewer denoising steps than the model was trained for."""

    name = "tinyworld"
    long: ClassVar[dict[str, Any]] = {"num_frames": 12 * 9 - 3}

    def make_pipeline(self) -> Any:
        return self.make_adapter().load(model_dir())

    def make_adapter(self) -> TinyWorldAdapter:
        return TinyWorldAdapter(steps=(2, 2))

    def call(self) -> dict[str, Any]:
        return {"prompt": "a red circle moving right", "num_frames": 33, "height": 32, "width": 32}
