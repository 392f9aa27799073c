"""The soak: traffic of every kind, changes of every kind, then silence, and the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any

from tests.soak import checks
from tests.soak.clients import KINDS, Client
from tests.soak.mesh import Mesh, running_mesh
from tests.soak.modes import Mode
from tests.soak.outcome import Outcomes

CLIENTS_OF_A_KIND = 3
CHANGE_EVERY_S = 0.5
# A sidecar reads the files of its certificates again every 5 s.
ROTATE_EVERY_S = 15.0
QUIET_WITHIN_S = 60.0
"""Idle connections close after 2 s, drained listeners after 10 s: far more than all of that."""
SPARE_DESCRIPTORS = 4
"""Between two measurements, one may see a connection of the admin port that the other does not."""


@dataclass(slots=True, kw_only=True)
class Report:
    """`violations` are what must not be; the rest says what happened. Memory is by node, in bytes, once a
    second."""

    seed: int
    seconds: float
    outcomes: Outcomes = field(default_factory=Outcomes)
    changes: int = 0
    memory: dict[str, list[int]] = field(default_factory=dict)
    descriptors: dict[str, list[int]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return own | {
            "outcomes": {each.name: getattr(self.outcomes, each.name) for each in fields(self.outcomes)}
        }


Progress = Callable[[Report, float], None]


async def soak(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    concurrency: int,
    progress: Progress = lambda report, now_s: None,
) -> Report:
    """`folder` gets the files and the logs of the sidecars, and the log of all changes, ``changes``. Each
    sidecar has `concurrency` workers."""
    rng = Random(seed)
    report = Report(seed=seed, seconds=seconds)
    async with running_mesh(folder, rng, "--concurrency", str(concurrency)) as mesh:
        for node, sidecar in mesh.sidecars.items():
            report.memory[node] = []
            report.descriptors[node] = [await asyncio.to_thread(checks.open_descriptors, sidecar)]
        await _run_for(seconds, mesh, rng, report, folder / "changes", progress)
        await _calm(mesh)
        await _judge(mesh, report)
    return report


async def _run_for(
    seconds: float, mesh: Mesh, rng: Random, report: Report, changes: Path, progress: Progress
) -> None:
    begin_s = time.monotonic()

    def now_s() -> float:
        return time.monotonic() - begin_s

    stopping = asyncio.Event()
    # Not `rng`: the order in which clients ask depends on the machine, and changes must not depend on that.
    client = Client(mesh.ports, Random(report.seed), report.outcomes, now_s)
    async with asyncio.TaskGroup() as tasks:
        for kind in KINDS:
            for number in range(CLIENTS_OF_A_KIND):
                tasks.create_task(client.run(kind, stopping), name=f"soak {kind} {number}")
        changing = tasks.create_task(_change(mesh, rng, report, changes, now_s), name="soak changes")
        while now_s() < seconds:
            for node, sidecar in mesh.sidecars.items():
                report.memory[node].append(checks.resident_bytes(sidecar))
            progress(report, now_s())
            await asyncio.sleep(1)
        changing.cancel()
        await _calm(mesh)
        stopping.set()


async def _calm(mesh: Mesh) -> None:
    """Nothing hangs any more."""
    for application in mesh.applications:
        await application.change(Mode.SOUND)


async def _change(mesh: Mesh, rng: Random, report: Report, log: Path, now_s: Callable[[], float]) -> None:
    frequent: list[Callable[[], Awaitable[str]]] = [
        mesh.change_application,
        mesh.change_application,
        mesh.change_weights,
        mesh.change_endpoints,
        mesh.change_cluster,
    ]
    seldom: list[Callable[[], Awaitable[str]]] = [
        mesh.replace_cluster,
        mesh.change_listener,
        mesh.restart_control_plane,
    ]
    rotate_at_s = 5.0
    with log.open("w", buffering=1) as lines:
        while True:
            await asyncio.sleep(CHANGE_EVERY_S)
            change = rng.choice(seldom if rng.random() < 0.1 else frequent)
            lines.write(f"{now_s():.1f} {await change()}\n")
            report.changes += 1
            if now_s() > rotate_at_s:
                rotate_at_s = now_s() + ROTATE_EVERY_S
                lines.write(f"{now_s():.1f} {mesh.certificates.rotate()}\n")


async def _judge(mesh: Mesh, report: Report) -> None:
    outcomes, violations = report.outcomes, report.violations
    failed = sum(outcomes.failed.values())
    if failed:
        violations.append(f"{failed} exchanges failed that policy should have saved: {outcomes.examples[0]}")
    violations += [f"no {kind} succeeded" for kind in KINDS if not outcomes.succeeded[kind]]
    violations += [f"a configuration was refused: {text}" for text in mesh.control_plane.rejections]
    for node, sidecar in mesh.sidecars.items():
        before = report.descriptors[node][0]
        left = await _until_quiet(lambda s=sidecar: checks.under_way(s))
        violations += [f"{node}: {name} is {value} in the end" for name, value in left.items()]
        more = await _until_quiet(
            lambda s=sidecar, b=before: max(0, checks.open_descriptors(s) - b - SPARE_DESCRIPTORS)
        )
        report.descriptors[node].append(checks.open_descriptors(sidecar))
        if more:
            violations.append(
                f"{node}: descriptors: {before} before, {report.descriptors[node][1]} in the end"
            )
        if checks.grows(report.memory[node]):
            megabytes = checks.growth(report.memory[node]) / 2**20
            violations.append(f"{node}: memory has grown by {megabytes:.1f} MB between quarters")
        violations += [f"{node}: log: {line}" for line in checks.complaints(sidecar)[:5]]


async def _until_quiet(measure: Callable[[], Any]) -> Any:
    """The measurement when it is empty or 0, or in the end."""
    end_s = time.monotonic() + QUIET_WITHIN_S
    while (measured := await asyncio.to_thread(measure)) and time.monotonic() < end_s:
        await asyncio.sleep(0.5)
    return measured
