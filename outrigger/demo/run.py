"""Runs the demo from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from outrigger.demo.figures import Check, StepFigures
from outrigger.demo.load import Load
from outrigger.demo.mesh import Mesh
from outrigger.demo.observe import ejected
from outrigger.demo.processes import ProcessError, Processes
from outrigger.demo.screen import Screen
from outrigger.demo.steps import STEPS, Stage, check_grpc, check_hops

RATE_PER_S = 50.0
WATCH_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """`duration_s` is divided between the steps; startup and convergence need additional time."""

    duration_s: float
    plain: bool
    json_file: Path | None
    grpc: bool
    keep: bool


async def run_demo(options: DemoOptions, console: Console) -> bool:
    """Runs the demo and returns whether all checks passed. SIGTERM and SIGHUP (of a closed terminal) cancel
    it like Ctrl-C, and all child processes are stopped."""
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    screen = Screen(console, live=not options.plain)
    with tempfile.TemporaryDirectory(prefix="outrigger-demo-") as folder:
        run_dir = Path(folder)
        async with (
            httpx.AsyncClient(trust_env=False, timeout=5) as client,
            Processes(run_dir / "logs") as processes,
        ):
            mesh = Mesh(run_dir, processes, client, grpc=options.grpc)
            try:
                ok, figures = await _run(mesh, screen, options)
            except (ProcessError, TimeoutError, httpx.HTTPError) as error:
                _explain(console, mesh, error)
                return False
            if options.json_file is not None:
                options.json_file.write_text(json.dumps(figures, indent=2) + "\n")
            if options.keep:
                await _keep(console, mesh)
            return ok


async def _run(mesh: Mesh, screen: Screen, options: DemoOptions) -> tuple[bool, dict[str, Any]]:
    screen.say(f"Starting a control plane and {len(mesh.pods)} pods in {mesh.run_dir} …")
    await mesh.start()
    screen.say(f"The resource folder is {mesh.config_dir}; the logs are in {mesh.run_dir}/logs.")
    load = Load(mesh.url, rate_per_s=RATE_PER_S)
    stage = Stage(mesh=mesh, load=load, length_s=options.duration_s / len(STEPS))
    steps: list[StepFigures] = []
    with screen.running(load.results, total=len(STEPS)):
        watching = asyncio.create_task(_watch(mesh, screen), name="demo-watch")
        sending = asyncio.create_task(load.run(), name="demo-load")
        try:
            for number, (title, step) in enumerate(STEPS, start=1):
                figures = StepFigures(number=number, title=title)
                steps.append(figures)
                screen.begin(figures)
                try:
                    await step(stage, figures)
                except TimeoutError as error:
                    figures.checks.append(Check("the step completed", ok=False, detail=str(error)))
                screen.end(figures)
        finally:
            for task in (watching, sending):
                task.cancel()
            await asyncio.gather(watching, sending, return_exceptions=True)
    hops = await check_hops(mesh)
    if options.grpc:
        hops += await check_grpc(mesh)
    failed = len(load.results.failed())
    screen.summary(steps, hops, failed=failed, requests=len(load.results))
    ok = not failed and all(figures.ok for figures in steps) and all(check.ok for check in hops)
    return ok, {
        "ok": ok,
        "requests": len(load.results),
        "failed": failed,
        "steps": [figures.as_json() for figures in steps],
        "hops": [{"what": check.what, "ok": check.ok, "detail": check.detail} for check in hops],
    }


async def _watch(mesh: Mesh, screen: Screen) -> None:
    """Updates the figures of the live screen that are read from the processes."""
    names = {pod.ports.inbound: pod.name for pod in mesh.pods}
    while True:
        with contextlib.suppress(httpx.TransportError):
            out = await ejected(mesh.client, mesh.entry.ports.admin)
            screen.ejected = sorted(names[port] for port in out if port in names)
            screen.hops = await check_hops(mesh)
        await asyncio.sleep(WATCH_INTERVAL_S)


async def _keep(console: Console, mesh: Mesh) -> None:
    console.print("\nThe mesh keeps running; Ctrl-C ends it.")
    for name, address in mesh.addresses().items():
        console.print(f"  {name:32} {address}", highlight=False, soft_wrap=True)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def _explain(console: Console, mesh: Mesh, error: Exception) -> None:
    """Prints the error and the last log lines of each process, because the logs are deleted with the run's
    folder."""
    console.print(f"[red]The demo failed:[/] {error}", highlight=False, soft_wrap=True)
    for log in sorted((mesh.run_dir / "logs").glob("*.log")):
        lines = mesh.processes.last_lines(log.stem)
        if lines:
            console.print(f"{log.stem}:\n{lines}", highlight=False, markup=False)
