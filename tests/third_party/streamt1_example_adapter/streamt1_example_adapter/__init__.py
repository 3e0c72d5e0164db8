"""A plugin that teaches streamt1 a new pipeline. Importing it imports no torch: discovery stays fast."""

from streamt1_plugins import Capabilities, hookimpl

CAPABILITIES = Capabilities(
    max_batch=None,  # candidates of one history may be denoised together
    routes=frozenset(),  # no KV memory to route
    decode="carried",  # the decoder continues from a state
    noise_stream="per_chunk",  # the plain pipeline draws noise chunk by chunk
    stochastic_steps=False,  # denoising draws nothing
    refusals=dict.fromkeys(("early_pruning", "cost_estimate", "memory_estimate"), "it is only a toy"),
)


@hookimpl
def streamt1_register_adapters(register):
    register(
        "rolling",
        pipelines=("RollingPipeline",),
        target="streamt1_example_adapter.adapter:RollingAdapter",
        capabilities=CAPABILITIES,
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
