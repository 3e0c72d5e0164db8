"""What the search relies on in every adapter, as tests to inherit.

class TestMine(AdapterContract):
    name = "mine"
    long: ClassVar = {"num_frames": 97}

    def make_pipeline(self): return tiny_pipeline()
    def make_adapter(self): return MyAdapter()
    def call(self): return {"prompt": "a red circle", "num_frames": 33}
"""

from __future__ import annotations

from streamt1_plugins.testing.adapter_arguments import AdapterArguments
from streamt1_plugins.testing.adapter_lifecycle import AdapterLifecycle
from streamt1_plugins.testing.adapter_numerics import AdapterNumerics


class AdapterContract(AdapterNumerics, AdapterArguments, AdapterLifecycle):
    """What the search relies on, one test per promise; see `AdapterCase` for what to give it.

    A further variant of the same adapter (guidance, an image to start from) repeats `AdapterNumerics` alone.
    """
