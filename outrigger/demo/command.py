"""`outrigger demo`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

PLAIN_WIDTH = 120
INTERRUPTED = 130


def demo(
    duration: Annotated[
        float, typer.Option(min=7, help="The total time for the seven steps, in seconds.")
    ] = 56,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of a live screen.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Let reviews call ratings over gRPC.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the mesh running at the end.")] = False,
) -> None:
    """Run a mesh on this machine under load: with a canary, a failing replica and a killed control plane."""
    from rich.console import Console

    from outrigger.demo.run import DemoOptions, run_demo
    from outrigger.errors import CommandError

    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    options = DemoOptions(
        duration_s=duration,
        plain=plain or not console.is_terminal,
        json_file=json_file,
        grpc=grpc,
        keep=keep,
    )
    try:
        ok = asyncio.run(run_demo(options, console))
    except FileNotFoundError as error:
        raise CommandError(str(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if ok else 1)
