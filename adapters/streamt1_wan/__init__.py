"""Causal Wan: chunk-wise, KV-cached sampling of Wan2.1-style models (Self-Forcing, CausVid, LongLive and kin)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import Capabilities
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.routed_memory import FURTHER, PAPER

if TYPE_CHECKING:
    import typer

    from streamt1_plugins.api.register import RegisterAdapter


CAPABILITIES = Capabilities(
    max_batch=None,
    routes=PAPER | FURTHER,
    decode="carried",
    noise_stream="per_chunk",
    stochastic_steps=False,
)


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `wan`. A causal checkpoint looks like a bidirectional one, so `wan` always has to be named."""
    register(
        "wan",
        pipelines=("WanPipeline",),
        target="streamt1_wan.adapter:CausalWanAdapter",
        capabilities=CAPABILITIES,
        explicit="a causal Wan checkpoint has the same config as a bidirectional one, so it cannot be recognised.",
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )


@hookimpl
def streamt1_add_commands(cli: typer.Typer) -> None:
    """Add `streamt1 convert`."""
    from streamt1_wan.command import convert

    cli.command()(convert)
