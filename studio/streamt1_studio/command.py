"""`streamt1 studio`. Light to import: the command line shows its help without loading torch or a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamt1_plugins.errors import needs_extra

Folder = Annotated[
    Path, typer.Argument(help="Folder of the runs: takes are recorded in it, and those in it can be opened.")
]
Model = Annotated[
    str | None, typer.Option(help="A folder, a hub id or an adapter's bundled model. Default: as generate.")
]
Adapter = Annotated[str | None, typer.Option(help="Adapter of the model, where its class does not decide.")]
Recipe = Annotated[list[str] | None, typer.Option(metavar="FILE", help="Offer this recipe file too. May be repeated.")]
Host = Annotated[
    str, typer.Option(help="Address to listen on. Any but loopback lets other machines in that have the token.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")]


def studio(
    folder: Folder = Path("runs"),
    model: Model = None,
    adapter: Adapter = None,
    recipe: Recipe = None,
    host: Host = "127.0.0.1",
    port: Port = 8800,
) -> None:
    """Watch a search in the browser, overrule it and change the prompt. Ends with Ctrl-C; open takes are saved."""
    import streamt1_plugins as streamt1

    with needs_extra("studio", "The studio"):
        from streamt1_studio.serving import Served
    from streamt1_studio.studio import Studio

    served = Served(host, port)
    typer.echo("Loading the model ...", err=True)
    made = Studio(streamt1.load(model, adapter=adapter), folder.expanduser(), tuple(recipe or ()))
    try:
        typer.echo(f"The studio is at {served.url} (Ctrl-C ends; runs are in {str(folder)!r})")
        served.run(made)
    finally:
        typer.echo("Saving what is open")
        made.close()
