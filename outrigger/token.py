"""`outrigger token`: bearer tokens that prove a service account where there is no Kubernetes to make them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from outrigger.errors import CommandError

app = typer.Typer(help="Make tokens with which workloads ask for certificates.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group, though it has one command so far."""


@app.command()
def create(
    namespace: Annotated[str, typer.Option(help="The workload's namespace.")],
    service_account: Annotated[str, typer.Option(help="The service account it runs as.")],
    state_dir: Annotated[Path, typer.Option(help="The control plane's --state-dir.")],
    lifetime: Annotated[str, typer.Option(help="How long the token is good for, such as 24h.")] = "24h",
) -> None:
    """Print a token that the control plane with the same state folder accepts."""
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
