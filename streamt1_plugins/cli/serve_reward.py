"""`streamt1 serve-reward`: an HTTP server of one reward, for runs in other environments or on other machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from streamt1_plugins.cli.base import Threads, echo, takes
from streamt1_plugins.config import yaml12
from streamt1_plugins.errors import RecipeError


@dataclass(frozen=True)
class ServeOptions:
    """Arguments and options of `streamt1 serve-reward`."""

    name: Annotated[str, typer.Argument(help="Name of the reward, as in `streamt1 plugins`.")]
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Any but loopback needs a secret in STREAMT1_REWARD_TOKEN on both sides."
        ),
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8700
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the reward, as YAML.")
    ] = None
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name under which clients call this machine. May be repeated."),
    ] = None
    device: Annotated[str | None, typer.Option(help="Default: cuda where there is one, else cpu.")] = None
    threads: Threads = None
    max_mb: Annotated[int, typer.Option(min=1, help="The largest accepted request, in MiB.")] = 1024


@takes(ServeOptions)
def serve_reward(options: ServeOptions) -> None:
    """Serve a reward over HTTP until Ctrl-C. A recipe uses it with `where: http://127.0.0.1:8700`."""
    given: dict[str, Any] = {}
    for name, value in map(_setting, options.option or ()):
        if name in given:
            raise RecipeError(f"Option {name!r} is given twice: give it once.")
        given[name] = value
    from streamt1_plugins.cli.reward_worker import reward_server
    from streamt1_plugins.cli.running import stoppable
    from streamt1_plugins.process.placement import chosen

    device = chosen(options.device)
    _allow_many_connections()
    with reward_server(options.name, given, device, (options.host, options.port), options.max_mb) as server:
        server.names = (*server.names, *(options.allow_host or ()))
        echo(f"Serving {options.name!r} at {server.url} on {device} (Ctrl-C ends)")
        with stoppable():
            server.run()


def _allow_many_connections() -> None:
    """Let this process open as many files as the system allows it: every connection is one."""
    try:
        import resource
    except ModuleNotFoundError:  # not POSIX, where the limit is another one
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _setting(text: str) -> tuple[str, Any]:
    """Name and value of ``name=value``; the value is YAML, so numbers and lists have their types."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"Option {text!r} is not of the form name=value, e.g. half=0.5.")
    return name.strip(), yaml12.read(value, f"The value in option {text!r}")
