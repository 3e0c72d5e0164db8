"""All the tests an adapter needs: inherited."""

from typing import ClassVar

from streamt1_example_adapter.adapter import RollingAdapter
from streamt1_example_adapter.pipeline import RollingPipeline

from streamt1_plugins.testing import AdapterContract


class TestRolling(AdapterContract):
    name = "rolling"
    long: ClassVar = {"num_chunks": 12}
    output_types = ("latent", "pt", "np")

    def make_pipeline(self):
        return RollingPipeline()

    def make_adapter(self):
        return RollingAdapter()

    def call(self):
        return {"prompt": "a red circle", "num_chunks": 4}
