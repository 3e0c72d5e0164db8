"""A plugin that teaches streamt1 a new pipeline. Importing it imports no torch: discovery stays fast."""

from streamt1_plugins import hookimpl


@hookimpl
def streamt1_register_adapters(register):
    register(
        "rolling",
        pipelines=("RollingPipeline",),
        target="streamt1_example_adapter.adapter:RollingAdapter",
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
