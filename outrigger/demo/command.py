"""`outrigger demo`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

PLAIN_WIDTH = 120
INTERRUPTED = 130


def demo(
    duration: Annotated[float, typer.Option(min=7, help="Seconds to spend on the seven steps.")] = 56,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live screen.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the mesh running at the end.")] = False,
) -> None:
    """Run a mesh on this machine: a canary, a failing replica, a killed control plane, under load."""
    from rich.console import Console

    from outrigger.demo.run import DemoOptions, run_demo
    from outrigger.errors import CommandError

    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    options = DemoOptions(
        duration_s=duration, plain=plain or not console.is_terminal, json_file=json_file, keep=keep
    )
    try:
        ok = asyncio.run(run_demo(options, console))
    except FileNotFoundError as error:
        raise CommandError(str(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if ok else 1)
