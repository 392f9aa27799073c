"""`outrigger token`: creates bearer tokens for service accounts where no Kubernetes issues them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from outrigger.errors import CommandError

app = typer.Typer(help="Create tokens with which workloads request certificates.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Makes typer create a command group, although it has one command only."""


@app.command()
def create(
    namespace: Annotated[str, typer.Option(help="The workload's namespace.")],
    service_account: Annotated[str, typer.Option(help="The workload's service account.")],
    state_dir: Annotated[Path, typer.Option(help="The control plane's state folder.")],
    lifetime: Annotated[str, typer.Option(help="The lifetime of the token, such as 24h.")] = "24h",
) -> None:
    """Print a token. The control plane with the same state folder accepts it."""
    from controlplane.ca.tokens import create_token, load_or_create_token_key
    from controlplane.resources.base import parse_duration

    try:
        lifetime_s = parse_duration(lifetime).total_seconds()
    except ValueError as error:
        raise CommandError(f"--lifetime: {error}") from error
    key = load_or_create_token_key(state_dir)
    try:
        print(create_token(key, namespace, service_account, lifetime_s=lifetime_s, now=time.time()))
    except ValueError as error:
        raise CommandError(str(error)) from error
