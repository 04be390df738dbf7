"""The command `serve`: the REST API alone, on this machine.

Words only; routes are `api`'s, the model `stages.serving`'s.
"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sentiment_core.cli import load_model_settings
from sentiment_core.cli.arguments import Model
from sentiment_core.errors import SentimentError

if TYPE_CHECKING:
    from sentiment_core.stages.serving import ModelService

console = Console(highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(serve)


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="H", help="Address to listen on; others than loopback have no login.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="P", min=0, max=65_535, help="Port to listen on; 0: any free one.")
    ] = 8000,
    model: Model = "champion",
) -> None:
    """Answer questions about texts over HTTP, until Ctrl-C: /predict, /predict/batch, /info, /metrics, /docs, ..."""
    from sentiment_core.api import server
    from sentiment_core.api.app import make_app
    from sentiment_core.stages.serving import open_service

    service = open_service(load_model_settings(), model)
    with server.listen(host, port) as bound:  # first: what is taken should show before a model is loaded
        if not server.is_loopback(bound):
            typer.secho("Whoever reaches this address may ask and reload: put TLS and a login in front.", err=True, fg="yellow")
        _load(service, model)
        console.print(f"{_who(service)} at {server.address_of(bound)} (see /docs). Ctrl-C ends it.")
        server.run(make_app(lambda: service), bound)
    console.print("Ended.")


def _load(service: "ModelService", model: str) -> None:
    """Load the model; where there is none, say what to do and go on."""
    with console.status(f"Loading {model}"):
        try:
            service.served()
        except SentimentError as error:
            typer.secho(f"No model to answer with: {error}", err=True, fg="yellow")
            typer.secho("Questions are answered with 503 until there is one; it is looked for again.", err=True, fg="yellow")


def _who(service: "ModelService") -> str:
    served = service.in_memory
    if served is None:
        return "Waiting for a model"
    said = f"Version {served.ref.version} of {served.ref.name} answers"
    return f"{said}, the last known good one (MLflow is away)," if served.ref.is_degraded else said
