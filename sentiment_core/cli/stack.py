"""`sentiment up`, `down`, `status`, `doctor`: the embedded stack, for a person and for programs."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sentiment_core.cli.arguments import Json

if TYPE_CHECKING:
    from rich.status import Status

    from sentiment_core.local.stack import ComponentStatus, LocalStack

# Lines of their own are as long as they are: a path or an address is to be copied.
console = Console(highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (up, down, status, doctor):
        app.command()(command)


def up() -> None:
    """Start the embedded stack (PostgreSQL, S3, MLflow, Airflow); heals one that runs in part."""
    stack = bring_up()
    addresses = stack.addresses()
    console.print(f"Airflow   {addresses['airflow_url']}   user admin, password: {_password_hint(stack)}")
    console.print(f"MLflow    {addresses['mlflow_tracking_uri']}")
    console.print("Stop it with `make down`; look at it with `make status`.")


def bring_up() -> "LocalStack":
    """Start what does not run, saying what is waited for; gives the running stack."""
    from sentiment_core.local.stack import LocalStack

    stack = LocalStack()
    began = time.monotonic()
    ready: set[str] = set()
    is_first_look = True
    with console.status("Starting the stack") as spinner:
        for found in stack.up(on_wait=console.print):
            if is_first_look and all(item.healthy for item in found):
                console.print("The stack is up.")
                return stack
            is_first_look = False
            _say_progress(found, ready, began, spinner)
    console.print(f"The stack is up after {time.monotonic() - began:.0f} s.")
    return stack


def _say_progress(found: "Sequence[ComponentStatus]", ready: set[str], began: float, spinner: "Status") -> None:
    for item in found:
        if item.healthy and item.component not in ready:
            ready.add(item.component)
            console.print(f"  {time.monotonic() - began:3.0f} s  {item.component} is ready")
    left = [f"{item.component} ({item.detail})" for item in found if not item.healthy]
    if left:
        spinner.update(escape(f"waiting for {', '.join(left)}"[: max(20, console.width - 4)]))


def down() -> None:
    """Stop everything the stack of this clone has started; data stays."""
    from sentiment_core.local.stack import LocalStack

    began = time.monotonic()
    with console.status("Stopping the stack"):
        ran = LocalStack().down(on_wait=console.print)
    if ran:
        console.print(f"Stopped {', '.join(reversed(ran))} in {time.monotonic() - began:.0f} s; all data is kept in .local.")
    else:
        console.print("Nothing was running.")


def status(*, as_json: Json = False) -> None:
    """Show every component: pid, port, health, address. Exit status 1 when one is not healthy."""
    from sentiment_core.local.stack import LocalStack

    stack = LocalStack()
    found = stack.status()
    if as_json:
        typer.echo(json.dumps({"components": [asdict(item) for item in found], **stack.addresses()}, indent=2))
    else:
        _print_status(stack, found)
    if not all(item.healthy for item in found):
        raise typer.Exit(1)


def _print_status(stack: "LocalStack", found: "Sequence[ComponentStatus]") -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("component", "pid", "port", "healthy", "url"):
        table.add_column(column, justify="right" if column in ("pid", "port") else "left", no_wrap=True)
    for item in found:
        healthy = "[green]yes[/green]" if item.healthy else "[red]no[/red]"
        table.add_row(item.component, str(item.pid or "-"), str(item.port or "-"), healthy, item.url or "-")
    console.print(table)
    for item in found:
        if item.pid and not item.healthy:
            console.print(f"{item.component}: {item.detail}", markup=False)
    if all(item.healthy for item in found):
        console.print(f"\nThe UI's users are admin and viewer; passwords: {_password_hint(stack)}")
    elif any(item.pid for item in found):
        console.print("\nNot all is well: `make up` starts what is missing; `sentiment doctor` says what is off.")
    else:
        console.print("\nThe stack is not running: start it with `make up`.")


def _password_hint(stack: "LocalStack") -> str:
    path = stack.directory.path / "airflow" / "passwords.json"
    try:
        return str(path.relative_to(stack.repository))
    except ValueError:
        return str(path)


def doctor(*, as_json: Json = False) -> None:
    """Check every connection, the schema, the model and the DAGs, and say how to mend what is off."""
    from sentiment_core.cli import load_settings
    from sentiment_core.local.doctor import examine
    from sentiment_core.local.stack import LocalStack

    findings = []
    for finding in examine(LocalStack(), load_settings()):
        findings.append(finding)
        if not as_json:
            console.print("[green]ok [/green]" if finding.is_ok else "[red]off[/red]", end=" ")
            console.print(f"{finding.thing}: {finding.found}", markup=False)
            if not finding.is_ok:
                console.print(f"    to mend it: {finding.remedy}", markup=False)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if not all(finding.is_ok for finding in findings):
        raise typer.Exit(1)
